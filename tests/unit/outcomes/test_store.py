"""The files of a store, and what only folders can go through; the rest is in ``test_store_conformance.py``."""

import io
import time
import tracemalloc
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lightning_memaudit.data.groups import Grouping
from lightning_memaudit.exceptions import ArgumentError, CorruptShardError, MissingDataError, StoreError
from lightning_memaudit.outcomes.examples import Examples
from lightning_memaudit.outcomes.shard import Shard, SplitScores, _content_digest
from lightning_memaudit.outcomes.store import OutcomeStore
from tests.helpers.forked import Forked, finished
from tests.helpers.stores import Damaging, fill, manifest, shard


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "store")


def file_of(store, model_id):
    return Path(store.url, "outcomes", "baseline", f"{model_id:06d}.npz")


@pytest.mark.parametrize("low_high", [(-1, 100), (-1, 1000), (-1, 2**31 - 1)])
@pytest.mark.parametrize("shares", [False, True])
def test_a_shard_comes_back_bit_for_bit(low_high, shares):
    base = shard(1, shares=shares)
    predictions = np.resize(np.array(low_high, dtype=np.int32), 21)
    base.splits["train"] = replace(base.splits["train"], prediction=predictions)
    back = Shard.from_bytes(base.to_bytes(), path="x")
    for name in ("model_id", "plan_digest", "mask_checksum", "seed", "wall_seconds"):
        assert getattr(back, name) == getattr(base, name)
    for split, scores in base.splits.items():
        for name in ("correct", "margin", "loss", "prediction"):
            ours, theirs = getattr(scores, name), getattr(back.splits[split], name)
            assert ours.dtype == theirs.dtype
            assert ours.tobytes() == theirs.tobytes()
    only = Shard.from_bytes(base.to_bytes(), path="x", fields=("correct",)).splits["train"]
    assert [len(only.correct), len(only.margin)] == [21, 0]


def test_fields_that_were_not_asked_for_cost_no_memory() -> None:
    n = 100_000
    columns = [np.zeros(n, dtype=np.float32) for _ in range(3)]
    scores = SplitScores(np.ones(n, dtype=bool), columns[0], columns[1], np.zeros(n, dtype=np.int32), columns[2])
    content = Shard(0, "plan", "mask", 0, 1.0, {"train": scores}).to_bytes()
    tracemalloc.start()
    kept = [Shard.from_bytes(content, path="x", fields=("correct",)) for _ in range(10)]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == 10
    assert held < 1.3 * 10 * n  # a byte an example and model, where 17 were held


def test_flipped_bytes_are_noticed_or_harmless():
    content = shard(1).to_bytes()
    good = Shard.from_bytes(content, path="x")
    rng = np.random.default_rng(0)
    noticed = 0
    for position in rng.choice(len(content), 200, replace=False):
        flipped = bytearray(content)
        flipped[position] ^= int(rng.integers(1, 256))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile and numpy may grumble on the way
            try:
                back = Shard.from_bytes(bytes(flipped), path="some/shard.npz")
            except CorruptShardError as error:
                noticed += "some/shard.npz" in str(error)
                continue
        for name in ("model_id", "plan_digest", "mask_checksum", "seed", "wall_seconds"):
            assert getattr(back, name) == getattr(good, name)
        for split in good.splits:
            for name in ("correct", "margin", "loss", "prediction"):
                ours, theirs = (getattr(s.splits[split], name) for s in (good, back))
                assert ours.tobytes() == theirs.tobytes()
    assert noticed > 120


RACER = """
import sys, time
from pathlib import Path
from lightning_memaudit import OutcomeStore
from lightning_memaudit.exceptions import MismatchError
from tests.helpers.stores import manifest
lr, url = float(sys.argv[1]), sys.argv[2]
Path(f"{url}-ready-{sys.argv[3]}").touch()
while not Path(f"{url}-go").exists():
    time.sleep(0.001)
try:
    OutcomeStore(url).open(manifest(optimisation={"lr": lr}))
except MismatchError:
    print("refused", flush=True)
else:
    print("opened", flush=True)
"""


def test_of_racing_creators_one_wins_and_the_others_compare(tmp_path):
    url = str(tmp_path / "race")
    racers = [Forked(RACER, lr, url, i) for i, lr in enumerate((0.1, 0.2, 0.1))]
    while len(list(tmp_path.glob("race-ready-*"))) < len(racers):
        assert [racer.poll() for racer in racers] == [None] * len(racers)
        time.sleep(0.001)
    (tmp_path / "race-go").touch()
    said = [racer.communicate()[0].strip() for racer in racers]
    winner = OutcomeStore(url).manifest.identity.optimisation["lr"]
    assert said == ["opened" if lr == winner else "refused" for lr in (0.1, 0.2, 0.1)]
    assert OutcomeStore(url).partial_writes() == []


FULL = """
import resource, signal, sys
from lightning_memaudit import OutcomeStore
from lightning_memaudit.exceptions import StoreError
from tests.helpers.stores import manifest, shard
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = OutcomeStore(sys.argv[1])
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (600, unlimited[1]))
said = []
for action in (lambda: store.write(shard(9)), lambda: store.write(shard(0)),
               lambda: OutcomeStore(sys.argv[1] + "-new").open(manifest())):
    try:
        action()
    except StoreError as error:
        said.append(str(error))
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
print(*said, sep=chr(10))
"""


def test_a_full_disk_is_one_message_and_loses_nothing(store):
    before = file_of(store, 0).read_bytes()
    lines = finished(FULL, store.url).splitlines()
    assert len(lines) == 3, lines
    assert all(store.url in line and "free some space and run again" in line and "is kept" in line for line in lines)
    assert store.verify() == store.partial_writes() == []
    assert store.model_ids() == [0, 1, 2, 3]
    assert file_of(store, 0).read_bytes() == before
    assert not OutcomeStore(store.url + "-new").exists


def test_a_place_that_cannot_hold_a_store(tmp_path, store):
    (tmp_path / "file").write_text("mine")
    for url in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArgumentError, match="file is a file where a folder is needed") as caught:
            OutcomeStore(url)
        assert f"store='{url}'" in str(caught.value)
    for url in ("", " ", None, 5, b"x"):
        with pytest.raises(ArgumentError, match=r"^store=.*: a folder or an fsspec URL is needed"):
            OutcomeStore(url)
    with pytest.raises(StoreError, match=r"store='/proc/memaudit'.*may be written to"):
        OutcomeStore("/proc/memaudit").open(manifest())
    assert (tmp_path / "file").read_text() == "mine"
    Path(store.url, "manifest.json").unlink()
    Path(store.url, "manifest.json").mkdir()
    with pytest.raises(StoreError, match=r"cannot read manifest\.json"):
        OutcomeStore(store.url).model_ids()
    with pytest.raises(ArgumentError, match="store='nowhere://x'"):
        OutcomeStore("nowhere://x")


def test_examples_come_back_as_they_were():
    examples = Examples(
        3,
        np.array([2, 0, 1]),
        {"race": Grouping(np.array([0, 1, 0]), ("ä", "(missing)"))},
        np.array([7, 7, 9]),
        np.array(["a text", "ß", ""]),
    )
    back = Examples.from_bytes(examples.to_bytes())
    for name in ("labels", "units", "previews"):
        np.testing.assert_array_equal(getattr(back, name), getattr(examples, name))
    assert back.groups["race"].names == ("ä", "(missing)")
    empty = Examples.from_bytes(Examples(2, None).to_bytes())
    assert (empty.labels, empty.units, empty.previews, empty.groups) == (None, None, None, {})
    assert zipfile.is_zipfile(io.BytesIO(examples.to_bytes()))


def test_a_shard_that_was_damaged_in_writing_is_found_when_it_is_read_back(tmp_path) -> None:
    fill(tmp_path / "sound").check(1)
    damaged = fill(Damaging(tmp_path / "damaged", arm="baseline"))
    with pytest.raises(CorruptShardError, match=r"baseline/000001\.npz is truncated or damaged"):
        damaged.check(1)
    with pytest.raises(MissingDataError, match="has no model 9 of arm"):
        damaged.check(9)


def test_shards_without_confidences_are_read(tmp_path) -> None:
    """Those of the version before."""
    content = shard(0).to_bytes()
    with np.load(io.BytesIO(content)) as file:
        arrays = {name: file[name] for name in file.files if not name.endswith("/confidence") and name != "digest"}
    old = io.BytesIO()
    np.savez(old, digest=np.array(_content_digest(arrays)), **arrays)
    read = Shard.from_bytes(old.getvalue(), path="old")
    assert np.isnan(read.splits["train"].confidence).all()
    assert read.splits["train"].confidence.shape == (21,)
    np.testing.assert_array_equal(read.splits["train"].margin, shard(0).splits["train"].margin)

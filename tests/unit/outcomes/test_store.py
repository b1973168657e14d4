import io
import json
import pickle
import time
import tracemalloc
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lightning_memaudit.data.groups import Grouping
from lightning_memaudit.data.plan import SubsetPlan, mask_checksum
from lightning_memaudit.exceptions import (
    ArgumentError,
    CorruptShardError,
    MismatchError,
    MissingDataError,
    StoreError,
)
from lightning_memaudit.outcomes.examples import Examples, label_digest
from lightning_memaudit.outcomes.manifest import Identity, Manifest
from lightning_memaudit.outcomes.scoring import SplitScores
from lightning_memaudit.outcomes.shard import Shard, _content_digest
from lightning_memaudit.outcomes.storage import Storage
from lightning_memaudit.outcomes.store import OutcomeStore
from tests.helpers.forked import Forked, finished

HERE = str(Path(__file__).parent)
PLAN = SubsetPlan(21, seed=3)
LABELS = {"train": np.arange(21) % 3, "test": np.arange(5) % 3}


def manifest(plan=PLAN, **aspects):
    data = {
        split: {"n_examples": len(labels), "labels": label_digest(labels), "inputs": "x"}
        for split, labels in LABELS.items()
    }
    described = {"model": {"class": "Net"}, "optimisation": {"lr": 0.1}, "scoring": {"score_fn": "f"}} | aspects
    return Manifest(Identity(plan=plan.to_dict(), data=data, **described), ("train", "test"))


def shard(model_id, plan=PLAN, *, shares=False, n_test=5):
    rng = np.random.default_rng(model_id)

    def scores(n):
        correct = rng.random(n).astype(np.float32) if shares else rng.random(n) < 0.5
        margin = rng.normal(size=n).astype(np.float32)
        margin[:2] = np.nan, -np.inf
        loss, confidence = rng.random((2, n)).astype(np.float32)
        return SplitScores(correct, margin, loss, rng.integers(-1, 3, n).astype(np.int32), confidence)

    checksum = mask_checksum(plan.mask(model_id))
    splits = {"train": scores(21), "test": scores(n_test)}
    return Shard(model_id, plan.digest, checksum, plan.model_seed(model_id), 1.5, splits)


def fill(url, ids=range(4)):
    store = OutcomeStore(url)
    store.open(manifest())
    for split, labels in LABELS.items():
        store.write_examples(split, Examples(len(labels), labels, {"g": Grouping(labels, ("a", "b", "c"))}))
    for model_id in ids:
        store.write(shard(model_id))
    return store


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "store")


def file_of(store, model_id):
    return Path(store.url, "outcomes", "baseline", f"{model_id:06d}.npz")


def assert_damaged(store, damaged):
    """Every face of the store names the damaged shards, and only them, as those to train again."""
    names = [f"outcomes/baseline/{k:06d}.npz" for k in damaged]
    assert [problem.path for problem in store.verify()] == names
    assert all(name[-10:] in problem.reason for name, problem in zip(names, store.verify(), strict=True))
    with pytest.warns(UserWarning, match="shard") as caught:
        assert store.missing(range(5)) == sorted({*damaged, 4})
    assert len(caught) == len(damaged)
    assert all(name[-10:] in str(warning.message) for name, warning in zip(names, caught, strict=True))
    with pytest.raises(StoreError, match=names[0][-10:]):
        store.load()


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


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_folders_and_urls_are_alike(tmp_path, scheme):
    url = f"{scheme}{tmp_path}/store"
    assert not OutcomeStore(url).exists
    with pytest.raises(MissingDataError, match="no audit is recorded there"):
        OutcomeStore(url).manifest  # noqa: B018
    fill(url)
    store = OutcomeStore(url)
    assert store.model_ids() == [0, 1, 2, 3]
    assert store.missing(range(6)) == [4, 5]
    assert store.treatments() == ["baseline"]
    assert store.verify() == store.partial_writes() == []
    assert store.bytes_on_disk() > 0
    loaded = store.load(split="test", fields=("loss",))
    assert loaded.loss.shape == (4, 5)
    assert loaded.margin.shape == (4, 0)
    np.testing.assert_array_equal(loaded.mask, PLAN.masks(range(4)))
    np.testing.assert_array_equal(loaded.labels, LABELS["test"])
    assert store.examples("train").groups["g"].names == ("a", "b", "c")
    store.write(shard(0, PLAN.complete()), treatment="full/baseline")
    assert store.treatments() == ["baseline", "full/baseline"]
    for missing in ({"split": "val"}, {"treatment": "dpsgd-eps3"}, {"model_ids": [9]}):
        with pytest.raises(MissingDataError):
            store.load(**missing)
    with pytest.raises(ArgumentError, match="margins"):
        store.load(fields=("margins",))
    storage = Storage(url)
    for name in ("a.tmp", "outcomes/full/baseline/b.tmp"):
        storage._write_partial(name, b"half")
    assert len(store.partial_writes()) == 2
    assert store.verify() == []
    store.remove_stale_partial_writes()
    assert len(store.partial_writes()) == 2  # young: a living writer's
    for folder in ("", "outcomes/full/baseline"):
        time.sleep(0.01)
        assert len(storage.remove_partial(folder, older_than=0)) == 1
    assert store.partial_writes() == []
    storage.clear()
    assert not OutcomeStore(url).exists


def test_model_numbers_beyond_six_digits_sort_as_numbers(store):
    for model_id in (1_000_000, 999_999, 12_345_678):
        store.write(shard(model_id))
    Path(store.url, "outcomes", "baseline", "1.npz").touch()  # not ours
    assert store.model_ids() == [0, 1, 2, 3, 999_999, 1_000_000, 12_345_678]


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.95, 0.999])
def test_a_truncated_shard_is_named_and_retrained(store, share):
    whole = file_of(store, 2).read_bytes()
    file_of(store, 2).write_bytes(whole[: int(share * len(whole))])
    assert_damaged(store, [2])
    store.write(shard(2))
    assert store.verify() == []


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


@pytest.mark.parametrize("member", ["train/margin", "train/correct", "meta"])
def test_an_array_exchanged_in_a_valid_zip_is_noticed(store, member):
    path = file_of(store, 1)
    arrays = dict(np.load(path))
    if member == "meta":
        arrays["meta"] = np.array(json.dumps(json.loads(str(arrays["meta"])) | {"wall_seconds": 0.0}))
    else:
        arrays[member] = arrays[member][::-1].copy() if member == "train/correct" else arrays[member] + 1
    np.savez(path, **arrays)
    assert_damaged(store, [1])
    assert "digest" in store.verify()[0].reason


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("raw", [False, True])
def test_a_pickle_inside_is_refused_and_never_loaded(store, tmp_path, raw):
    marker = tmp_path / "marker"
    path = file_of(store, 1)
    bomb = np.array([Bomb(str(marker))], dtype=object)
    if raw:
        path.write_bytes(pickle.dumps(Bomb(str(marker))))
    else:
        np.savez(path, **(dict(np.load(path)) | {"train/loss": bomb}))
    assert_damaged(store, [1])
    assert "pickle" in store.verify()[0].reason
    assert not marker.exists()


def test_shards_of_something_else_are_named_and_retrained(store):
    file_of(store, 3).replace(file_of(store, 2))
    store.write(shard(3))
    digests = manifest().digests
    other = replace(shard(1), mask_checksum="0" * 16, digests=digests)
    store.storage.write("outcomes/baseline/000001.npz", other.to_bytes())
    assert_damaged(store, [1, 2])
    reasons = [problem.reason for problem in store.verify()]
    assert "another subset" in reasons[0]
    assert "holds model 3" in reasons[1]


@pytest.mark.parametrize("aspect", ["plan", "data", "model", "optimisation", "scoring"])
def test_shards_of_other_settings_are_neither_mixed_nor_trained_over(store, aspect):
    """The manifest was removed, and made anew by a run with other settings."""
    Path(store.url, "manifest.json").unlink()
    changed = {
        "plan": lambda: manifest(SubsetPlan(21, seed=4)),
        "data": lambda: replace(manifest(), identity=replace(manifest().identity, data=other_inputs())),
    }.get(aspect, lambda: manifest(**{aspect: {"other": 1}}))()
    again = OutcomeStore(store.url)
    again.open(changed)
    for use in (again.model_ids, lambda: again.missing(range(5)), again.load):
        with pytest.raises(
            MismatchError, match=rf"000000\.npz was recorded under another {aspect}.*--store NEW"
        ) as caught:
            use()
        assert manifest().digests[aspect] in str(caught.value)
        assert changed.digests[aspect] in str(caught.value)
        assert caught.value.exit_code == 4
    assert len(again.verify()) == 4
    with pytest.raises(MismatchError, match=f"another {aspect}"):
        again.write(replace(shard(7), digests=manifest().digests))


def other_inputs():
    return {split: known | {"inputs": "y"} for split, known in manifest().identity.data.items()}


def test_has_looks_for_the_file_alone(store):
    assert store.has(3)
    assert not store.has(4)
    assert not store.has(3, "dpsgd-eps3")
    file_of(store, 3).write_bytes(b"damaged")
    assert store.has(3)
    Storage(store.url)._write_partial("outcomes/baseline/000004.npz.ab.tmp", b"half")
    assert not store.has(4)


def test_groups_that_are_recorded_later_are_merged(store):
    labels = LABELS["train"]
    more = {"g": Grouping(labels[::-1].copy(), ("x", "y", "z")), "h": Grouping(labels, ("p", "q", "r"))}
    store.write_examples("train", Examples(21, labels, {"h": more["h"]}))
    assert set(store.examples("train").groups) == {"g", "h"}
    store.write_examples("train", Examples(21, labels, {"g": more["g"]}))
    known = OutcomeStore(store.url).examples("train").groups
    assert {name: group.names for name, group in known.items()} == {"g": ("x", "y", "z"), "h": ("p", "q", "r")}
    assert known["g"].codes.tolist() == labels[::-1].tolist()
    Path(store.url, "examples", "train.npz").write_bytes(b"damaged")
    store.write_examples("train", Examples(21, labels, {"h": more["h"]}))
    assert set(store.examples("train").groups) == {"h"}


def test_a_shard_that_lacks_a_split_or_rows(store):
    whole = shard(1)
    for splits, match in [({"train": whole.splits["train"]}, "no split 'test'"), (shard(1, n_test=4).splits, "4 rows")]:
        with pytest.raises(CorruptShardError, match=match):
            store.write(replace(whole, splits=splits))
    with pytest.raises(MismatchError, match="recorded under another plan"):
        store.write(shard(1, SubsetPlan(21, seed=9)))


def test_damage_to_manifest_and_examples_is_named(store):
    path = Path(store.url, "manifest.json")
    whole = path.read_bytes()
    for content in (
        whole[:100],
        b"[]",
        whole.replace(b'"lr": 0.1', b'"lr": 0.2'),
        whole.replace(b'"seed": 3', b'"seed": 4'),
    ):
        path.write_bytes(content)
        assert [problem.path for problem in store.verify()] == ["manifest.json"]
        with pytest.raises(CorruptShardError, match=r"manifest\.json cannot be read"):
            OutcomeStore(store.url).model_ids()
    path.write_bytes(whole.replace(b'"schema": 1', b'"schema": 9'))
    with pytest.raises(MismatchError, match="schema 9"):
        OutcomeStore(store.url).model_ids()
    path.write_bytes(whole)
    examples = Path(store.url, "examples", "train.npz")
    other = Examples(21, LABELS["train"][::-1].copy())
    good = examples.read_bytes()
    for content in (good[:200], other.to_bytes(), good[:300] + b"\x00" * 9 + good[309:]):
        examples.write_bytes(content)
        assert [problem.path for problem in store.verify()] == ["examples/train.npz"]


def test_other_runs_are_refused_with_both_digests(store):
    for aspect, other in [("model", {"class": "Other"}), ("optimisation", {"lr": 0.2}), ("scoring", {"score_fn": "g"})]:
        ours, theirs = manifest(), manifest(**{aspect: other})
        with pytest.raises(MismatchError, match=f"another {aspect}.*--store NEW") as caught:
            OutcomeStore(store.url).open(theirs)
        assert ours.digests[aspect] in str(caught.value)
        assert theirs.digests[aspect] in str(caught.value)
    with pytest.raises(MismatchError, match=r"another plan.*seed: 3 there, 5 here"):
        store.open(manifest(SubsetPlan(21, seed=5)))
    store.open(replace(manifest(), executor="process", notes=("x",)))
    assert Manifest.from_json(manifest().to_json(), url="x") == manifest()


RACER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import test_store as t
from lightning_memaudit import OutcomeStore
lr, url = float(sys.argv[1]), sys.argv[2]
Path(f"{url}-ready-{sys.argv[4]}").touch()
while not Path(f"{url}-go").exists():
    time.sleep(0.001)
try:
    OutcomeStore(url).open(t.manifest(optimisation={"lr": lr}))
except t.MismatchError:
    print("refused", flush=True)
else:
    print("opened", flush=True)
"""


def test_of_racing_creators_one_wins_and_the_others_compare(tmp_path):
    url = str(tmp_path / "race")
    racers = [Forked(RACER, lr, url, HERE, i) for i, lr in enumerate((0.1, 0.2, 0.1))]
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
sys.path.insert(0, sys.argv[2])
import test_store as t
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = t.OutcomeStore(sys.argv[1])
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (600, unlimited[1]))
said = []
for action in (lambda: store.write(t.shard(9)), lambda: store.write(t.shard(0)),
               lambda: t.OutcomeStore(sys.argv[1] + "-new").open(t.manifest())):
    try:
        action()
    except t.StoreError as error:
        said.append(str(error))
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
print(*said, sep=chr(10))
"""


def test_a_full_disk_is_one_message_and_loses_nothing(store):
    before = file_of(store, 0).read_bytes()
    lines = finished(FULL, store.url, HERE).splitlines()
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

"""``memaudit run --shard`` and ``Audit.train(shard=)``: who trains what, what is said, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_memaudit import Audit, OutcomeStore
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.memorization import Reliable
from tests.helpers.tiny import TRAINER, TinyData, TinyNet


def tiny_audit(store: Path, **options) -> Audit:
    return Audit(TinyNet, TinyData, trainer=TRAINER, n_models=7, store=store, executor="sequential", **options)


def test_shards_one_after_the_other(run, memaudit, config):
    first = run("--config", config, "--shard", "1/3")
    assert (first.code, first.err) == (0, "")
    assert OutcomeStore("store").model_ids() == [1]
    assert "shard 1/3 is trained; the other shards still lack 3 of 4 models" in first.out
    assert "When all are done: memaudit report store" in first.out
    assert not Path("store/report").exists()
    run("--config", config, "--shard", "0/3")
    assert OutcomeStore("store").model_ids() == [0, 1, 3]
    last = run("--config", config, "--shard", "2/3")
    assert (last.code, last.err) == (0, "")
    assert "4 models, 24 training examples" in last.out
    assert Path("store/report/report.json").is_file()
    before = {path: path.read_bytes() for path in Path("store/outcomes/baseline").iterdir()}
    assert run("--config", config).code == 0
    assert {path: path.read_bytes() for path in Path("store/outcomes/baseline").iterdir()} == before
    assert memaudit("report", "store").code == 0


def test_a_shard_without_a_model_of_its_own(run, config):
    result = run("--config", config, "--shard", "5/8")
    assert (result.code, result.err) == (0, "")
    assert OutcomeStore("store").model_ids() == []
    assert "shard 5/8 is trained; the other shards still lack 4 of 4 models" in result.out


@pytest.mark.parametrize(
    "shard", ["4/4", "-1/4", "1", "a/b", "0/0", "1.0/2", "/2", "0/", "0/2/3", "٣/4", "1/-2", " ", "0 / 2"]
)
def test_bad_shards(run, config, shard):
    result = run("--config", config, f"--shard={shard}")
    assert result.code == 2
    assert f"--shard {shard}: i/n is needed, with i from 0 to n - 1" in result.err
    assert not Path("store").exists()


def test_dry_run_of_a_shard(run, config):
    result = run("--config", config, "--shard", "0/2", "--dry-run")
    assert "4 models on 24 examples, 4 still to train" in result.out
    assert "shard  0/2: about" in result.out
    assert not Path("store").exists()


@pytest.mark.parametrize(
    "shard", [(2, 2), (-1, 2), (0, 0), (0.0, 2), (True, 2), (0, True), (0,), (0, 1, 2), 3, "0/2", "02", ("0", "2")]
)
def test_bad_shards_in_python(shard, tmp_path):
    with pytest.raises(ArgumentError, match=r"shard=.*: two integers \(i, n\) are needed, with i from 0 to n - 1"):
        tiny_audit(tmp_path).train(shard=shard, progress=False)
    assert not OutcomeStore(tmp_path).exists


def test_a_shard_cannot_stop_early(tmp_path):
    with pytest.raises(ArgumentError, match=r"shard=\(0, 2\): one shard cannot tell when until= is met"):
        tiny_audit(tmp_path).train(shard=(0, 2), until=Reliable(looks=(5, 7)), progress=False)
    assert not OutcomeStore(tmp_path).exists


def test_the_bar_is_that_of_the_shard(tmp_path, capsys):
    tiny_audit(tmp_path).train(shard=(1, 3), progress=True)
    err = capsys.readouterr().err
    assert "models of shard 1/3: 100%" in err
    assert "2/2" in err


def test_all_shards_make_the_population(tmp_path):
    shared = tiny_audit(tmp_path / "shared")
    for i in (2, 0, 1):
        assert set(shared.missing()) >= {k for k in range(7) if k % 3 == i}
        shared.train(shard=(i, 3), progress=False)
    assert shared.missing() == []
    assert shared.missing(9) == [7, 8]
    whole = tiny_audit(tmp_path / "whole").train(shard=(0, 1), progress=False)
    assert whole.model_ids() == list(range(7))
    assert (whole.load().margin == shared.store.load().margin).all()


EXECUTOR = "lightning_memaudit.training.executors.{}"


def test_an_executor_with_options(run, write, base, audit):
    executor = {"class_path": EXECUTOR.format("Process"), "init_args": {"n_workers": 1, "engine": "trainer"}}
    write("all.yaml", base | {"audit": audit | {"executor": executor}})
    result = run("--config", "all.yaml")
    assert (result.code, result.err) == (0, "")
    manifest = OutcomeStore("store").manifest
    assert (manifest.executor, manifest.execution["engine"]) == ("process", "trainer")
    assert run("--config", "all.yaml", "--audit.executor", "sequential", "--n-models", "5").code == 0


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        (
            {"class_path": EXECUTOR.format("Process"), "init_args": {"n_workers": 0}},
            "n_workers=0: a whole number",
        ),
        ({"class_path": EXECUTOR.format("Process"), "init_args": {"engine": "warp"}}, "engine='warp': one of trainer"),
        ({"class_path": EXECUTOR.format("Process"), "init_args": {"workers": 2}}, "unexpected keyword argument"),
        ({"class_path": EXECUTOR.format("Warp")}, "has no attribute 'Warp'"),
        ({"class_path": "collections.OrderedDict"}, "executor=OrderedDict(): one of auto"),
        ({"name": "process"}, "audit.executor={'name': 'process'}: a mapping of class_path and init_args is needed"),
    ],
)
def test_bad_executors(run, write, base, audit, executor, message):
    write("all.yaml", base | {"audit": audit | {"executor": executor}})
    result = run("--config", "all.yaml")
    assert result.code == 2
    assert message in result.err
    assert not Path("store").exists()

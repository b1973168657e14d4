"""The main job through ``Audit``: real Trainer, real files."""

import json
import os
import re
import signal
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from lightning_memaudit import Audit, AuditReport, OutcomeStore
from lightning_memaudit.exceptions import (
    ArgumentError,
    ConfigurationError,
    MismatchError,
    MissingDataError,
    TrainingError,
)
from lightning_memaudit.functional.memorization import Reliable, Settled
from lightning_memaudit.testing import ConstantLearner, LookupProblem
from tests.helpers.forked import Forked, finished
from tests.helpers.tiny import TRAINER, TinyData, TinyNet

ONE_EPOCH = {"max_epochs": 1, "accelerator": "cpu"}


@pytest.fixture
def problem() -> LookupProblem:
    return LookupProblem.random(n_points=30, n_examples=120, n_classes=3, seed=1, label_noise=0.15, noise=0.1)


def lookup_audit(problem: LookupProblem, store: Path, **options) -> Audit:
    return Audit(problem.module, problem.datamodule, trainer=ONE_EPOCH, store=store, **options)


def test_the_estimate_converges_to_the_exact_memorization(problem: LookupProblem, tmp_path: Path) -> None:
    n_models = 240
    report = lookup_audit(problem, tmp_path, n_models=n_models).run(progress=False)
    exact = problem.exact_memorization(subset_fraction=0.7)
    result = report.memorization
    covered = (result.low <= exact) & (exact <= result.high)
    assert covered.mean() >= 0.93  # 120 dependent intervals of 95 %; the exact coverage is a test of its own
    assert np.abs(result.score - exact).max() < 4.5 * report.content["memorization"]["worst_case_standard_error"]
    assert np.corrcoef(result.score, exact)[0, 1] > 0.95


def test_topping_up_gives_the_same_outcomes_bit_for_bit(problem: LookupProblem, tmp_path: Path) -> None:
    grown = lookup_audit(problem, tmp_path / "grown", n_models=20)
    grown.train(progress=False)
    lookup_audit(problem, tmp_path / "grown", n_models=40).train(progress=False)
    lookup_audit(problem, tmp_path / "whole", n_models=40).train(progress=False)
    stores = [OutcomeStore(tmp_path / name) for name in ("grown", "whole")]
    for split in ("train", "test"):
        first, second = (store.load(split=split) for store in stores)
        assert len(first.model_ids) == 40
        for field in ("correct", "margin", "loss", "prediction", "mask"):
            assert np.array_equal(getattr(first, field), getattr(second, field))


def test_a_gradient_learner_is_bit_for_bit_the_same_in_any_order_and_under_any_global_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)  # of the tests before
    torch.manual_seed(1)
    Audit(TinyNet, TinyData, trainer=TRAINER, n_models=2, store=tmp_path / "a").train(progress=False)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    first = Audit(TinyNet, TinyData, trainer=TRAINER, n_models=5, store=tmp_path / "a").train(progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert "PL_GLOBAL_SEED" not in os.environ
    second = Audit(TinyNet, TinyData, trainer=TRAINER, n_models=5, store=tmp_path / "b").train(progress=False)
    for split in ("train", "val"):
        a, b = first.load(split=split), second.load(split=split)
        assert np.array_equal(a.labels, b.labels)
        assert np.array_equal(a.margin, b.margin)


def test_an_audit_in_another_process_sees_the_same_rows(tmp_path: Path) -> None:
    store = Audit(TinyNet, TinyData, trainer=TRAINER, n_models=2, store=tmp_path / "here").train(progress=False)
    code = f"""
        import torch; torch.manual_seed(99)
        from lightning_memaudit import Audit
        from tests.helpers.tiny import *
        Audit(TinyNet, TinyData, trainer=TRAINER, n_models=2, store={str(tmp_path / "there")!r}).train(progress=False)
    """
    finished(textwrap.dedent(code))
    other = OutcomeStore(tmp_path / "there")
    assert np.array_equal(store.load().labels, other.load().labels)
    assert np.array_equal(store.load().margin, other.load().margin)
    assert np.array_equal(store.load(split="val").margin, other.load(split="val").margin)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("plan", {"subset_fraction": 0.6}),
        ("plan", {"seed": 5}),
        ("data", {"data": lambda: TinyData(seed=3)}),
        ("model", {"model": lambda: TinyNet(width=9)}),
        ("optimisation", {"trainer": {**TRAINER, "max_epochs": 3}}),
        ("optimisation", {"trainer": {**TRAINER, "gradient_clip_val": 0.1}}),
        ("scoring", {"splits": ["train"]}),
    ],
)
def test_anything_else_is_refused_and_nothing_is_mixed(what: str, change: dict, tmp_path: Path) -> None:
    settings = {"model": TinyNet, "data": TinyData, "trainer": TRAINER, "n_models": 2, "store": tmp_path}
    Audit(**settings).train(progress=False)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.npz"))
    with pytest.raises(MismatchError, match=rf"another {what}: digest \w+ there, \w+ here .*--store NEW") as caught:
        Audit(**(settings | change)).train(4, progress=False)
    assert caught.value.exit_code == 4
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.rglob("*.npz")) == before


def test_bars_loggers_checkpoints_executor_and_number_of_models_may_change(tmp_path: Path) -> None:
    settings = {"model": TinyNet, "data": TinyData, "store": tmp_path}
    Audit(**settings, trainer=TRAINER, n_models=2).train(progress=False)
    loud = {
        **TRAINER,
        "logger": True,
        "enable_progress_bar": True,
        "callbacks": [ModelCheckpoint(), LearningRateMonitor()],
    }
    audit = Audit(**settings, trainer=loud, n_models=3, executor="sequential")
    assert len(audit.train(progress=True).model_ids()) == 3
    assert not list(tmp_path.rglob("*.ckpt"))


def test_what_was_left_out_of_the_trainer_is_reported(tmp_path: Path) -> None:
    trainer = {**TRAINER, "devices": 2, "callbacks": [ModelCheckpoint()]}
    report = Audit(TinyNet, TinyData, trainer=trainer, n_models=4, store=tmp_path).run(progress=False)
    notes = " ".join(report.content["memorization"]["notes"])
    assert "devices=2" in notes
    assert "ModelCheckpoint" in notes
    assert "ModelCheckpoint" in report.to_markdown()


def test_callbacks_are_fresh_for_each_model_and_validation_runs_for_those_that_monitor(tmp_path: Path) -> None:
    stopper = EarlyStopping("val_loss", patience=1, min_delta=100.0)
    audit = Audit(
        TinyNet, TinyData, trainer={**TRAINER, "max_epochs": 10, "callbacks": [stopper]}, n_models=3, store=tmp_path
    )
    store = audit.train(progress=False)
    assert stopper.wait_count == 0
    assert len(store.model_ids()) == 3


def test_a_damaged_shard_is_named_and_trained_again(tmp_path: Path) -> None:
    settings = {"model": TinyNet, "data": TinyData, "trainer": TRAINER, "n_models": 3, "store": tmp_path}
    store = Audit(**settings).train(progress=False)
    before = store.load()
    shard = tmp_path / "outcomes/baseline/000001.npz"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert [problem.path for problem in store.verify()] == ["outcomes/baseline/000001.npz"]
    others = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("0000*.npz") if path != shard}
    with pytest.warns(UserWarning, match=r"000001\.npz is truncated"):
        Audit(**settings).train(progress=False)
    assert store.verify() == []
    assert np.array_equal(store.load().margin, before.margin)
    assert all(path.stat().st_mtime_ns == changed for path, changed in others.items())


def test_a_model_that_does_not_fit_is_reported_as_not_fitted(problem: LookupProblem, tmp_path: Path) -> None:
    audit = Audit(
        lambda: ConstantLearner(problem.n_classes), problem.datamodule, trainer=ONE_EPOCH, n_models=20, store=tmp_path
    )
    report = audit.run(progress=False)
    assert report.content["memorization"]["fit"]["status"] == "not fitted"
    assert "NOT FITTED" in report.summary()
    assert "not fitted" in report.to_markdown()
    assert np.nanmax(np.abs(report.memorization.score)) == 0


def test_examples_without_an_arm_are_nan_and_counted(problem: LookupProblem, tmp_path: Path) -> None:
    report = lookup_audit(problem, tmp_path, n_models=3).run(progress=False)
    arms, result = report.content["memorization"]["arms"], report.memorization
    lonely = (result.n_in == 0) | (result.n_out == 0)
    assert lonely.sum() > 0
    assert np.isnan(result.score[lonely]).all()
    assert arms["n_never_in"] + arms["n_never_out"] == lonely.sum()
    assert arms["n_estimable"] == (~lonely).sum()
    assert arms["more_models"] > 0
    assert f"{arms['more_models']} more models" in report.to_markdown()


@pytest.mark.parametrize(
    "options",
    [
        {"design": "bernoulli"},
        {"design": "paired", "subset_fraction": 0.5},
        {"design": "stratified"},
        {"design": "canaries", "canaries": [3, 4, 5]},
        {"units": np.repeat(np.arange(40), 3)},
    ],
    ids=lambda options: str(options.get("design", "units")),
)
def test_every_design_runs_to_a_report(options: dict, problem: LookupProblem, tmp_path: Path) -> None:
    report = lookup_audit(problem, tmp_path, n_models=20, **options).run(progress=False)
    section = report.content["memorization"]
    assert section["status"] == "ok"
    if options.get("design") == "canaries":
        assert section["arms"]["n_always_in_by_design"] == 117
        assert np.isfinite(report.memorization.score).sum() == 3
    if "units" in options:
        assert section["unit_level"]
        mask = OutcomeStore(tmp_path).load().mask
        assert (mask.reshape(20, 40, 3).sum(axis=2) % 3 == 0).all()
    report.save(tmp_path / "out", formats=["json"])
    assert AuditReport.load(tmp_path / "out/report.json").content == report.content


def test_adaptive_stopping_saves_models_and_says_so(problem: LookupProblem, tmp_path: Path) -> None:
    audit = lookup_audit(problem, tmp_path, n_models=120)
    report = audit.run(until=Settled(share=0.5, looks=(40, 80, 120)), progress=False)
    section = report.content["memorization"]
    assert section["n_models"] < 120
    assert section["stopping"]["models_saved"] == 120 - section["n_models"]
    assert section["level"] > 0.95
    assert "saved" in report.to_markdown()
    again = audit.run(progress=False).content["memorization"]
    assert again["n_models"] == 120
    other = lookup_audit(problem, tmp_path / "r", n_models=60).run(
        until=Reliable(target=0.5, looks=(20, 60)), progress=False
    )
    assert other.content["memorization"]["n_models"] == 20


def test_instances_need_init_and_are_never_reset_in_silence(tmp_path: Path) -> None:
    model = TinyNet()
    with torch.no_grad():
        model.net[0].weight.fill_(0.25)  # "pretrained"
    frozen = {"max_epochs": 1, "accelerator": "cpu", "limit_train_batches": 1}
    with pytest.raises(ArgumentError, match=r"init=None.*'rebuild'.*'copy'"):
        Audit(model, TinyData, trainer=frozen, store=tmp_path)
    seen = []

    class Spy(TinyNet):
        def on_train_start(self):
            seen.append(self.net[0].weight.detach().clone())

    spy = Spy()
    spy.load_state_dict(model.state_dict())
    Audit(spy, TinyData, init="copy", trainer=frozen, n_models=2, store=tmp_path / "copy").train(progress=False)
    assert all(torch.equal(weight, model.net[0].weight) for weight in seen)
    assert torch.equal(spy.net[0].weight, model.net[0].weight)
    Audit(spy, TinyData, init="rebuild", trainer=frozen, n_models=2, store=tmp_path / "anew").train(progress=False)
    assert not torch.equal(seen[-1], model.net[0].weight)
    spy.net[0].weight.data += 1
    with pytest.raises(MismatchError, match="another model"):
        Audit(spy, TinyData, init="copy", trainer=frozen, n_models=2, store=tmp_path / "copy").train(progress=False)


def test_models_that_cannot_start_afresh_are_refused(tmp_path: Path) -> None:
    shared = TinyNet()
    with pytest.raises(ConfigurationError, match="same module"):
        Audit(lambda: shared, TinyData, trainer=TRAINER, store=tmp_path).train(progress=False)

    class Forgetful(TinyNet):
        def __init__(self, features: int) -> None:
            super(TinyNet, self).__init__()
            self.net = torch.nn.Linear(features, 3)

    with pytest.raises(ConfigurationError, match="save_hyperparameters"):
        Audit(Forgetful(4), TinyData, init="rebuild", trainer=TRAINER, store=tmp_path)
    assert not OutcomeStore(tmp_path).exists


def test_an_error_in_the_users_code_is_one_message_and_keeps_what_is_stored(tmp_path: Path) -> None:
    class Fails(TinyNet):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("my bug")

    with pytest.raises(TrainingError, match=r"model 0 failed in your code: RuntimeError: my bug"):
        Audit(Fails, TinyData, trainer=TRAINER, n_models=2, store=tmp_path).train(progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_models": 1}, "n_models=1"),
        ({"n_models": True}, "n_models=True"),
        ({"subset_fraction": 1.0}, r"subset_fraction=1\.0"),
        ({"subset_fraction": 0.0}, r"subset_fraction=0\.0"),
        ({"design": "random"}, "design='random'"),
        ({"design": "paired"}, "subset_fraction=0.7: 0.5 is needed"),
        ({"design": "canaries"}, "canaries"),
        ({"executor": "warp"}, "executor='warp'"),
        ({"score_fn": "regression"}, "score_fn='regression'"),
        ({"trainer": {"fast_dev_run": True}}, "fast_dev_run"),
        ({"trainer": 3}, "trainer=3"),
        ({"trainer": {"max_epoch": 3}}, "max_epoch"),
        ({"units": "patient"}, "units='patient'"),
        ({"units": [1, 2]}, r"units=int64\[2\]: one integer for each of the 40 examples"),
        ({"splits": ["train", "test"]}, "has no 'test'"),
        ({"groups": {"race": "race"}}, r"groups\['race'\]"),
        ({"model": 3}, "model=3"),
        ({"data": 3}, "LightningDataModule"),
    ],
)
def test_bad_arguments_are_named(options: dict, message: str, tmp_path: Path) -> None:
    settings = {"model": TinyNet, "data": TinyData, "trainer": TRAINER, "n_models": 2, "store": tmp_path} | options
    with pytest.raises(ArgumentError, match=message):
        Audit(**settings).train(progress=False)
    assert not list(tmp_path.rglob("*.npz"))


def test_reports_need_models(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no audit is recorded"):
        AuditReport.from_store(OutcomeStore(tmp_path))
    with pytest.raises(MissingDataError, match="no such file"):
        AuditReport.load(tmp_path / "report.json")


def test_estimates_record_nothing(tmp_path: Path) -> None:
    audit = Audit(TinyNet, TinyData, trainer={**TRAINER, "max_epochs": 40}, n_models=7, store=tmp_path / "new")
    estimate = audit.estimate()
    assert not (tmp_path / "new").exists()
    assert estimate.n_missing == 7
    assert estimate.seconds == pytest.approx(7 * estimate.seconds_per_model)
    audit.train(progress=False)
    size = audit.store.bytes_on_disk()
    assert 0.2 * size < estimate.bytes_on_disk < 5 * size
    assert audit.estimate(9).n_missing == 2


@pytest.mark.parametrize("moment", ["training", "between"])
def test_ctrl_c_keeps_every_finished_model(moment: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import time
        from lightning_memaudit import Audit
        from tests.helpers.tiny import *
        class Slow(TinyNet):
            def training_step(self, batch, batch_idx):
                time.sleep({0.05 if moment == "training" else 0.0})
                return super().training_step(batch, batch_idx)
        Audit(Slow, TinyData, trainer=TRAINER, n_models=400, store="store").run()
    """)
    )
    process = Forked(script, cwd=tmp_path)
    shards = tmp_path / "store/outcomes/baseline"
    while process.poll() is None and len(list(shards.glob("*.npz"))) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert "KeyboardInterrupt" in errors
    assert "models are stored in store; run again to go on" in errors
    store = OutcomeStore(tmp_path / "store")
    assert store.verify() == []
    assert 2 <= len(store.model_ids()) < 400
    assert store.partial_writes() == []


def test_the_report_is_json_without_nan_and_markdown_shows_only_its_numbers(
    problem: LookupProblem, tmp_path: Path
) -> None:
    report = lookup_audit(
        problem, tmp_path, n_models=12, groups={"parity": {"train": np.arange(120) % 2, "test": np.zeros(30)}}
    )
    report = report.run(progress=False)
    content = json.loads(report.to_json())
    assert [
        section
        for section in ("memorization", "membership", "impact", "long_tail", "dynamics")
        if section not in content
    ] == []
    assert all(content[section]["status"] in ("ok", "unavailable") for section in ("membership", "impact"))
    assert {row["group"] for row in content["memorization"]["by_group"]["parity"]} == {"0", "1"}
    assert not re.search(r"\bnan\b", report.to_markdown(), re.IGNORECASE)

"""What users do to an audit besides running it once as planned."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping

from lightning_memaudit import Audit, OutcomeStore
from lightning_memaudit.exceptions import ArgumentError, TrainingError, UnsupportedDataError
from lightning_memaudit.functional.memorization import Reliable, Settled
from lightning_memaudit.outcomes.scoring import ExampleScores, multiclass_scores
from lightning_memaudit.testing import LookupProblem
from lightning_memaudit.training.population import silenced
from tests.helpers.tiny import TRAINER, TinyData, TinyNet

ONE_EPOCH = {"max_epochs": 1, "accelerator": "cpu"}


@pytest.fixture
def problem() -> LookupProblem:
    return LookupProblem.random(n_points=20, n_examples=60, n_classes=3, seed=1, noise=0.1)


def tiny_audit(store: Path, **options) -> Audit:
    settings = {"model": TinyNet, "data": TinyData, "trainer": TRAINER, "n_models": 4, "store": store}
    return Audit(**(settings | options))


@pytest.mark.parametrize("groups", ["race", ["race"]])
def test_groups_must_be_a_mapping(groups, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"groups=.*a mapping"):
        tiny_audit(tmp_path, groups=groups)


def test_the_training_split_must_be_scored(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="'train' must be among them"):
        tiny_audit(tmp_path, splits=["val"])


@pytest.mark.parametrize(
    ("until", "message"),
    [
        ("settled", "until='settled'"),
        (Reliable(looks=(2, 10)), r"looks=\(2, 3\): the first look needs 4 models"),
        (Settled(looks=(50,)), r"looks=\(3,\): the first look needs 4 models"),
    ],
)
def test_a_stopping_rule_is_checked_before_anything_is_trained(until, message, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        tiny_audit(tmp_path, n_models=3).train(until=until, progress=False)
    assert not OutcomeStore(tmp_path).exists


def test_counts_may_be_numpy_integers_and_not_floats(tmp_path: Path) -> None:
    assert tiny_audit(tmp_path, n_models=np.int64(3)).n_models == 3
    with pytest.raises(ArgumentError, match=r"n_models=10\.0: an integer"):
        tiny_audit(tmp_path, n_models=10.0)


def test_units_with_missing_values_are_refused(tmp_path: Path) -> None:
    class Patients(TinyData):
        def setup(self, stage=None):
            super().setup(stage)
            self.train.dataset.patient = [None] * 12 + list(range(48))

    with pytest.raises(ArgumentError, match=r"units='patient': \d+ rows have no value"):
        tiny_audit(tmp_path, data=Patients, units="patient").train(progress=False)


def test_subsets_left_empty_by_coins_are_passed_over(tmp_path: Path) -> None:
    problem = LookupProblem(points=np.arange(3), labels=np.array([1, 1, 2]), n_classes=3)
    audit = Audit(
        problem.module,
        problem.datamodule,
        design="bernoulli",
        subset_fraction=0.2,
        n_models=12,
        trainer=ONE_EPOCH,
        store=tmp_path,
    )
    ids = audit.train(progress=False).model_ids()
    assert ids == [k for k in range(12) if audit.plan.mask(k).any()]
    assert 0 < len(ids) < 12


def test_a_trainer_that_is_used_again_is_refused(tmp_path: Path) -> None:
    with silenced():
        trainer = Trainer(**TRAINER, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(ArgumentError, match="used before"):
        tiny_audit(tmp_path, trainer=lambda: trainer).train(progress=False)


def test_training_without_an_end_of_its_own_is_audited_and_estimated(tmp_path: Path) -> None:
    trainer = {
        "max_epochs": -1,
        "accelerator": "cpu",
        "callbacks": [EarlyStopping("val_loss", patience=1, min_delta=9.0)],
    }
    audit = tiny_audit(tmp_path, trainer=trainer)
    assert "lower bound" in audit.estimate().basis
    assert len(audit.train(progress=False).model_ids()) == 4
    with pytest.raises(ArgumentError, match="max_time"):
        tiny_audit(tmp_path, trainer={"max_time": "00:00:01:00"})


def test_estimates_count_batches_not_optimizer_steps(tmp_path: Path) -> None:
    audit = tiny_audit(tmp_path, trainer={**TRAINER, "max_epochs": 50, "accumulate_grad_batches": 2})
    assert "of 100 training batches" in audit.estimate().basis  # 28 rows, batches of 16: two an epoch


def test_exit_in_the_users_code_is_no_interrupt(tmp_path: Path) -> None:
    class Exits(TinyNet):
        def training_step(self, batch, batch_idx):
            sys.exit(3)

    with pytest.raises(TrainingError, match=r"sys\.exit\(3\)"):
        tiny_audit(tmp_path, model=Exits).train(progress=False)


def test_a_stopping_record_speaks_only_of_its_own_population(problem: LookupProblem, tmp_path: Path) -> None:
    audit = Audit(problem.module, problem.datamodule, n_models=12, trainer=ONE_EPOCH, store=tmp_path)
    rule = Reliable(target=0.01, looks=(5, 8, 12))
    first = audit.run(until=rule, progress=False)
    assert first.content["memorization"]["stopping"]["is_current"]
    assert first.content["memorization"]["stopping"]["declared_beforehand"]
    assert "7 saved" in first.to_markdown()
    grown = audit.run(n_models=10, progress=False)
    assert not grown.content["memorization"]["stopping"]["is_current"]
    assert "saved" not in grown.to_markdown()
    assert "applied at 5 models; there are 10 now" in grown.to_markdown()
    assert audit.run(until=rule, progress=False).content["memorization"]["stopping"]["declared_beforehand"]
    changed = audit.run(until=Reliable(target=0.02, looks=(6, 12)), progress=False)
    assert not changed.content["memorization"]["stopping"]["declared_beforehand"]
    assert "chosen or changed when models had been seen" in changed.to_markdown()


def test_diverged_models_are_counted_and_other_predictions_are_not(tmp_path: Path) -> None:
    class Diverges(TinyNet):
        def forward(self, x):
            return super().forward(x) * (float("nan") if self.trainer.datamodule.model_id == 1 else 1.0)

    report = tiny_audit(tmp_path / "a", model=Diverges).run(progress=False)
    assert report.content["memorization"]["n_diverged_models"] == 1
    assert "1 model diverged" in report.to_markdown().replace("**", "")
    assert "1 model diverged" in report.summary()

    def without_prediction(pl_module, batch) -> ExampleScores:
        scores = multiclass_scores(pl_module(batch[0]), batch[1])
        return ExampleScores(scores.correct, scores.margin, scores.loss, torch.full_like(scores.prediction, -1))

    report = tiny_audit(tmp_path / "b", score_fn=without_prediction).run(progress=False)
    assert report.content["memorization"]["n_diverged_models"] == 0


def test_models_that_another_process_recorded_meanwhile_are_not_trained_again(tmp_path: Path) -> None:
    trained = []

    class Together(TinyNet):
        def on_fit_start(self):
            model_id = self.trainer.datamodule.model_id
            trained.append(model_id)
            if (
                len(trained) == 7
            ):  # five in store a, then the probe of b, then model 0: "the other process" does the rest
                for k in (1, 2, 3):
                    name = f"outcomes/baseline/00000{k}.npz"
                    OutcomeStore(tmp_path / "b").storage.write(name, OutcomeStore(tmp_path / "a").storage.read(name))

    tiny_audit(tmp_path / "a", model=Together, executor="trainer").train(progress=False)
    assert trained == [0, 0, 1, 2, 3]
    store = tiny_audit(tmp_path / "b", model=Together, executor="trainer").train(progress=False)
    assert trained[5:] == [0, 0]
    assert store.missing(range(4)) == []


def test_other_groups_join_the_earlier_ones(tmp_path: Path) -> None:
    halves = {"train": np.arange(40) % 2, "val": np.arange(20) % 2}
    thirds = {"train": np.arange(40) % 3, "val": np.arange(20) % 3}
    tiny_audit(tmp_path, groups={"half": halves}).train(progress=False)
    report = tiny_audit(tmp_path, groups={"third": thirds}).run(progress=False)
    assert set(report.content["memorization"]["by_group"]) == {"half", "third"}


def test_shares_are_of_the_examples_that_have_a_score(tmp_path: Path) -> None:
    report = tiny_audit(tmp_path, n_models=3, subset_fraction=0.97).run(progress=False)
    n = report.content["memorization"]["arms"]["n_estimable"]
    assert 0 < n < 40
    assert f"Only {n} of them" in report.summary()
    assert f"{40 - n} of 40 examples have no score yet" in report.to_markdown()
    assert "fewer than 20 models" in report.to_markdown()


def test_a_wrong_score_function_shows_before_training(tmp_path: Path) -> None:
    steps = []

    class Counts(TinyNet):
        def training_step(self, batch, batch_idx):
            steps.append(batch_idx)
            return super().training_step(batch, batch_idx)

    with pytest.raises(UnsupportedDataError, match="score_fn='binary' needs"):
        tiny_audit(tmp_path, model=Counts, score_fn="binary").train(progress=False)
    assert steps == [0]

"""Treatments through ``Audit``: real Trainers, real files, the models that they are made from."""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch import nn

from lightning_memaudit import Audit, OutcomeStore, SubsetDataModule
from lightning_memaudit.callbacks.differential_privacy import DifferentialPrivacy
from lightning_memaudit.data.randomness import preserved_randomness
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError, MismatchError, TrainingError
from lightning_memaudit.functional.memorization import Settled
from lightning_memaudit.outcomes.shard import Shard
from lightning_memaudit.outcomes.storage import Storage
from lightning_memaudit.training.executors import Process
from lightning_memaudit.treatments import DPSGD, ClipOnly, Prune, Quantize, Regime, Treatment
from tests.helpers import zoo
from tests.helpers.shared import once

FIELDS = ("correct", "margin", "loss", "prediction", "confidence")
TRAINER = {"max_epochs": 2, "accelerator": "cpu"}
QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
PRIVATE = DPSGD(target_epsilon=8.0, target_delta=1e-2)
ALL_KINDS = (Prune(0.5), Quantize(), ClipOnly(lr=0.05), PRIVATE)
N_MODELS = 3


class Watched(zoo.Net):
    """Writes down which models are trained to their end, and from which initial weights."""

    trained: ClassVar[Counter[int]] = Counter()
    initial: ClassVar[dict[int, set[float]]] = {}

    def on_fit_start(self) -> None:
        digest = float(self.net[0].weight.detach().sum())
        self.initial.setdefault(self.trainer.datamodule.model_id, set()).add(digest)

    def on_train_epoch_end(self) -> None:
        if self.current_epoch + 1 == self.trainer.max_epochs:
            self.trained[self.trainer.datamodule.model_id] += 1


@pytest.fixture(autouse=True)
def forget() -> None:
    Watched.trained, Watched.initial = Counter(), {}


@dataclass(frozen=True)
class Untouched(Treatment):
    name: str = "untouched"


@dataclass(frozen=True)
class Anew(Treatment):
    """Trained as the baseline is."""

    name: str = "anew"
    trains: bool = True
    starts_trained: bool = False


def audit(store: Any, *treatments: Treatment, **options: Any) -> Audit:
    settings = {
        "model": Watched,
        "data": zoo.Data,
        "trainer": TRAINER,
        "n_models": N_MODELS,
        "n_treated_models": 2,
        "executor": "trainer",
    }
    return Audit(**settings | options, store=store, treatments=treatments)


def train(store: Any, *treatments: Treatment, **options: Any) -> OutcomeStore:
    return audit(store, *treatments, **options).train(progress=False)


def same(store: OutcomeStore, arm: str, other: OutcomeStore, other_arm: str, ids: Any = None, **tolerance: Any) -> None:
    for split in store.splits():
        ours, theirs = store.load(arm, split, model_ids=ids), other.load(other_arm, split, model_ids=ids)
        for name in ("model_ids", "mask", *FIELDS):
            a, b = getattr(ours, name), getattr(theirs, name)
            if tolerance and a.dtype.kind == "f":
                np.testing.assert_allclose(a, b, **tolerance)
            else:
                np.testing.assert_array_equal(a, b, strict=True)


def arms_of(store: OutcomeStore) -> dict[str, list[int]]:
    return {name: store.model_ids(name) for name in store.treatments()}


def weights_of(store: OutcomeStore) -> list[str]:
    root = Path(store.url)
    return sorted(str(path.relative_to(root)) for path in root.glob("weights/**/*.pt"))


def by_hand(plan: Any, model_id: int, model: Any = zoo.Net, *callbacks: Callback) -> Any:
    """Model ``model_id`` of an audit, from nothing but Lightning."""
    with preserved_randomness():
        datamodule = SubsetDataModule(zoo.Data(), plan, model_id)
        seed_everything(plan.model_seed(model_id), verbose=False)
        module = model()
        Trainer(**TRAINER, **QUIET, callbacks=list(callbacks)).fit(module, datamodule=datamodule)
    return module


def predictions(module: Any) -> np.ndarray:
    with torch.no_grad():
        return module.eval()(zoo.examples()[0]).argmax(1).numpy()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: Any) -> OutcomeStore:
    """An audit with arms of all kinds, trained in one go."""
    return OutcomeStore(once(tmp_path_factory, "all kinds of arms", lambda at: train(at, *ALL_KINDS, model=zoo.Net)))


@pytest.fixture(scope="module")
def untreated(tmp_path_factory: Any) -> OutcomeStore:
    return OutcomeStore(once(tmp_path_factory, "no arms", lambda at: train(at, model=zoo.Net)))


# What an arm is


def test_each_arm_has_the_subsets_and_seeds_of_the_first_baseline_models(whole: OutcomeStore) -> None:
    assert arms_of(whole) == {"baseline": [0, 1, 2]} | {treatment.name: [0, 1] for treatment in ALL_KINDS}
    for arm in arms_of(whole):
        np.testing.assert_array_equal(whole.load(arm).mask, whole.plan.masks(whole.model_ids(arm)))
        for k in (0, 1):
            path = f"outcomes/{arm}/{k:06d}.npz"
            shard, base = (
                Shard.from_bytes(whole.storage.read(name), path=name)
                for name in (path, f"outcomes/baseline/{k:06d}.npz")
            )
            assert (shard.seed, shard.mask_checksum) == (base.seed, base.mask_checksum)
    assert whole.verify() == []


def test_models_that_are_trained_anew_start_from_the_weights_of_the_baseline_model(tmp_path: Path) -> None:
    train(tmp_path, ClipOnly(), PRIVATE, Prune(0.5))
    assert Watched.trained == {0: 3, 1: 3, 2: 1}
    assert {k: len(starts) for k, starts in Watched.initial.items()} == {0: 1, 1: 1, 2: 1}


def test_pruned_and_quantized_models_are_those_of_the_trainer_s_own_module(whole: OutcomeStore) -> None:
    for k in (0, 1):
        module = by_hand(whole.plan, k)
        before = copy.deepcopy(module.state_dict())
        for treatment in (Prune(0.5), Quantize()):
            stored = whole.load(treatment.name, model_ids=[k])
            assert stored.made_from == ("baseline",)
            np.testing.assert_array_equal(stored.prediction[0], predictions(treatment.transform(module)))
        np.testing.assert_array_equal(whole.load(model_ids=[k]).prediction[0], predictions(module))
        assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_what_transforms_trained_models_trains_nothing(tmp_path: Path) -> None:
    store = train(tmp_path, Prune(0.5), Prune(0.9), Quantize(), Untouched())
    assert Watched.trained == {0: 1, 1: 1, 2: 1}
    same(store, "untouched", store, "baseline", [0, 1])


def test_arms_leave_the_baseline_as_it_is(whole: OutcomeStore, untreated: OutcomeStore) -> None:
    same(whole, "baseline", untreated, "baseline")
    assert whole.manifest.identity == untreated.manifest.identity
    assert whole.manifest.digests == untreated.manifest.digests


def test_weights_are_gone_when_the_arms_are_done(whole: OutcomeStore, untreated: OutcomeStore) -> None:
    assert weights_of(whole) == weights_of(untreated) == []


# What comes later


def test_one_that_is_added_trains_only_its_own_arm(tmp_path: Path, whole: OutcomeStore) -> None:
    store = train(tmp_path, Prune(0.5))
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz") if path.parent.parent.name == "outcomes"}
    Watched.trained.clear()
    train(tmp_path, Prune(0.5), ClipOnly(lr=0.05))
    assert Watched.trained == {0: 1, 1: 1}
    Watched.trained.clear()
    train(tmp_path, Quantize(), ClipOnly(lr=0.05))  # with no weights left
    assert Watched.trained == {0: 1, 1: 1}
    assert arms_of(store)["rebuilt"] == [0, 1]
    assert store.load("quantize-int8").made_from == ("rebuilt", "rebuilt")
    assert store.load("prune-0.5").made_from == ("baseline", "baseline")
    same(store, "rebuilt", store, "baseline", [0, 1])  # no flips on one machine
    for arm in ("quantize-int8", "clip-only", "prune-0.5"):
        np.testing.assert_array_equal(store.load(arm).prediction, whole.load(arm).prediction)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert weights_of(store) == []


def test_flips_of_rebuilt_models_can_be_counted(tmp_path: Path) -> None:
    store = train(tmp_path)
    path = "outcomes/baseline/000001.npz"  # as another machine might have trained it
    shard = Shard.from_bytes(store.storage.read(path), path=path)
    flipped = {}
    for split, scores in shard.splits.items():
        correct = scores.correct.copy()
        correct[:3] = ~correct[:3]
        flipped[split] = replace(scores, correct=correct)
    store.write(replace(shard, splits=flipped))
    train(tmp_path, Prune(0.5))
    flips = (store.load("rebuilt").correct != store.load(model_ids=[0, 1]).correct).sum(axis=1)
    assert flips.tolist() == [0, 3]


def test_with_kept_weights_nothing_is_rebuilt(tmp_path: Path) -> None:
    store = train(tmp_path, keep_weights=True)
    assert weights_of(store) == [f"weights/baseline/{k:06d}.pt" for k in range(N_MODELS)]
    Watched.trained.clear()
    train(tmp_path, Prune(0.5), keep_weights=True)
    assert Watched.trained == {}
    assert "rebuilt" not in store.treatments()
    assert len(weights_of(store)) == N_MODELS
    train(tmp_path, Prune(0.5), Quantize())
    assert store.load("quantize-int8").made_from == ("baseline", "baseline")
    assert weights_of(store) == ["weights/baseline/000002.pt"]


def test_an_arm_grows_with_n_treated_models(tmp_path: Path) -> None:
    store = train(tmp_path, Prune(0.5), ClipOnly(), n_treated_models=1)
    Watched.trained.clear()
    train(tmp_path, Prune(0.5), ClipOnly(), n_treated_models=3)
    assert Watched.trained == {1: 2, 2: 2}  # rebuilt, and clipped
    assert store.load("prune-0.5").made_from == ("baseline", "rebuilt", "rebuilt")


def test_models_without_a_baseline_are_not_treated(tmp_path: Path) -> None:
    store = train(tmp_path / "few", ClipOnly(), n_models=2, n_treated_models=50)
    assert arms_of(store) == {"baseline": [0, 1], "clip-only": [0, 1]}
    stopped = audit(tmp_path / "stopped", Prune(0.5), n_models=9, n_treated_models=50, executor="sequential")
    store = stopped.train(until=Settled(looks=(8,), threshold=-0.99, share=0.01), progress=False)
    assert arms_of(store) == {"baseline": list(range(8)), "prune-0.5": list(range(8))}


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (Prune(0.6, name="prune-0.5"), r"treatment\.amount: 0\.5 there, 0\.6 here"),
        (Prune(0.5, scope="layer"), r"treatment\.scope: 'global' there, 'layer' here"),
        (ClipOnly(name="prune-0.5"), r"treatment\.amount: 0\.5 there, None here; treatment\.class: .*prune\.Prune'"),
    ],
)
def test_another_treatment_of_the_same_name_is_refused(tmp_path: Path, other: Treatment, named: str) -> None:
    store = train(tmp_path, Prune(0.5))
    before = arms_of(store)
    with pytest.raises(MismatchError, match=rf"an arm 'prune-0\.5' of another treatment \({named}") as caught:
        train(tmp_path, other, n_models=5)
    assert caught.value.exit_code == 4
    assert arms_of(store) == before  # it is said before anything is trained


# Interruptions


class Interrupted:
    """Ctrl-C just before the n-th change to the store, or just after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.changes, self.at, self.after = 0, -1, False
        for name in ("write", "create", "remove"):
            monkeypatch.setattr(Storage, name, self._counted(getattr(Storage, name)))

    def _counted(self, method: Any) -> Any:
        def counted(storage: Storage, *arguments: Any) -> Any:
            mine = self.changes == self.at
            self.changes += 1
            if mine and not self.after:
                raise KeyboardInterrupt
            done = method(storage, *arguments)
            if mine:
                raise KeyboardInterrupt
            return done

        return counted


def test_an_interruption_at_any_point_costs_only_what_was_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"n_models": 2, "trainer": TRAINER | {"max_epochs": 1}}
    interrupted = Interrupted(monkeypatch)
    reference = train(tmp_path / "whole", Prune(0.5), Anew(), **settings)
    n_changes, n_trained = interrupted.changes, Watched.trained.total()
    for at in range(0, n_changes, 2):
        Watched.trained.clear()
        interrupted.changes, interrupted.at, interrupted.after = 0, at, bool(at // 2 % 2)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / str(at), Prune(0.5), Anew(), **settings)
        interrupted.at = -1
        stored = arms_of(OutcomeStore(tmp_path / str(at)))
        lost = Watched.trained.total() - sum(len(stored.get(arm, ())) for arm in ("baseline", "anew"))
        store = train(tmp_path / str(at), Prune(0.5), Anew(), **settings)
        assert 0 <= lost <= 1
        assert Watched.trained.total() == n_trained + lost
        assert arms_of(store) == arms_of(reference)
        assert weights_of(store) == []
        for arm in store.treatments():
            same(store, arm, reference, arm)
    assert n_changes > 20


def test_an_interruption_while_a_rebuilt_model_waits_for_its_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, n_models=2)
    Watched.trained.clear()
    transform = Prune.transform
    monkeypatch.setattr(
        Prune, "transform", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt) if Watched.trained else _[1]
    )
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Prune(0.5), n_models=2)
    assert Watched.trained == {0: 1, 1: 1}
    monkeypatch.setattr(Prune, "transform", transform)
    store = train(tmp_path, Prune(0.5), n_models=2)
    assert Watched.trained == {0: 1, 1: 1}
    assert store.load("prune-0.5").made_from == ("rebuilt", "rebuilt")
    assert weights_of(store) == []


# Executors, shards, all data


@pytest.mark.parametrize(
    "executor",
    ["sequential", "ensemble", "auto", Process(n_workers=2)],
    ids=["sequential", "ensemble", "auto", "process"],
)
def test_every_executor_leaves_the_same_arms(executor: Any, tmp_path: Path, whole: OutcomeStore) -> None:
    store = train(tmp_path, *ALL_KINDS, executor=executor, model=zoo.Net)
    assert arms_of(store) == arms_of(whole)
    assert weights_of(store) == []
    for arm in arms_of(whole):
        assert store.arm(arm) == whole.arm(arm)
        rounding = 0.05 if arm == "quantize-int8" else 1e-5  # the last bit of a weight decides how it is rounded
        same(store, arm, whole, arm, rtol=1e-4, atol=rounding)


def test_two_shards_make_one_record(tmp_path: Path, whole: OutcomeStore) -> None:
    both = audit(tmp_path, *ALL_KINDS, model=zoo.Net)
    first = both.train(shard=(0, 2), progress=False)
    assert arms_of(first) == {"baseline": [0, 2]} | {treatment.name: [0] for treatment in ALL_KINDS}
    store = both.train(shard=(1, 2), progress=False)
    assert arms_of(store) == arms_of(whole)
    for arm in arms_of(whole):
        assert store.arm(arm) == whole.arm(arm)
        same(store, arm, whole, arm)
    assert weights_of(store) == []


def test_shards_agree_on_the_mechanism_where_subsets_differ_in_size(tmp_path: Path) -> None:
    both = audit(tmp_path, PRIVATE, design="bernoulli", n_models=3, n_treated_models=3)
    for shard in ((0, 2), (1, 2)):
        store = both.train(shard=shard, progress=False)
    sizes = store.load(PRIVATE.name).mask.sum(axis=1)
    assert len(set(sizes.tolist())) > 1
    assert store.arm(PRIVATE.name).privacy["n_examples"] == round(0.7 * zoo.N)


def test_all_arms_on_all_data(tmp_path: Path) -> None:
    store = train(tmp_path, Prune(0.5), DPSGD(noise_multiplier=2.0), impact_on="full", n_models=2)
    full = {f"full/{name}": [0, 1] for name in ("baseline", "dpsgd-noise2", "prune-0.5")}
    assert arms_of(store) == {"baseline": [0, 1]} | full
    assert Watched.trained == {0: 3, 1: 3}
    assert store.load("full/prune-0.5").made_from == ("full/baseline",) * 2
    for name in full:
        assert store.load(name).mask.all()
        assert store.arm(name).data == "full"
        assert store.arm(name).regime == {"n_examples": 48, "steps_per_epoch": 6, "max_epochs": 2, "max_steps": None}
    assert store.arm("full/dpsgd-noise2").privacy["sample_rate"] == 1 / 6
    assert weights_of(store) == []
    assert not store.load().mask.all()
    Watched.trained.clear()
    train(tmp_path, Untouched(), impact_on="full", n_models=2, n_treated_models=1)
    assert Watched.trained == {0: 1}
    assert store.load("full/untouched").made_from == ("full/rebuilt",)
    same(store, "full/untouched", store, "full/baseline", [0])


# Privacy


@pytest.mark.parametrize(("epsilon", "trainer"), [(8.0, {}), (1.0, {"max_steps": 7})], ids=["epochs", "steps"])
def test_the_epsilon_on_record_is_what_a_model_spends(epsilon: float, trainer: dict[str, Any], tmp_path: Path) -> None:
    treatment = DPSGD(target_epsilon=epsilon, target_delta=1e-3)
    store = train(tmp_path, treatment, n_models=2, n_treated_models=1, trainer=TRAINER | trainer)
    arm = store.arm(treatment.name)
    private: DifferentialPrivacy = treatment.callbacks(Regime(**arm.regime))[-1]  # type: ignore[assignment]
    with preserved_randomness():
        seed_everything(store.plan.model_seed(0), verbose=False)
        module = zoo.Net()
        fit = Trainer(**TRAINER | trainer, **QUIET, callbacks=[private])
        fit.fit(module, datamodule=SubsetDataModule(zoo.Data(), store.plan, 0))
    assert fit.global_step == arm.privacy["steps"]
    assert private.epsilon == pytest.approx(arm.privacy["epsilon"], rel=1e-9)
    assert 0.98 * epsilon <= private.epsilon <= epsilon
    assert private.mechanism is not None
    assert private.mechanism.noise_multiplier == pytest.approx(arm.privacy["noise_multiplier"], rel=1e-9)
    np.testing.assert_array_equal(store.load(treatment.name).prediction[0], predictions(module))


def test_every_model_gets_one_mechanism_whatever_its_subset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mechanisms, spent = set(), []
    teardown = DifferentialPrivacy.teardown

    def noted(self: DifferentialPrivacy, trainer: Trainer, *arguments: Any, **options: Any) -> None:
        if trainer.current_epoch:
            mechanisms.add(self.mechanism)
            spent.append(self.epsilon)
        teardown(self, trainer, *arguments, **options)

    monkeypatch.setattr(DifferentialPrivacy, "teardown", noted)
    store = train(tmp_path, PRIVATE, design="bernoulli", n_treated_models=3)
    assert len(mechanisms) == 1
    assert spent == pytest.approx([store.arm(PRIVATE.name).privacy["epsilon"]] * 3)


def test_a_callable_trainer_takes_the_epochs_of_a_treatment(tmp_path: Path) -> None:
    def make() -> Trainer:
        return Trainer(max_epochs=1, accelerator="cpu", **QUIET)

    store = train(tmp_path, ClipOnly(max_epochs=2), Prune(0.5), Prune(0.5, finetune_epochs=1), trainer=make)
    assert arms_of(store)["clip-only"] == [0, 1]
    assert Watched.trained == {0: 3, 1: 3, 2: 1}

    class LessBatches(Untouched):
        def trainer_arguments(self, regime: Regime) -> dict[str, Any]:
            return {"limit_train_batches": 2}

    with pytest.raises(ArgumentError, match="a treatment changes limit_train_batches, which"):
        train(tmp_path, LessBatches(), trainer=make)


def test_a_learning_rate_of_its_own(tmp_path: Path, whole: OutcomeStore) -> None:
    store = train(
        tmp_path, ClipOnly(max_grad_norm=1e-6, name="still"), ClipOnly(max_grad_norm=1e-6, lr=1e5, name="moves")
    )
    still, moves = store.load("still"), store.load("moves")
    assert np.abs(moves.margin).mean() > 2 * np.abs(still.margin).mean()


# User's callbacks and modules


class Average(Callback):
    """An exponential average of the weights, which takes their place at the end."""

    def __init__(self, decay: float = 0.5) -> None:
        self.decay = decay

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.average = [parameter.detach().clone() for parameter in pl_module.parameters()]

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *arguments: Any) -> None:
        for mean, parameter in zip(self.average, pl_module.parameters(), strict=True):
            mean.lerp_(parameter.detach(), 1 - self.decay)

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        with torch.no_grad():
            for mean, parameter in zip(self.average, pl_module.parameters(), strict=True):
                parameter.copy_(mean)


class Adds(Callback):
    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        with torch.no_grad():
            pl_module.net[2].bias += 1.0


@pytest.mark.parametrize(
    "make",
    [Average, Adds, lambda: StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1)],
    ids=["ema", "adds", "swa"],
)
def test_what_a_callback_did_to_the_trained_model_is_not_done_again(make: Any, tmp_path: Path) -> None:
    settings = {"trainer": TRAINER | {"callbacks": [make()]}}
    store = train(tmp_path, Prune(0.5), Untouched(), **settings)
    same(store, "untouched", store, "baseline", [0, 1])
    module = by_hand(store.plan, 0, zoo.Net, make())
    np.testing.assert_array_equal(store.load().prediction[0], predictions(module))
    np.testing.assert_array_equal(store.load("prune-0.5").prediction[0], predictions(Prune(0.5).transform(module)))


class Lazy(zoo.Net):
    def layers(self) -> nn.Module:
        return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(zoo.CLASSES))


class TiedBatchNorm(zoo.Tied):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.out(self.norm(self.second(torch.tanh(self.first(x))))))


class Unsaved(zoo.Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(zoo.FEATURES), persistent=False)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.mean = 0.9 * self.mean + 0.1 * batch[0].mean(0)
        return super().training_step(batch, batch_idx)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x - self.mean)


SURVIVE = {
    "tied batch norm": TiedBatchNorm,
    "lazy": Lazy,
    "unsaved": Unsaved,
    "weight norm": zoo.WeightNorm,
}


@pytest.mark.parametrize(("kind", "executor"), [*product(SURVIVE, ["trainer"]), ("tied batch norm", "ensemble")])
def test_all_that_a_trained_model_holds_survives(kind: str, executor: str, tmp_path: Path) -> None:
    prune = Prune(0.5, scope="layer")
    store = train(tmp_path, Untouched(), prune, model=SURVIVE[kind], executor=executor)
    same(store, "untouched", store, "baseline", [0, 1], rtol=1e-4, atol=1e-5)
    assert not np.array_equal(store.load(prune.name).margin, store.load(model_ids=[0, 1]).margin)
    if executor == "trainer":
        same(store, "untouched", store, "baseline", [0, 1])
        module = by_hand(store.plan, 1, SURVIVE[kind])
        np.testing.assert_array_equal(store.load(prune.name).prediction[1], predictions(prune.transform(module)))


# Fine-tuning


class Sparsity(Callback):
    """What share of the weights is zero whenever a step is done, and at the end."""

    seen: ClassVar[list[float]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *arguments: Any) -> None:
        weights = torch.cat([pl_module.net[i].weight.flatten() for i in (0, 2)])
        self.seen.append(float((weights == 0).float().mean()))


def test_a_pruned_model_is_trained_on_with_its_zeros_held(tmp_path: Path) -> None:
    Sparsity.seen = []
    finetuned = Prune(0.75, finetune_epochs=2)
    store = train(tmp_path, Prune(0.75), finetuned, trainer=TRAINER | {"callbacks": [Sparsity()]}, keep_weights=True)
    assert finetuned.name == "prune-0.75-finetune2"
    assert Watched.trained == {0: 2, 1: 2, 2: 1}
    assert store.arm(finetuned.name).trains
    assert store.load(finetuned.name).made_from == ("baseline", "baseline")
    steps = 2 * 2 * 5
    assert set(Sparsity.seen[-steps:]) == {round(0.75 * 152) / 152}
    pruned, tuned, base = (store.load(name, model_ids=[0, 1]) for name in ("prune-0.75", finetuned.name, "baseline"))
    inside = base.mask
    assert tuned.loss[inside].mean() < pruned.loss[inside].mean()

    start = Prune(0.75).transform(by_hand(store.plan, 0))
    masks = [start.net[i].weight == 0 for i in (0, 2)]
    with preserved_randomness():  # the same by hand: plain training, zeros put back after each step
        seed_everything(store.plan.model_seed(0), verbose=False)
        zoo.Net()
        optimizer = start.configure_optimizers()
        for _ in range(2):
            for batch in SubsetDataModule(zoo.Data(), store.plan, 0).train_dataloader():
                optimizer.zero_grad()
                start.loss(batch).backward()
                optimizer.step()
                with torch.no_grad():
                    for i, mask in zip((0, 2), masks, strict=True):
                        start.net[i].weight.masked_fill_(mask, 0.0)
    agreement = (predictions(start) == tuned.prediction[0]).mean()
    assert agreement == 1.0


@pytest.mark.parametrize(
    "make", [Average, lambda: StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1)], ids=["ema", "swa"]
)
@pytest.mark.parametrize("options", [{}, {"scope": "layer"}, {"scope": "layer", "structured": True}])
def test_sparsity_is_exact_at_the_end_whatever_averages_weights(
    make: Any, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prune = Prune(0.5, finetune_epochs=2, name="tuned", **options)
    found = []

    def look(self: Prune, pl_module: Any) -> Any:
        found.append([int((pl_module.net[i].weight == 0).sum()) for i in (0, 2)])
        return pl_module

    monkeypatch.setattr(Prune, "transform", look)
    train(tmp_path, prune, trainer=TRAINER | {"callbacks": [make()]}, n_treated_models=1)
    first, last = (8 * 16, 3 * 8)
    zeros = found[-1]
    if prune.structured:
        assert zeros == [first // 2, 0]
    elif prune.scope == "layer":
        assert zeros == [first // 2, last // 2]
    else:
        assert sum(zeros) == (first + last) // 2


# Bad input


def refused(store: Path, error: type[Exception], named: str, *treatments: Treatment, **options: Any) -> None:
    with pytest.raises(error, match=named):
        train(store, *treatments, **options)
    assert Watched.trained == {}
    assert not list(store.glob("outcomes/*/*.npz"))


class WatchedBatchNorm(Watched):
    layers = zoo.BatchNorm.layers


class WatchedWeightNorm(Watched):
    layers = zoo.WeightNorm.layers


class WatchedExtraState(Watched):
    def get_extra_state(self) -> Any:
        return {"n": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


class WatchedEmbedding(Watched):
    def layers(self) -> nn.Module:
        return nn.Bilinear(FEATURES, FEATURES, zoo.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x, x)

    def on_fit_start(self) -> None:
        pass


FEATURES = zoo.FEATURES


@pytest.mark.parametrize("treatment", [PRIVATE, ClipOnly()])
def test_a_layer_that_cannot_be_private_is_named_before_anything_is_trained(
    tmp_path: Path, treatment: Treatment
) -> None:
    named = r"'net\.1' \(BatchNorm1d\) makes the output for an example depend on the others: use GroupNorm"
    refused(tmp_path, ConfigurationError, named, Prune(0.5), treatment, model=WatchedBatchNorm)


def test_a_budget_that_no_noise_meets_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    refused(tmp_path, ArgumentError, r"target_epsilon=1e-0?9", DPSGD(target_epsilon=1e-9))


@pytest.mark.parametrize(
    ("model", "treatment", "named"),
    [
        (WatchedEmbedding, Prune(0.5), "prune-0.5: WatchedEmbedding has no Linear or Conv layer to prune"),
        (WatchedEmbedding, Quantize(), "quantize-int8: WatchedEmbedding has no Linear layer"),
        (WatchedExtraState, Untouched(), r"WatchedExtraState keeps state .* \(_extra_state\)"),
        (WatchedWeightNorm, Prune(0.5, finetune_epochs=1), r"layer 'net\.0' .* use finetune_epochs=0"),
    ],
)
def test_modules_that_a_treatment_does_not_suit(model: Any, treatment: Treatment, named: str, tmp_path: Path) -> None:
    refused(tmp_path, ConfigurationError, named, treatment, model=model)


def test_training_options_that_privacy_does_not_suit(tmp_path: Path) -> None:
    trainer = TRAINER | {"accumulate_grad_batches": 2}
    refused(tmp_path / "parts", ConfigurationError, "accumulate_grad_batches=2", PRIVATE, trainer=trainer)
    trainer = TRAINER | {"gradient_clip_val": 1.0}
    refused(tmp_path / "clipped", ConfigurationError, "gradient_clip_val", ClipOnly(), trainer=trainer)


def test_a_treatment_that_fails_is_the_user_s_code(tmp_path: Path) -> None:
    class Fails(Untouched):
        def transform(self, pl_module: Any) -> Any:
            raise ValueError("no such layer")

    refused(tmp_path, TrainingError, "model 0 failed in your code: ValueError: no such layer", Fails())


def test_an_arm_of_one_model(tmp_path: Path) -> None:
    store = train(tmp_path, Prune(0.5), n_treated_models=1)
    assert arms_of(store)["prune-0.5"] == [0]


def test_the_record_of_an_arm_is_plain_json(whole: OutcomeStore) -> None:
    for treatment in ALL_KINDS:
        record = json.loads(whole.storage.read(f"outcomes/{treatment.name}/arm.json"))
        assert record["name"] == treatment.name
        assert record["treatment"]["class"] == f"{type(treatment).__module__}.{type(treatment).__name__}"
        assert (record["privacy"] is None) == (treatment is not PRIVATE)

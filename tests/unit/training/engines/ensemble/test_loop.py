"""Models that are trained at once are those that the Trainer makes of each."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn, optim

from lightning_memaudit import SubsetPlan
from lightning_memaudit.training.engines.ensemble.chunk import train_chunk
from lightning_memaudit.training.engines.ensemble.gradients import Traces
from lightning_memaudit.training.engines.ensemble.loop import ChunkMemo, EnsembleLoop
from lightning_memaudit.training.engines.equivalence import _perturbed
from lightning_memaudit.training.engines.in_memory.data import read_into_memory
from lightning_memaudit.training.engines.in_memory.support import CALLED_HOOKS, Unsupported
from tests.helpers import zoo
from tests.helpers.engines import (
    REPEATABLE,
    STACKABLE,
    by_trainer,
    difference,
    in_memory,
    n_flips,
    reference,
    run_of,
    together,
)

if TYPE_CHECKING:
    from lightning_memaudit.training.run import Run


TRACES: dict[Any, Traces] = defaultdict(Traces)  # of a module; its recipes share the traced step, as chunks do


@pytest.mark.parametrize("name", STACKABLE)
def test_parameters_and_outcomes_are_those_of_the_trainer(name) -> None:
    """After 20 steps (fewer where the recipe says so), on a recipe that is stable."""
    model = STACKABLE[name]["model"]
    family = zoo.Optimizer if getattr(model, "func", None) is zoo.Optimizer else model
    found = together(run_of(**STACKABLE[name]), memo=ChunkMemo(traces=TRACES[family]))
    for model_id, trained in enumerate(found):
        expected = reference(name, model_id)
        assert difference(trained, expected) < 1e-5
        assert n_flips(trained, expected) == 0
    assert difference(*found) > 1e-3


@pytest.mark.parametrize(
    ("name", "steady"),
    [
        ("mlp", True),
        ("batch norm", True),
        ("metrics", True),
        ("groups and one-cycle per step", True),
        ("epoch, step and batch number", False),
        ("counter", False),
        ("counter in an object", False),
        ("layers that come and go", False),
    ],
)
def test_what_is_traced(name, steady) -> None:
    memo = ChunkMemo()
    together(run_of(**STACKABLE[name]), memo=memo)
    assert memo.inspection.steady == steady
    assert len(memo.traces.steps) == (1 if steady else 0)  # batches of 8; the last one of 4 is too rare


def test_chunks_share_what_they_learn_and_may_differ_in_size() -> None:
    run, memo = run_of(zoo.BatchNorm), ChunkMemo()
    found = [trained for ids in ((0, 1), (2, 3), (4,)) for trained in together(run, ids, memo=memo)]
    assert len(memo.traces.steps) == 2  # for two models and for one
    for model_id, trained in enumerate(found):
        assert difference(trained, in_memory(run, model_id)) < 1e-5


@pytest.mark.parametrize(
    "plan",
    [
        SubsetPlan(zoo.N, design="paired", subset_fraction=0.5, seed=1),
        SubsetPlan(zoo.N, design="stratified", subset_fraction=0.75, seed=1, strata=np.arange(zoo.N) % 3),
    ],
)
def test_other_designs(plan) -> None:
    run = run_of(zoo.Net, plan=plan)
    for model_id, trained in enumerate(together(run, (0, 1, 2))):
        assert difference(trained, by_trainer(run, model_id)) < 1e-5


class Chaotic(zoo.Net):
    """Its steps are long and half of its labels are noise: rounding grows until it decides."""

    def layers(self) -> nn.Module:
        hidden = [nn.Linear(zoo.FEATURES, 32), nn.BatchNorm1d(32), nn.Tanh()]
        return nn.Sequential(*hidden, nn.Linear(32, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Linear(32, 3))

    def configure_optimizers(self) -> Any:
        return optim.SGD(self.parameters(), lr=0.4, momentum=0.9)


def noisy_data() -> zoo.Data:
    x, y = zoo.examples()
    noise = torch.randint(0, 3, y.shape, generator=torch.Generator().manual_seed(0))
    return zoo.Data(torch.utils.data.TensorDataset(x, torch.where(torch.arange(len(y)) % 2 == 0, y, noise)))


def nudged(run: Run) -> Run:
    return run.of_arm(model=partial(_perturbed, run.population.recipe.model))


def test_on_a_chaotic_recipe_flips_are_no_more_than_one_ulp_causes() -> None:
    run, ids = run_of(Chaotic, data=noisy_data, max_epochs=20), range(8)
    references = [in_memory(run, k) for k in ids]
    of_an_ulp = [n_flips(in_memory(nudged(run), k), references[k]) for k in ids]
    stacked = together(run, ids)
    found = [n_flips(stacked[k], references[k]) for k in ids]
    assert min(difference(stacked[k], references[k]) for k in ids) > 1e-3  # chaotic it is
    assert sum(of_an_ulp) > 20
    more = np.subtract(found, of_an_ulp)
    assert more.mean() < 4 * more.std(ddof=1) / np.sqrt(len(ids))


def test_dropout_is_equal_in_distribution() -> None:
    """Weights and accuracies of 24 models each way, from the same seeds, have the same mean and spread."""
    run, ids = run_of(zoo.Dropout, max_epochs=3), range(24)
    ours = together(run, ids)
    theirs = [in_memory(run, k) for k in ids]

    def statistics(models: list[Any]) -> np.ndarray:
        norms = [[float(tensor.norm()) for tensor in trained.weights.values()] for trained in models]
        losses = [[float(scores["loss"].mean()) for scores in trained.scores.values()] for trained in models]
        return np.hstack([norms, losses])

    first, second = statistics(ours), statistics(theirs)
    apart = first - second  # the models start from the same weights and see the same batches of the first epoch
    standard_error = apart.std(0, ddof=1) / np.sqrt(len(ids))
    assert (np.abs(apart.mean(0)) < 4 * standard_error).all()
    assert (apart.std(0) > 0).all()
    ratio = first.std(0, ddof=1) / second.std(0, ddof=1)
    assert ((ratio > 0.4) & (ratio < 2.5)).all()


class KeepsMasks(zoo.Dropout):
    """Keeps the mask that a step draws."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("masks", torch.zeros(20, 64))

    def loss(self, batch: Any) -> torch.Tensor:
        mask = self.net[2](torch.ones(64))
        self.masks.copy_(torch.cat([self.masks[1:], mask[None]]))
        return super().loss(batch)


def test_random_numbers_of_dropout_never_come_again() -> None:
    """The order of an epoch is drawn from each model's own numbers; masks go on where the last epoch left them."""
    masks = torch.cat([trained.weights["masks"] for trained in together(run_of(KeepsMasks))]) > 0
    assert float(masks.float().mean()) == pytest.approx(0.5, abs=0.06)
    for i, mask in enumerate(masks):
        for other in masks[:i]:
            for shift in range(-16, 17):
                assert float((mask.roll(shift) == other).float().mean()) < 0.9


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "adafactor": ({"model": zoo.with_optimizer(optim.Adafactor)}, "optimizer Adafactor"),
    "lbfgs": ({"model": zoo.with_optimizer(optim.LBFGS)}, "optimizer LBFGS"),
    "loose tensor": ({"model": zoo.LooseTensor}, "the attribute projection, which is no buffer and differs"),
    "gru": ({"model": zoo.Recurrent}, r"the attribute recurrent\._flat_weights\[0\]"),
    "lstm": ({"model": partial(zoo.Recurrent, nn.LSTM)}, r"the attribute recurrent\._flat_weights\[0\]"),
    "parameters held twice": ({"model": zoo.ShapeDependent}, r"the attribute held\[0\]"),
    "manual": ({"model": zoo.Manual}, "manual optimization"),
    "collects": ({"model": zoo.Collects}, r"training_step, which changes the attribute outputs\[0\]"),
    "python": ({"model": zoo.PythonChoice}, "draws random numbers of numpy or Python"),
    "numpy": ({"model": zoo.NumpyMix}, "draws random numbers of numpy or Python"),
    "skips": ({"model": zoo.SkipsBatches}, "returns no scalar loss"),
    "setup": ({"model": zoo.SetUp}, "the hook setup, which is written for one model"),
    "configure_model": ({"model": zoo.Configured}, "the hook configure_model, which is written for one model"),
    "stops": ({"model": zoo.Stops}, r"trainer\.should_stop, set during training"),
    "collate": (REPEATABLE["collate that centres the batch"], "a collate_fn whose batches are not rows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_stacked_is_refused_with_the_reason(name) -> None:
    options, reason = REFUSED[name]
    with pytest.raises(Unsupported, match=reason):
        together(run_of(**options))


@pytest.mark.parametrize(
    "hook", [*CALLED_HOOKS, "on_fit_start", "on_train_end", "on_fit_end", "on_after_batch_transfer"]
)
def test_hooks_are_written_for_one_model(hook) -> None:
    kind = type("Hooked", (zoo.Net,), {hook: lambda self, *arguments, **more: arguments and arguments[0]})
    with pytest.raises(Unsupported, match=f"the hook {hook}, which is written for one model"):
        together(run_of(kind))


@pytest.mark.parametrize("module", [zoo.ReadsTheLoss, zoo.Branches, zoo.BooleanMask])
def test_what_vmap_cannot_do_is_an_error(module) -> None:
    run = run_of(module)
    with pytest.raises(RuntimeError, match="vmap"):
        train_chunk(run, (0, 1), read_into_memory(run.population), ChunkMemo())


def test_subsets_of_different_sizes_are_refused() -> None:
    plan = SubsetPlan(zoo.N, design="bernoulli", subset_fraction=0.5, seed=0)
    sizes = [int(plan.mask(k).sum()) for k in range(20)]
    other = next(k for k in range(20) if sizes[k] != sizes[0])
    with pytest.raises(Unsupported, match="subsets of different sizes"):
        together(run_of(zoo.Net, plan=plan), (0, other))


def test_models_that_train_other_parameters_are_refused() -> None:
    run = run_of(zoo.RandomlyFrozen)
    with pytest.raises(Unsupported, match="models of different shapes"):
        together(run, range(8))


def test_a_constant_that_differs_is_noticed_in_a_later_chunk() -> None:
    run, memo = run_of(zoo.RandomConstant), ChunkMemo()
    odd = []
    for model_id in range(12):
        try:
            together(run, [model_id], memo=memo)
        except Unsupported as error:
            assert "the attribute constants[1]" in str(error)  # noqa: PT017
            odd.append(model_id)
    assert 0 < len(odd) < 12
    assert 0 not in odd


def test_a_loop_that_did_not_run_has_no_models() -> None:
    loop = EnsembleLoop(None, [], spare=zoo.Net(), memo=ChunkMemo())
    with pytest.raises(RuntimeError, match="has trained nothing"):
        loop.stack  # noqa: B018


def test_memory_of_a_model_is_estimated() -> None:
    memo = ChunkMemo()
    together(run_of(zoo.Net), memo=memo)
    parameters = 4 * (zoo.FEATURES * 8 + 8 + 8 * 3 + 3)
    assert 5 * parameters < memo.bytes_per_model < 40 * parameters

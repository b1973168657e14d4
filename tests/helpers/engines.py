"""Trains models of the zoo by each of the ways there are, for comparison."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import optim

from lightning_memaudit import OutcomeStore, SubsetPlan
from lightning_memaudit.training.engines.ensemble.chunk import score_chunk, train_chunk
from lightning_memaudit.training.engines.ensemble.loop import ChunkMemo
from lightning_memaudit.training.engines.in_memory.data import read_into_memory
from lightning_memaudit.training.engines.in_memory.loop import train_in_memory
from lightning_memaudit.training.factories import data_factory, model_factory, trainer_recipe
from lightning_memaudit.training.population import Recipe, prepare_population
from lightning_memaudit.training.probe import probe
from lightning_memaudit.training.run import Run
from lightning_memaudit.training.task import train_model
from tests.helpers import zoo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIELDS = ("correct", "margin", "loss", "prediction", "confidence")
PLAN = SubsetPlan(zoo.N, subset_fraction=0.75, seed=3)  # 36 rows: four batches of 8 and one of 4
_stores = itertools.count()
logging.getLogger("torch.__trace").propagate = False  # pytest would keep every traced graph as text


def seeded_data(**loader: Any) -> Any:
    return lambda: zoo.Data(generator=torch.Generator().manual_seed(3), **loader)


# Recipes whose models can be trained at once, and give the Trainer's weights up to rounding.
STACKABLE: dict[str, dict[str, Any]] = {
    "mlp": {"model": zoo.Net},
    "cnn": {"model": zoo.Cnn},
    "batch norm": {"model": zoo.BatchNorm},
    "batch norm in evaluation mode": {"model": zoo.FrozenStatistics},
    "layer norm": {"model": zoo.LayerNorm},
    "attention": {"model": zoo.Attention},
    "frozen layer": {"model": zoo.Frozen},
    "unused layer": {"model": zoo.Unused},
    "tied weights": {"model": zoo.Tied},
    "weight norm": {"model": zoo.WeightNorm},
    "two precisions": {"model": zoo.TwoPrecisions, "gradient_clip_val": 0.1},
    "nesterov and decay": {
        "model": zoo.with_optimizer(optim.SGD, 0.05, momentum=0.9, nesterov=True, weight_decay=0.01)
    },
    "amsgrad": {"model": zoo.with_optimizer(optim.Adam, amsgrad=True)},
    "rmsprop": {"model": zoo.with_optimizer(optim.RMSprop, 0.003, momentum=0.9)},
    "nadam": {"model": zoo.with_optimizer(optim.NAdam)},
    "radam": {"model": zoo.with_optimizer(optim.RAdam)},
    "adamax": {"model": zoo.with_optimizer(optim.Adamax)},
    "adadelta": {"model": zoo.with_optimizer(optim.Adadelta, 1.0)},
    "groups and one-cycle per step": {"model": zoo.GroupsAndOneCycle},
    "decay of what has two dimensions": {"model": zoo.DecayByDimension},
    "cosine per epoch": {"model": zoo.Scheduled},
    "scheduler every second step": {"model": partial(zoo.Halving, "step", 2)},
    "scheduler every second epoch": {"model": partial(zoo.Halving, "epoch", 2)},
    "clipping by norm": {"model": zoo.Net, "gradient_clip_val": 0.1},
    "clipping by value": {"model": zoo.Net, "gradient_clip_val": 0.02, "gradient_clip_algorithm": "value"},
    "clipping of a gradient that is a view": {"model": zoo.Penalty, "gradient_clip_val": 0.1},
    "dict batches": {"model": zoo.Dicts, "data": lambda: zoo.Data(zoo.Items(zoo.as_dict))},
    "namedtuple batches": {"model": zoo.Fields, "data": lambda: zoo.Data(zoo.Items())},
    "training_step(batch)": {"model": zoo.WithoutIndex},
    "returns a dict": {"model": zoo.ReturnsDict},
    "metrics": {"model": zoo.Metrics},
    "epoch, step and batch number": {"model": zoo.LooksAtTheTime},
    "counter": {"model": zoo.Counts},
    "counter in an object": {"model": zoo.CountsElsewhere},
    "counter in a closure": {"model": zoo.CountsInClosure},
    "random numbers of its own": {"model": zoo.OwnRandomNumbers},
    "scheduler at hand": {"model": zoo.LooksAtItsScheduler},
    "weights in bounds": {"model": zoo.Clamped},
    "layers that come and go": {"model": zoo.Thaws},
    "limit_train_batches": {"model": zoo.Net, "limit_train_batches": 3},
    "max_steps in mid-epoch": {"model": zoo.Net, "max_steps": 8, "max_epochs": -1},
    "sequential order": {"model": zoo.Net, "data": lambda: zoo.Data(shuffle=False)},
    "drop_last": {"model": zoo.Net, "data": lambda: zoo.Data(drop_last=True)},
    "own generator": {"model": zoo.Net, "data": seeded_data()},
    "own generator, whole batches": {"model": zoo.Net, "data": seeded_data(batch_size=9)},
    "own generator, part of an epoch": {"model": zoo.Net, "data": seeded_data(), "limit_train_batches": 2},
}

# Recipes that one model at a time repeats bit for bit.
REPEATABLE: dict[str, dict[str, Any]] = STACKABLE | {
    "dropout": {"model": zoo.Dropout},
    "dropout and own generator": {"model": zoo.Dropout, "data": seeded_data(drop_last=True)},
    "dropout and workers": {"model": zoo.Dropout, "data": lambda: zoo.Data(num_workers=1), "max_epochs": 2},
    "dropout and workers that live on": {
        "model": zoo.Dropout,
        "data": seeded_data(num_workers=2, persistent_workers=True),
        "limit_train_batches": 2,
    },
    "gru": {"model": zoo.Recurrent},
    "lbfgs": {"model": zoo.with_optimizer(optim.LBFGS, 0.1, max_iter=4)},
    "own optimizer": {"model": zoo.with_optimizer(zoo.OwnOptimizer, 0.1)},
    "skips batches": {"model": zoo.SkipsBatches},
    "metric that goes on over epochs": {"model": zoo.RunningScale},
    "metric that counts late": {"model": zoo.WeighsByAMetric},
    "hooks on gradients": {"model": zoo.HooksOnGradients},
    "reads the loss": {"model": zoo.ReadsTheLoss},
    "branches": {"model": zoo.Branches},
    "boolean mask": {"model": zoo.BooleanMask},
    "python's random numbers": {"model": zoo.PythonChoice},
    "numpy's random numbers": {"model": zoo.NumpyMix},
    "functional dropout": {"model": zoo.FunctionalDropout},
    "collects outputs": {"model": zoo.Collects},
    "buffer bound anew": {"model": zoo.Rebound},
    "collate that centres the batch": {"model": zoo.Net, "data": lambda: zoo.Data(collate_fn=zoo.collate_centred)},
}


@dataclass(frozen=True)
class Trained:
    """Parameters and buffers by name, scores by split and field, and the module."""

    weights: Mapping[str, torch.Tensor]
    scores: Mapping[str, Mapping[str, np.ndarray]]
    module: Any


def run_of(
    model: Any,
    *,
    data: Any = zoo.Data,
    plan: SubsetPlan = PLAN,
    score_fn: Any = "multiclass",
    trainer: Any = None,
    seed: int = 3,
    **arguments: Any,
) -> Run:
    """Few and short trainings; ``trainer`` is a callable that takes the place of the arguments."""
    settings = trainer or {"max_epochs": 4, "accelerator": "cpu"} | arguments
    recipe = Recipe(model_factory(model, None), data_factory(data), trainer_recipe(settings), score_fn=score_fn)
    return Run(prepare_population(recipe, seed), plan, _new_store())


def probed(run: Run) -> Run:
    """The run after its trial, which makes the store."""
    return replace(run, probe=probe(run))


def run_probed(model: Any, **options: Any) -> Run:
    """``run_of``, after the trial."""
    return probed(run_of(model, **options))


def elsewhere(run: Run) -> Run:
    """The same models, in a store of their own."""
    return probed(replace(run, store=_new_store()))


def reopened(run: Run) -> Run:
    """The run as it opens its store the next time."""
    return replace(run, store=OutcomeStore(run.store.url))


def _new_store() -> OutcomeStore:
    return OutcomeStore(f"memory://engines/{next(_stores)}")


@cache
def reference(name: str, model_id: int) -> Trained:
    """A model of a recipe above, trained by Lightning's own loop."""
    return by_trainer(run_of(**REPEATABLE[name]), model_id)


def by_trainer(run: Run, model_id: int = 0) -> Trained:
    run = replace(run, store=_new_store())
    return _trained(run, model_id, train_model(run, model_id).lightning_module)


def in_memory(run: Run, model_id: int = 0) -> Trained:
    run = replace(run, store=_new_store())
    return _trained(run, model_id, train_in_memory(run, model_id, read_into_memory(run.population)).lightning_module)


def together(run: Run, model_ids: Sequence[int] = (0, 1), *, memo: ChunkMemo | None = None) -> list[Trained]:
    data = read_into_memory(run.population)
    chunk = train_chunk(run, model_ids, data, memo or ChunkMemo())
    shards = score_chunk(run, chunk, data)
    return [
        Trained(
            chunk.stack.member(k),
            {split: {name: getattr(scores, name) for name in FIELDS} for split, scores in shard.splits.items()},
            chunk.pl_module,
        )
        for k, shard in enumerate(shards)
    ]


def _trained(run: Run, model_id: int, module: Any) -> Trained:
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    weights = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    return Trained(weights, stored(run.store, model_id), module)


def stored(store: OutcomeStore, model_id: int) -> dict[str, dict[str, np.ndarray]]:
    """The scores of a model in a store."""
    loaded = {split: store.load(split=split, model_ids=[model_id]) for split in store.splits()}
    return {split: {name: getattr(outcomes, name)[0] for name in FIELDS} for split, outcomes in loaded.items()}


def difference(first: Trained, second: Trained) -> float:
    """The largest of all parameters and buffers."""
    assert set(first.weights) == set(second.weights)
    gaps = [(tensor.double() - second.weights[name].double()).abs().max() for name, tensor in first.weights.items()]
    return max(float(gap) for gap in gaps)


def n_flips(first: Trained, second: Trained) -> int:
    """Examples of any split that one gets right and the other one wrong."""
    pairs = [(scores["correct"], second.scores[split]["correct"]) for split, scores in first.scores.items()]
    return sum(int((a != b).sum()) for a, b in pairs)


def assert_same_scores(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    assert set(first) == set(second)
    for split, fields in first.items():
        for name in FIELDS:
            assert np.array_equal(fields[name], second[split][name], equal_nan=True), (split, name)


def assert_identical(first: Trained, second: Trained) -> None:
    """Bit for bit."""
    assert set(first.weights) == set(second.weights)
    for name, tensor in first.weights.items():
        assert torch.equal(tensor, second.weights[name]), name
    assert_same_scores(first.scores, second.scores)

"""Scores of many models at once are those of each module by itself."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit.data.rows import InMemoryLoader, materialise
from lightning_memaudit.outcomes.scoring import (
    Binary,
    ExampleScores,
    Multiclass,
    Sequence,
    multiclass_scores,
    score_split,
)
from lightning_memaudit.training.engines.ensemble.scoring import (
    asks_only_for_answers,
    score_in_turn,
    score_stack,
    score_together,
)
from lightning_memaudit.training.engines.ensemble.stack import Stack
from tests.helpers import zoo

N, K = 50, 3
Answer = namedtuple("Answer", "logits hidden")


class Answers(zoo.Net):
    """A net whose answer is shaped by ``as_answer``."""

    n_out = 3

    def layers(self) -> nn.Module:
        return nn.Sequential(nn.Linear(zoo.FEATURES, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, self.n_out))

    def forward(self, x: torch.Tensor) -> Any:
        return self.as_answer(super().forward(x))

    def as_answer(self, logits: torch.Tensor) -> Any:
        return logits


class InDict(Answers):
    def as_answer(self, logits: torch.Tensor) -> Any:
        return {"hidden": logits * 2, "logits": logits}


class InNamedTuple(Answers):
    def as_answer(self, logits: torch.Tensor) -> Any:
        return Answer(logits, [logits * 2])


class TwoLogits(Answers):
    n_out = 2


class OneLogit(Answers):
    n_out = 1


class Flat(OneLogit):
    def as_answer(self, logits: torch.Tensor) -> Any:
        return logits.squeeze(1)


class Probability(OneLogit):
    def as_answer(self, logits: torch.Tensor) -> Any:
        return logits.sigmoid()


class Tokens(Answers):
    n_out = 4 * 3

    def as_answer(self, logits: torch.Tensor) -> Any:
        return logits.view(-1, 4, 3)


def own_score(pl_module: Any, batch: Any) -> ExampleScores:
    assert isinstance(pl_module, Answers)
    return multiclass_scores(pl_module.net(batch[0] / 2), batch[1])


@dataclass(frozen=True)
class OwnMulticlass(Multiclass):
    """Asks the module for more than its answer."""

    def __call__(self, pl_module: Any, batch: Any) -> ExampleScores:
        return own_score(pl_module, batch)


def tokens(y: torch.Tensor) -> torch.Tensor:
    target = (y[:, None] + torch.arange(4)) % 3
    target[::5, 1:] = -100
    target[7] = -100
    return target


CASES: dict[str, tuple[type[Answers], Any, Any]] = {
    "multiclass": (Answers, Multiclass(), None),
    "keys": (Answers, Multiclass(inputs=0, target=1), None),
    "dict": (InDict, Multiclass(), None),
    "namedtuple": (InNamedTuple, Multiclass(), None),
    "two logits": (TwoLogits, Binary(), lambda y: y % 2),
    "one logit": (OneLogit, Binary(), lambda y: y % 2),
    "one logit, flat": (Flat, Binary(), lambda y: (y % 2).float()),
    "probability": (Probability, Binary(outputs="probabilities"), lambda y: y % 2),
    "sequence": (Tokens, Sequence(), tokens),
}
OWN = {"own function": (Answers, own_score, None), "own multiclass": (Answers, OwnMulticlass(), None)}


def setting(kind: type[Answers], target: Any) -> tuple[list[Answers], Stack, DataLoader[Any]]:
    torch.manual_seed(0)
    modules = [kind() for _ in range(K)]
    for module in modules:
        module.net[1].running_mean.normal_()
        module.net[1].running_var.uniform_(0.5, 2)
    x, y = zoo.examples(N)
    loader = DataLoader(TensorDataset(x, y if target is None else target(y)), batch_size=8)
    return modules, Stack.of(modules, torch.device("cpu")), loader


def assert_close(found: Any, expected: Any) -> None:
    assert found.correct.dtype == expected.correct.dtype
    assert np.array_equal(found.correct, expected.correct, equal_nan=True)
    assert np.array_equal(found.prediction, expected.prediction)
    for name in ("margin", "loss"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("values_at_once", [1, 4_000_000])
@pytest.mark.parametrize("name", CASES)
def test_together_and_in_turn_are_as_each_by_itself(name, values_at_once) -> None:
    kind, score_fn, target = CASES[name]
    modules, stack, loader = setting(kind, target)
    expected = [
        score_split(module, loader, score_fn, transfer=lambda batch: batch, split="train") for module in modules
    ]
    head = InMemoryLoader(materialise(loader, seed=0), 8)
    template = kind().eval()
    together = score_together(template, stack, head, score_fn, "train", values_at_once=values_at_once)
    in_turn = score_in_turn(template, stack, head, score_fn, "train")
    loaders = {"train": head, "test": loader}
    whole = score_stack(kind(), stack, loaders, score_fn, values_at_once=values_at_once)
    for k in range(K):
        assert_close(together[k], expected[k])
        for found in (in_turn[k], whole[k]["test"]):
            for field in ("correct", "margin", "loss", "prediction"):
                assert np.array_equal(getattr(found, field), getattr(expected[k], field), equal_nan=True)
        assert_close(whole[k]["train"], expected[k])
    assert not np.array_equal(together[0].margin, together[1].margin, equal_nan=True)


@pytest.mark.parametrize("name", OWN)
def test_functions_of_the_users_own_are_given_the_module_itself(name) -> None:
    kind, score_fn, target = OWN[name]
    assert not asks_only_for_answers(score_fn)
    modules, stack, loader = setting(kind, target)
    head = InMemoryLoader(materialise(loader, seed=0), 8)
    for k, of_model in enumerate(score_stack(kind(), stack, {"train": head}, score_fn)):
        expected = score_split(modules[k], loader, score_fn, transfer=lambda batch: batch, split="train")
        assert_close(of_model["train"], expected)


def test_our_own_ask_for_nothing_but_answers() -> None:
    assert all(asks_only_for_answers(score_fn) for _, score_fn, _ in CASES.values())

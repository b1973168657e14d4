"""What happens with a torch that lacks a private name: a slower way of the same numbers, or a refusal."""

from __future__ import annotations

import importlib
import re

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.nn.modules import batchnorm, dropout, instancenorm
from torch.optim.lr_scheduler import ConstantLR, SequentialLR

from lightning_memaudit.callbacks.learning_rate import LearningRate
from lightning_memaudit.compat import torch as compat
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.functional.influence import _joint_counts
from lightning_memaudit.training.engines.ensemble.loop import ChunkMemo
from tests.helpers import zoo
from tests.helpers.engines import run_of, together
from tests.unit.callbacks.dp.toys import QUIET, Net, loader

VERSION = f"torch {torch.__version__}"


def test_without_pytree_the_trainer_goes_through_the_loader(without, execution) -> None:
    expected = execution("trainer", "reference")
    without("_pytree")
    found = execution("ensemble")
    assert found["engine"] == "trainer"
    assert found["reason"].startswith(f"the faster loops do not go with {VERSION}, which has no _pytree in torch.utils")
    assert np.array_equal(found["margin"], expected["margin"])


@pytest.mark.parametrize(
    ("name", "holder"),
    [
        ("_version", "Tensor"),
        ("_backward_hooks", "Tensor"),
        ("_post_accumulate_grad_hooks", "Tensor"),
        ("_optimizer_step_pre_hooks", "SGD"),
        ("_optimizer_step_post_hooks", "SGD"),
    ],
)
def test_models_are_trained_one_by_one(name, holder, without, execution) -> None:
    expected = execution("trainer", "reference")
    without(name)
    found = execution("ensemble")
    assert found["engine"] == "in-memory"
    reason = f"training several models at once does not go with {VERSION}, which has no {name} in {holder}"
    assert found["reason"] == reason
    assert np.array_equal(found["margin"], expected["margin"])


def test_what_the_ensemble_asks_of_tensors_is_never_guessed(without) -> None:
    weight, optimizer = nn.Parameter(torch.ones(1)), torch.optim.SGD([torch.ones(1, requires_grad=True)])
    assert not compat.has_gradient_hooks(weight)
    weight.register_post_accumulate_grad_hook(lambda _: None)
    assert compat.has_gradient_hooks(weight)
    assert not compat.has_step_hooks(optimizer)
    optimizer.register_step_pre_hook(lambda *_: None)
    assert compat.has_step_hooks(optimizer)
    without("_version", "_backward_hooks", "_optimizer_step_pre_hooks")
    for look, value in [
        (compat.tensor_version, weight),
        (compat.has_gradient_hooks, weight),
        (compat.has_step_hooks, optimizer),
    ]:
        with pytest.raises(ConfigurationError, match="does not go with " + re.escape(VERSION)):
            look(value)


LAYERS = [kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)]


@pytest.mark.parametrize(
    ("find", "module", "name"),
    [
        (compat.batch_norms, batchnorm, "_BatchNorm"),
        (compat.instance_norms, instancenorm, "_InstanceNorm"),
        (compat.dropouts, dropout, "_DropoutNd"),
    ],
)
def test_the_same_layers_of_torch_are_known(find, module, name, monkeypatch) -> None:
    known = [layer for layer in LAYERS if issubclass(layer, find())]
    assert len(known) > 3
    monkeypatch.delattr(module, name)
    assert [layer for layer in LAYERS if issubclass(layer, find())] == known


def test_products_are_of_floats(monkeypatch) -> None:
    _joint_counts._int8_is_faster.cache_clear()
    monkeypatch.delattr(torch, "_int_mm")
    try:
        assert not _joint_counts._int8_is_faster()
    finally:
        _joint_counts._int8_is_faster.cache_clear()


def test_a_step_that_cannot_be_compiled_is_said_to_be_so(monkeypatch) -> None:
    monkeypatch.delattr(importlib.import_module("torch._inductor"), "compile")
    with pytest.raises(ConfigurationError, match="compiling the training step does not go with " + re.escape(VERSION)):
        together(run_of(zoo.Net, data=lambda: zoo.Data(batch_size=12)), memo=ChunkMemo(compiled_size=2))


def test_nothing_counts_as_compiled_before(monkeypatch) -> None:
    assert compat.compiler_cache().name
    monkeypatch.delattr(importlib.import_module("torch._inductor.runtime.cache_dir_utils"), "cache_dir")
    assert compat.compiler_cache() is None


def test_operators_run_as_they_are(without) -> None:
    without("TorchDispatchMode")
    kind = compat.dispatch_mode()
    assert not issubclass(kind, torch.utils._python_dispatch.TorchDispatchMode)
    with kind():
        assert torch.nn.functional.max_pool2d(torch.arange(4.0).view(1, 1, 2, 2), 2).item() == 3


def test_compiled_nets_are_forgotten() -> None:
    traces = []
    compiled = torch.compile(lambda x: x + 1, backend=lambda graph, _: traces.append(1) or graph.forward)
    for _ in range(2):
        compiled(torch.ones(2))
    assert len(traces) == 1
    compat.forget_compiled()
    compiled(torch.ones(2))
    assert len(traces) == 2


def sequential(milestones: list[int], *, rename: str | None = None) -> SequentialLR:
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)
    parts = [ConstantLR(optimizer, factor, total_iters=100) for factor in (0.1, 1.0, 0.5)]
    made = SequentialLR(optimizer, parts, milestones=milestones)
    if rename:
        vars(made)["_renamed"] = vars(made).pop(rename)
    return made


def test_settings_of_schedulers_are_seen_under_another_name_too() -> None:
    def settings(*milestones: int, rename: str | None) -> dict:
        return compat.scheduler_settings(sequential(list(milestones), rename=rename), with_step_counts=True)

    for rename in (None, "_milestones"):
        assert settings(2, 4, rename=rename) == settings(2, 4, rename=rename)
        assert settings(2, 4, rename=rename) != settings(2, 5, rename=rename)
    assert compat.inner_schedulers(sequential([2, 4], rename="_schedulers")) is None
    assert len(compat.inner_schedulers(sequential([2, 4]))) == 3
    assert compat.inner_schedulers(torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(1)]), 1)) == ()


class Scheduled(Net):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        parts = [ConstantLR(optimizer, factor, total_iters=100) for factor in (0.1, 1.0)]
        scheduler = SequentialLR(optimizer, parts, milestones=[1])
        vars(scheduler)["_renamed"] = vars(scheduler).pop("_schedulers")
        return [optimizer], [scheduler]


def test_another_rate_is_refused_where_inner_schedulers_are_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="another lr under SequentialLR does not go with torch"):
        Trainer(**QUIET, callbacks=[LearningRate(0.5)]).fit(Scheduled(), loader(num_workers=0))

"""What happens with an Opacus that lacks something inside: private training is refused before its first step."""

from __future__ import annotations

import importlib
import logging
import sys

import opacus
import pytest

from lightning_memaudit.compat.opacus import check_private_steps, privacy_losses, renyi_divergence
from lightning_memaudit.exceptions import ConfigurationError
from tests.unit.callbacks.dp.toys import Net, fit, private

PARTS = [
    ("opacus.grad_sample", "GradSampleHooksFastGradientClipping"),
    ("opacus.grad_sample.functorch", "prepare_layer"),
    ("opacus.layers.dp_rnn", "RNNLinear"),
    ("opacus.layers.dp_rnn", "DPGRU"),
    ("opacus.validators", "ModuleValidator"),
    ("opacus.optimizers", "DPOptimizer"),
    ("opacus.accountants.analysis.prv", "compose_heterogeneous"),
    ("opacus.accountants.analysis.prv", "Domain"),
    ("opacus.accountants.analysis.rdp", "compute_rdp"),
]
TABLES = [
    ("opacus.grad_sample", "GradSampleHooksFastGradientClipping", "NORM_SAMPLERS"),
    ("opacus.validators", "ModuleValidator", "FIXERS"),
    ("opacus.optimizers", "DPOptimizer", "add_noise"),
]


@pytest.mark.parametrize(("module", "name"), PARTS)
def test_private_training_is_refused(module, name, monkeypatch) -> None:
    check_private_steps()
    monkeypatch.delattr(importlib.import_module(module), name)
    model = Net()
    expected = f"differential privacy does not go with opacus {opacus.__version__}, which has no {name} in {module}"
    with pytest.raises(ConfigurationError, match=expected):
        fit(model, private())
    assert model.seen == []


@pytest.mark.parametrize(("module", "owner", "name"), TABLES)
def test_private_training_is_refused_without_a_table_or_method(module, owner, name, monkeypatch) -> None:
    monkeypatch.delattr(getattr(importlib.import_module(module), owner), name)
    with pytest.raises(ConfigurationError, match=f"which has no {name} in {owner}"):
        fit(Net(), private())


def test_private_training_is_refused_without_a_module(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus.layers.dp_rnn", None)
    with pytest.raises(ConfigurationError, match=r"opacus \S+, which has no layers\.dp_rnn in opacus"):
        check_private_steps()


def test_figures_are_refused_too(monkeypatch) -> None:
    monkeypatch.delattr(importlib.import_module("opacus.accountants.analysis.prv"), "discretize")
    with pytest.raises(ConfigurationError, match="has no discretize"):
        privacy_losses()
    monkeypatch.delattr(importlib.import_module("opacus.accountants.analysis.rdp"), "compute_rdp")
    with pytest.raises(ConfigurationError, match="has no compute_rdp"):
        renyi_divergence(sample_rate=0.1, noise_multiplier=1.0, orders=(2.0, 3.0))


def test_no_handler_stays_on_the_root_logger() -> None:
    before = logging.root.handlers[:]
    check_private_steps()
    assert logging.root.handlers == before

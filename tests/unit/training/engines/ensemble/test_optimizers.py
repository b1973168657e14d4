"""Steps of stacked parameters are those of each model by itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

from lightning_memaudit.training.engines.ensemble.optimizers import clip_per_model, step_stacked
from lightning_memaudit.training.engines.ensemble.stack import Stack
from lightning_memaudit.training.engines.in_memory.support import Unsupported

CPU = torch.device("cpu")
ELEMENTWISE = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "sgd, all options": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "sgd, dampening and maximize": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True}),
    "adam": (optim.Adam, {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True}),
    "adam, foreach": (optim.Adam, {"lr": 0.1, "foreach": True}),
    "adamw": (optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}),
    "adamw, tensor lr": (optim.AdamW, {"lr": torch.tensor(0.1)}),
    "nadam": (optim.NAdam, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "radam": (optim.RAdam, {"lr": 0.1}),
    "adamax": (optim.Adamax, {"lr": 0.1}),
    "adadelta": (optim.Adadelta, {"lr": 1.0}),
    "rmsprop": (optim.RMSprop, {"lr": 0.1, "momentum": 0.9, "centered": True}),
}


def modules(n: int = 3) -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)) for _ in range(n)]


def gradients(stack: Stack, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(p.shape, generator=generator) for name, p in stack.parameters.items()}


@pytest.mark.parametrize("may_fuse", [True, False])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_stacked_steps_are_the_steps_of_each(name, may_fuse) -> None:
    kind, options = ELEMENTWISE[name]
    each = modules()
    stack = Stack.of(each, CPU)
    optimizers = [kind(module.parameters(), **options) for module in each]
    stacked = kind(each[0].parameters(), **options)
    step_stacked(stacked, each[0], stack, may_fuse=may_fuse)
    for step in range(8):
        for part, gradient in gradients(stack, step).items():
            stack.parameters[part].grad = gradient
            for k, module in enumerate(each):
                module.get_parameter(part).grad = gradient[k].clone()
        for optimizer in [*optimizers, stacked]:
            optimizer.step()
    for k, module in enumerate(each):
        for part, parameter in module.named_parameters():
            torch.testing.assert_close(stack.member(k)[part], parameter.detach(), rtol=1e-5, atol=1e-6)


def test_groups_keep_their_parameters_and_options() -> None:
    """The groups are made of a module of its own, so that rules on dimensions see one model's shapes."""
    each = modules()
    stack = Stack.of(each, CPU)
    matrices, vectors = ([p for p in each[0].parameters() if p.ndim == ndim] for ndim in (2, 1))
    optimizer = optim.AdamW([{"params": vectors, "weight_decay": 0.0}, {"params": matrices, "lr": 0.5}], lr=0.1)
    step_stacked(optimizer, each[0], stack, may_fuse=True)
    first, second = optimizer.param_groups
    for group, names in ((first, ("0.bias", "1.bias")), (second, ("0.weight", "1.weight"))):
        assert [id(parameter) for parameter in group["params"]] == [id(stack.parameters[name]) for name in names]
    assert (first["weight_decay"], first["lr"], second["lr"]) == (0.0, 0.1, 0.5)
    assert first["fused"]
    assert second["fused"]


@pytest.mark.parametrize(
    ("kind", "options", "may_fuse", "fused"),
    [
        (optim.SGD, {}, True, True),
        (optim.SGD, {}, False, None),
        (optim.SGD, {"fused": False}, True, False),
        (optim.SGD, {"foreach": True}, True, None),
        (optim.Adam, {"capturable": True}, True, None),
        (optim.RMSprop, {}, True, None),
    ],
)
def test_steps_are_fused_where_the_user_left_it_open(kind, options, may_fuse, fused) -> None:
    each = modules(2)
    optimizer = kind(each[0].parameters(), lr=0.1, **options)
    step_stacked(optimizer, each[0], Stack.of(each, CPU), may_fuse=may_fuse)
    assert optimizer.param_groups[0].get("fused") is fused


class OwnSgd(optim.SGD):
    pass


def with_state(parameters) -> optim.Optimizer:
    optimizer = optim.SGD(parameters, lr=0.1, momentum=0.9)
    optimizer.state[next(iter(optimizer.param_groups[0]["params"]))]["momentum_buffer"] = torch.zeros(1)
    return optimizer


def with_hook(parameters) -> optim.Optimizer:
    optimizer = optim.SGD(parameters, lr=0.1)
    optimizer.register_step_post_hook(lambda *_: None)
    return optimizer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.LBFGS(p), "optimizer LBFGS, which may not treat"),
        (lambda p: optim.Adafactor(p), "optimizer Adafactor, which may not treat"),
        (lambda p: optim.Adagrad(p), "optimizer Adagrad, which may not treat"),
        (lambda p: OwnSgd(p, lr=0.1), "optimizer OwnSgd, which may not treat"),
        (with_state, "optimizer SGD with state or hooks"),
        (with_hook, "optimizer SGD with state or hooks"),
        (lambda p: optim.SGD([*p, torch.zeros(2, requires_grad=True)], lr=0.1), "1 optimized tensors that are not"),
    ],
)
def test_optimizers_that_may_be_wrong_on_a_stack_are_refused(make, message) -> None:
    each = modules(2)
    with pytest.raises(Unsupported, match=message):
        step_stacked(make(each[0].parameters()), each[0], Stack.of(each, CPU), may_fuse=True)


@settings(max_examples=60, deadline=None)
@given(
    value=st.one_of(st.none(), st.floats(-1, 0), st.floats(0.01, 50)),
    algorithm=st.sampled_from([None, "norm", "value"]),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 2**20),
)
def test_clipping_is_that_of_each_model(value, algorithm, scale, seed) -> None:
    each = modules()
    stack = Stack.of(each, CPU)
    parts = gradients(stack, seed)
    parts["0.bias"][1] = 0
    for part, gradient in parts.items():
        stack.parameters[part].grad = scale * gradient
        for k, module in enumerate(each):
            module.get_parameter(part).grad = scale * gradient[k]
    stack.parameters["1.bias"].grad = None
    clip_per_model(stack.parameters.values(), value, algorithm)
    for k, module in enumerate(each):
        module.get_parameter("1.bias").grad = None
        if value is not None and value > 0:
            clip = nn.utils.clip_grad_value_ if algorithm == "value" else nn.utils.clip_grad_norm_
            clip(module.parameters(), value)
        for part, parameter in module.named_parameters():
            if part != "1.bias":
                torch.testing.assert_close(stack.parameters[part].grad[k], parameter.grad, rtol=1e-5, atol=1e-7)
    assert stack.parameters["1.bias"].grad is None


def test_a_diverged_model_does_not_touch_the_others() -> None:
    stack = Stack.of(modules(2), CPU)
    for parameter in stack.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    stack.parameters["0.weight"].grad[0, 0, 0] = torch.nan
    clip_per_model(stack.parameters.values(), 0.1, "norm")
    for parameter in stack.parameters.values():
        assert parameter.grad[0].isnan().all()
        assert parameter.grad[1].isfinite().all()


def test_nothing_to_clip() -> None:
    clip_per_model(Stack.of(modules(2), CPU).parameters.values(), 1.0, "norm")

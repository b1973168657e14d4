"""Pooling in channels-last format gives what pooling gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from lightning_memaudit.training.engines.ensemble.pooling import ChannelsLastPooling

POOL = torch.ops.aten.max_pool2d_with_indices.default


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**16),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    dilation=st.integers(1, 2),
    ceil_mode=st.booleans(),
    special=st.sampled_from([None, 0.0, float("nan"), -float("inf")]),
)
def test_values_and_indices_are_equal(seed, kernel, stride, padding, dilation, ceil_mode, special) -> None:
    """Also where several values of a window are the largest, as zeros are after ReLU."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-2, 3, (3, 5, 7, 6), generator=generator).float()
    if special is not None:
        x[torch.rand(x.shape, generator=generator) < 0.3] = special
    arguments = ([kernel] * 2, [stride] * 2, [min(padding, kernel // 2)] * 2, [dilation] * 2, ceil_mode)
    with ChannelsLastPooling():
        values, indices = POOL(x, *arguments)
    expected, expected_indices = POOL(x, *arguments)
    assert torch.equal(values.nan_to_num(9.0), expected.nan_to_num(9.0))
    assert torch.equal(indices, expected_indices)
    assert values.is_contiguous()
    assert indices.is_contiguous()


@pytest.mark.parametrize("shape", [(4, 6, 6), (2, 4, 6, 6)])
def test_gradients_of_a_trace_are_equal(shape) -> None:
    def loss(x):
        return (torch.nn.functional.max_pool2d(x.relu(), 2) ** 2).sum()

    def traced(x):
        with ChannelsLastPooling():
            return vmap(grad(loss))(x)

    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    graph = make_fx(traced)(x)
    formats = [node.kwargs.get("memory_format") for node in graph.graph.nodes]
    assert torch.channels_last in formats
    y = torch.randn_like(x)
    assert torch.equal(graph(y), vmap(grad(loss))(y))

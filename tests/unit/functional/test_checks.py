"""Conversion and shape checks: every message names the argument, what was wrong and what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional import checks


@pytest.mark.parametrize(
    "value",
    [
        [[1, 0]],
        np.array([[1, 0]], dtype=np.uint8),
        torch.tensor([[1, 0]]),
        torch.tensor([[1.0, 0.0]], requires_grad=True),
    ],
)
def test_as_array_accepts_what_users_have(value) -> None:
    array = checks.as_array(value, name="x", ndim=2)
    assert array.dtype == np.float64
    assert array.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("/a/long/path" * 20, repr("/a/long/path" * 20)),
        (object(), "<object>"),
        (lambda: 0, "<function>"),
        ([1] * 100, f"{str([1] * 100)[:76]} ..."),
        (torch.zeros(2, 3, dtype=torch.bfloat16), "bfloat16[2, 3]"),
        (np.array(1.5), "1.5"),
        (torch.nn.Sequential(torch.nn.ReLU()), "Sequential( (0): ReLU() )"),
        ("at 0xf", "'at 0xf'"),
    ],
)
def test_values_in_messages(value, text) -> None:
    assert checks.shown(value) == text


def test_as_array_keeps_type_and_takes_bfloat16() -> None:
    assert checks.as_array(np.array([True]), name="x", dtype=None).dtype == np.bool_
    assert checks.as_array(torch.ones(2, dtype=torch.bfloat16), name="x", dtype=None).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: checks.as_array(["a"], name="groups"), ["groups", "numbers"]),
        (lambda: checks.as_array([[1], [1, 2]], name="x"), ["x=", "array of numbers"]),
        (lambda: checks.as_array([1, 2], name="correct", ndim=2), ["correct=float64[2]: an array of 2 dimension"]),
        (lambda: checks.as_correct(np.ones((1, 3))), ["correct=float64[1, 3]: ", "at least 2 models"]),
        (lambda: checks.as_correct([[0.0, 1.5], [0, 0]]), ["correct[0, 1]=1.5: ", "[0, 1]"]),
        (lambda: checks.as_outcomes(np.ones((3, 2)), np.ones((3, 4))), ["mask=float64[3, 4]: ", "[3, 2]"]),
        (lambda: checks.as_mask([[2, 0]], n_models=1), ["mask[0, 0]=2: ", "0 and 1"]),
        (lambda: checks.as_indices([0, 1], name="groups", size=3), ["groups=int64[2]: 3 whole numbers"]),
        (lambda: checks.as_indices([0.5], name="groups", size=1), ["groups", "whole numbers"]),
        (lambda: checks.as_indices([np.nan], name="groups", size=1), ["groups", "whole numbers"]),
        (lambda: checks.as_indices([0, 5], name="groups", size=2, upper=3), ["groups[1]=5: ", "[0, 3)"]),
        (lambda: checks.as_blocks([1, 1], 2), ["blocks", "at least 2"]),
        (lambda: checks.as_probability(1.0, name="level"), ["level=1.0: a number in (0, 1)"]),
        (lambda: checks.as_positive_int(0, name="top_k"), ["top_k=0: a whole number of at least 1"]),
        (lambda: checks.as_positive_int(True, name="top_k"), ["top_k", "True"]),
    ],
)
def test_messages_name_the_argument(call, words) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value


def test_nan_is_allowed_in_correct() -> None:
    assert np.isnan(checks.as_correct([[np.nan, 1.0], [np.nan, 0.0]])).sum() == 2


def test_fractional_is_told_from_binary() -> None:
    assert not checks.is_fractional(np.array([[0, 1]]))
    assert not checks.is_fractional(np.array([[0.0, 1.0, np.nan]]))
    assert checks.is_fractional(np.array([[0.25]]))

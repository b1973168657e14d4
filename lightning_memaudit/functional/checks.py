"""Conversion of arguments to numpy arrays, and errors of one grammar: ``argument=value: what is needed``."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lightning_memaudit.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

Array: TypeAlias = "ArrayLike | torch.Tensor"
FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
MOST_SAMPLES = 10**10
_MOST_CHARACTERS = 80

Choice = TypeVar("Choice")


def shown(value: object) -> str:
    """Text of a value for a message.

    Args:
        value: Any object.

    Returns:
        An array or tensor as its type and shape, a scalar as its number, an object whose repr is its address as the
        name of its type, the rest as its repr; shortened when long, but for text such as a path.

    Example:
        >>> shown(np.zeros((3, 2))), shown(np.float64(1.2)), shown("one"), len(shown(["one"] * 100))
        ('float64[3, 2]', '1.2', "'one'", 80)
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(value, np.generic) or (shape == () and isinstance(value, np.ndarray)):
        value = value.item()
    elif isinstance(shape, tuple) and dtype is not None:
        return f"{str(dtype).removeprefix('torch.')}[{', '.join(map(str, shape))}]"
    text = repr(value) if isinstance(value, str) else " ".join(repr(value).split())
    if text.startswith("<") and " at 0x" in text:
        return f"<{type(value).__name__}>"
    return text if isinstance(value, str) or len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 4]} ..."


def argument_error(name: str, value: object, needed: str) -> ArgumentError:
    """The error of an argument that cannot be used.

    Args:
        name: Name of the argument.
        value: What was passed.
        needed: What is needed instead.

    Returns:
        The error, to be raised.

    Example:
        >>> print(argument_error("subset_fraction", 1.2, "a number in (0, 1) is needed"))
        subset_fraction=1.2: a number in (0, 1) is needed
    """
    return ArgumentError(f"{name}={shown(value)}: {needed}")


def element_error(name: str, array: NDArray[Any], wrong: NDArray[np.bool_], needed: str) -> ArgumentError:
    """The error of an array of which an element cannot be used; the message shows the first such element.

    Args:
        name: Name of the argument.
        array: Its value, any shape.
        wrong: Which elements are at fault, of the same shape; at least one.
        needed: What is needed instead.

    Returns:
        The error, to be raised.

    Example:
        >>> print(element_error("counts", np.array([3, -1]), np.array([False, True]), "counts from 0 are needed"))
        counts[1]=-1: counts from 0 are needed
    """
    if not array.ndim:
        return argument_error(name, array, needed)
    index = tuple(np.argwhere(wrong)[0].tolist())
    return argument_error(f"{name}[{', '.join(map(str, index))}]", array[index], needed)


def as_choice(value: Choice, *, name: str, options: Sequence[Choice]) -> Choice:
    """Check that a value is one of several.

    Args:
        value: What the user passed.
        name: Name of the argument, for the message.
        options: What is possible.

    Returns:
        The value.

    Raises:
        ArgumentError: It is none of them.

    Example:
        >>> as_choice("bh", name="method", options=("holm", "bh"))
        'bh'
    """
    if value not in options:
        raise argument_error(name, value, f"one of {', '.join(map(repr, options))} is needed")
    return value


def as_threshold(value: float, *, name: str = "threshold") -> float:
    """Check a threshold of memorization or influence.

    Args:
        value: τ.
        name: Name of the argument, for the message.

    Returns:
        The value as a float.

    Raises:
        ArgumentError: It is not a number in (−1, 1).

    Example:
        >>> as_threshold(0.25)
        0.25
    """
    if not _is_number(value) or not -1 < value < 1:
        raise argument_error(name, value, "a number in (-1, 1) is needed, such as 0.25")
    return float(value)


def as_array(value: Array, *, name: str, ndim: int | None = None, dtype: DTypeLike | None = np.float64) -> NDArray[Any]:
    """Convert a numpy array, a sequence or a torch tensor on any device to a numpy array.

    Args:
        value: What the user passed.
        name: Name of the argument, for the message.
        ndim: Required number of dimensions; ``None`` for any.
        dtype: Type of the result; ``None`` keeps that of the value (bfloat16 becomes float32).

    Returns:
        The array; shares memory with ``value`` where it can.

    Raises:
        ArgumentError: The value is not numeric or has another number of dimensions.

    Example:
        >>> import torch
        >>> as_array(torch.tensor([1, 0]), name="correct", ndim=1)
        array([1., 0.])
    """
    torch = sys.modules.get("torch")  # a value can only be a tensor where that was imported
    if torch is not None and isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        value = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"its elements are of type {array.dtype}")
        array = array if dtype is None else array.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise argument_error(name, value, f"an array of numbers is needed ({error})") from error
    if ndim is not None and array.ndim != ndim:
        raise argument_error(name, array, f"an array of {ndim} dimension(s) is needed")
    return array


def as_probability(value: float, *, name: str) -> float:
    """Check that a scalar lies strictly between 0 and 1.

    Args:
        value: A level, a fraction or a power.
        name: Name of the argument, for the message.

    Returns:
        The value as a float.

    Raises:
        ArgumentError: It does not.

    Example:
        >>> as_probability(0.95, name="level")
        0.95
    """
    if not _is_number(value) or not 0 < value < 1:
        raise argument_error(name, value, "a number in (0, 1) is needed")
    return float(value)


def as_positive_int(value: int, *, name: str, minimum: int = 1) -> int:
    """Check that a scalar is a whole number and not below a minimum.

    Args:
        value: A count.
        name: Name of the argument, for the message.
        minimum: Smallest value allowed.

    Returns:
        The value as an int.

    Raises:
        ArgumentError: It is not.

    Example:
        >>> as_positive_int(3, name="top_k")
        3
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise argument_error(name, value, f"a whole number of at least {minimum} is needed")
    return int(value)


def as_correct(value: Array, *, name: str = "correct", min_models: int = 2) -> NDArray[Any]:
    """Check outcomes: one row a model, one column an example, in [0, 1] or NaN.

    Args:
        value: Outcomes [M, n], 0/1 or the fraction of tokens that were right.
        name: Name of the argument, for the message.
        min_models: Smallest M allowed.

    Returns:
        The array [M, n] in the type that it came in.

    Raises:
        ArgumentError: Wrong shape, too few models, or values outside [0, 1].

    Example:
        >>> as_correct([[1, 0], [0, 1]]).shape
        (2, 2)
    """
    correct = as_array(value, name=name, ndim=2, dtype=None)
    if correct.shape[0] < min_models:
        raise argument_error(name, correct, f"outcomes of at least {min_models} models (rows) are needed")
    if correct.dtype.kind != "b" and correct.size:
        low, high = np.fmin.reduce(correct, axis=None), np.fmax.reduce(correct, axis=None)
        if low < 0 or high > 1:
            needed = "accuracies in [0, 1] are needed, NaN for an example without a score, no logits or losses"
            raise element_error(name, correct, (correct < 0) | (correct > 1), needed)
    return correct


def as_mask(value: Array, *, n_models: int, n_examples: int | None = None, name: str = "mask") -> BoolArray:
    """Check a membership mask: true where the example was in the model's subset.

    Args:
        value: Mask [M, n], boolean or 0/1.
        n_models: M, the number of rows that the outcomes have.
        n_examples: n where it is known; ``None`` for any.
        name: Name of the argument, for the message.

    Returns:
        The boolean mask [M, n].

    Raises:
        ArgumentError: Another shape, or values other than 0 and 1.

    Example:
        >>> as_mask([[1, 0]], n_models=1)
        array([[ True, False]])
    """
    mask = as_array(value, name=name, ndim=2, dtype=None)
    expected = (n_models, mask.shape[1] if n_examples is None else n_examples)
    if mask.shape != expected:
        raise argument_error(name, mask, f"shape {list(expected)} is needed: models and examples as in the outcomes")
    if mask.dtype.kind == "b":
        return mask
    wrong = ~((mask == 0) | (mask == 1))
    if wrong.any():
        raise element_error(name, mask, wrong, "truth values, or 0 and 1, are needed")
    return mask.astype(np.bool_)


def as_outcomes(
    correct: Array, mask: Array, *, min_models: int = 2, name: str = "correct"
) -> tuple[NDArray[Any], BoolArray]:
    """Check outcomes of the training examples together with their mask.

    Args:
        correct: Outcomes [M, n] in [0, 1] or NaN.
        mask: Membership [M, n].
        min_models: Smallest M allowed.
        name: Name of the outcomes, for the message.

    Returns:
        Both as arrays of one shape.

    Raises:
        ArgumentError: Either is malformed or the shapes differ.

    Example:
        >>> correct, mask = as_outcomes([[1, 0], [0, 1]], [[1, 0], [0, 1]])
        >>> mask.dtype
        dtype('bool')
    """
    outcomes = as_correct(correct, name=name, min_models=min_models)
    return outcomes, as_mask(mask, n_models=outcomes.shape[0], n_examples=outcomes.shape[1])


def as_indices(value: Array, *, name: str, size: int, upper: int | None = None) -> IntArray:
    """Check a vector of integer codes such as groups, labels or blocks.

    Args:
        value: Codes [size].
        name: Name of the argument, for the message.
        size: Required length.
        upper: When given, every code must lie in [0, upper).

    Returns:
        The codes as int64.

    Raises:
        ArgumentError: Another length, values that are not whole numbers, or codes out of range.

    Example:
        >>> as_indices([0, 2, 1], name="groups", size=3, upper=3)
        array([0, 2, 1])
    """
    codes = as_array(value, name=name, ndim=1, dtype=None)
    if codes.shape[0] != size:
        raise argument_error(name, codes, f"{size} whole numbers are needed")
    wrong = ~np.isfinite(codes) | (codes != np.floor(codes))
    if wrong.any():
        raise element_error(name, codes, wrong, "whole numbers are needed")
    whole = codes.astype(np.int64)
    if upper is not None and size and (whole.min() < 0 or whole.max() >= upper):
        raise element_error(name, whole, (whole < 0) | (whole >= upper), f"whole numbers in [0, {upper}) are needed")
    return whole


def as_blocks(blocks: Array | None, n_models: int) -> IntArray:
    """Number the blocks of models that belong together, from 0 without gaps.

    Args:
        blocks: Block of each model [M], such as ``model_id // 2`` for a paired design; ``None``: each model alone.
        n_models: M.

    Returns:
        Block numbers [M].

    Raises:
        ArgumentError: Another length, or fewer than two blocks.

    Example:
        >>> as_blocks([7, 7, 9, 9], 4)
        array([0, 0, 1, 1])
    """
    if blocks is None:
        return np.arange(n_models)
    codes: IntArray = np.unique(as_indices(blocks, name="blocks", size=n_models), return_inverse=True)[1].astype(
        np.int64
    )
    if codes.max(initial=-1) < 1:
        raise argument_error("blocks", codes, f"at least 2 blocks are needed, and all {n_models} models are in one")
    return codes


def is_fractional(correct: NDArray[Any]) -> bool:
    """Tell whether outcomes hold anything but 0, 1 and NaN.

    Args:
        correct: Outcomes, as ``as_correct`` returns them.

    Returns:
        True when some finite value lies strictly between 0 and 1.

    Example:
        >>> is_fractional(np.array([[0.0, 1.0, np.nan]])), is_fractional(np.array([[0.5]]))
        (False, True)
    """
    return correct.dtype.kind == "f" and bool(((correct > 0) & (correct < 1)).any())


def as_number(value: float, *, name: str, least: float = 0.0, most: float = math.inf) -> float:
    """Check that a scalar lies in a closed range.

    Args:
        value: A number; infinite only where ``most`` is.
        name: Name of the argument, for the message.
        least: Smallest value allowed.
        most: Largest value allowed.

    Returns:
        The value as a float.

    Raises:
        ArgumentError: It is no number, NaN or out of range.

    Example:
        >>> as_number(1, name="gamma", most=1.0)
        1.0
    """
    if not _is_number(value) or not least <= value <= most:
        limits = f"of at least {least:g}" if math.isinf(most) else f"in [{least:g}, {most:g}]"
        raise argument_error(name, value, f"a number {limits} is needed")
    return float(value)


def as_samples(n_samples: int, *, minimum: int = 1) -> int:
    """Check a number of samples n.

    Args:
        n_samples: n.
        minimum: Smallest n allowed.

    Returns:
        n as an int.

    Raises:
        ArgumentError: Not a whole number from ``minimum`` to 1e10, up to which the sums keep their digits.

    Example:
        >>> as_samples(50_000)
        50000
    """
    samples = as_positive_int(n_samples, name="n_samples", minimum=minimum)
    if samples > MOST_SAMPLES:
        raise argument_error("n_samples", n_samples, "at most 1e10 is needed, beyond which the sums lose their digits")
    return samples


def as_ell(ell: Array, *, n_samples: int) -> IntArray:
    """Check how often a point was seen.

    Args:
        ell: ℓ, whole numbers in [0, n], any shape.
        n_samples: n.

    Returns:
        ℓ as int64.

    Raises:
        ArgumentError: A value is not a whole number or lies outside [0, n].

    Example:
        >>> as_ell([0, 1], n_samples=10)
        array([0, 1])
    """
    counts = as_array(ell, name="ell", dtype=None)
    wrong = ~((counts >= 0) & (counts <= n_samples) & (counts == np.floor(counts)))
    if wrong.any():
        raise element_error("ell", counts, wrong, f"whole numbers in [0, n_samples={n_samples}] are needed")
    return counts.astype(np.int64)


def as_counts(counts: Array) -> IntArray:
    """Check how often each of several points was seen.

    Args:
        counts: Whole numbers of at least 0 [P], not all 0.

    Returns:
        The counts as int64.

    Raises:
        ArgumentError: There is none, one is negative, missing or no whole number, or all are 0.

    Example:
        >>> as_counts([2, 0, 1])
        array([2, 0, 1])
    """
    values = as_array(counts, name="counts", ndim=1, dtype=None)
    wrong = ~((values >= 0) & np.isfinite(values) & (values == np.floor(values)))
    if wrong.any():
        raise element_error("counts", values, wrong, "whole numbers of at least 0 are needed")
    if not values.any():
        raise argument_error("counts", values, "at least one number above 0 is needed")
    return values.astype(np.int64)


def divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, with NaN (and no warning) where the denominator is not positive.

    Args:
        numerator: Any shape.
        denominator: Broadcastable to it.

    Returns:
        The quotient, float64.

    Example:
        >>> divide(np.array([1.0, 1.0]), np.array([2.0, 0.0]))
        array([0.5, nan])
    """
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    quotient: FloatArray = np.full(shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator > 0))
    return quotient


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)

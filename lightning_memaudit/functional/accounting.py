"""What noisy steps on Poisson samples spend of a privacy budget, and the noise that a budget asks for.

Neighbours differ by one example added or removed. The privacy loss is composed numerically (Gopi, Lee and Wutschitz
2021, "Numerical composition of differential privacy") with the distributions of ``opacus.accountants``; every figure is
an upper bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import brentq

from lightning_memaudit.compat.opacus import privacy_losses, renyi_divergence
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.checks import argument_error, as_positive_int, as_probability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "NOISE_RANGE",
    "Mechanism",
    "NoisySteps",
    "affordable_steps",
    "epsilon_spent",
    "noise_multiplier",
]

NOISE_RANGE = (0.05, 1e4)
_ORDERS = (1.1, 1.2, 1.3, 1.5, 1.75, *range(2, 33), 40, 48, 64, 96, 128, 256, 512, 1024)
_LARGE = 256.0  # above it the Rényi bound is good enough: exp of twice as much overflows
_ERRORS = (0.001, 0.01)  # absolute error of epsilon at the least and at most, added to the figure; 1 % in between
_DELTA_ERROR = 1e-3  # relative
_MAX_POINTS = 2**21
_AIM, _STEP = 0.998, 5e-4  # the share of the target that the search for the noise aims at, and its last steps


class NoisySteps(NamedTuple):
    """Steps that were taken alike.

    Attributes:
        noise_multiplier: Standard deviation of the noise over the clip norm.
        sample_rate: Probability that an example enters the batch of a step.
        steps: How many.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int


@dataclass(frozen=True, slots=True)
class Mechanism:
    """What DP-SGD does in each step; it must be the same whichever examples there are.

    Attributes:
        noise_multiplier: Standard deviation of the noise over ``max_grad_norm``.
        max_grad_norm: Norm to which the gradient of each example is clipped.
        sample_rate: Probability that an example enters the batch of a step.
        expected_batch_size: What the noisy sum is divided by.
        steps: Steps planned; None where there is no end.
    """

    noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    expected_batch_size: float
    steps: int | None


def epsilon_spent(history: Iterable[NoisySteps | tuple[float, float, int]], target_delta: float) -> float:
    """The ε that noisy steps on Poisson samples have spent, one example being added or removed.

    Args:
        history: The steps.
        target_delta: δ.

    Returns:
        An upper bound, at most 0.01 (or 1 %) above the exact figure where that is below about 50. Infinite when a step
        had no noise.

    Raises:
        ArgumentError: A figure out of range.

    Example:
        >>> round(epsilon_spent([NoisySteps(1.0, 0.05, 400)], 1e-5), 2)
        6.71
        >>> epsilon_spent([], 1e-5), epsilon_spent([NoisySteps(0.0, 0.05, 1)], 1e-5)
        (0.0, inf)
    """
    return _spent(_checked(history), as_probability(target_delta, name="target_delta"))


def noise_multiplier(
    target_epsilon: float,
    target_delta: float,
    *,
    sample_rate: float,
    steps: int,
    history: Iterable[NoisySteps | tuple[float, float, int]] = (),
) -> float:
    """The least noise with which ``steps`` further steps stay within a budget.

    Args:
        target_epsilon: The budget.
        target_delta: Its δ.
        sample_rate: Probability that an example enters the batch of a step.
        steps: Steps to come.
        history: Steps taken before, on the same data.

    Returns:
        The noise multiplier; with it 99 to 100 % of the budget is spent (for budgets up to about 50).

    Raises:
        ArgumentError: A figure out of range, or no noise within ``NOISE_RANGE`` meets the budget.

    Example:
        >>> round(noise_multiplier(3.0, 1e-5, sample_rate=0.05, steps=400), 2)
        1.63
    """
    target = _positive(target_epsilon, name="target_epsilon")
    as_probability(target_delta, name="target_delta")
    before, more = _checked(history), _checked([(1.0, sample_rate, as_positive_int(steps, name="steps"))])[0]
    low, high = NOISE_RANGE

    def spent(noise: float) -> float:
        return _spent((*before, more._replace(noise_multiplier=noise)), target_delta)

    if spent(high) > target:
        used = _spent(before, target_delta)
        raise ArgumentError(
            f"target_epsilon={target:g}: no noise_multiplier up to {high:g} keeps {steps} steps at "
            f"sample_rate={more.sample_rate:.3g} within it at target_delta={target_delta:g}"
            + (f", since {used:.3g} is spent already" if used else "")
            + "; raise target_epsilon, or take fewer steps or smaller batches"
        )
    if spent(low) <= target:
        raise ArgumentError(
            f"target_epsilon={target:g}: {steps} steps spend only {spent(low):.3g} with hardly any noise "
            f"(noise_multiplier={low:g}); lower target_epsilon, or set noise_multiplier yourself"
        )
    return _least_noise(target, float(target_delta), before, more)


def affordable_steps(
    target_epsilon: float,
    target_delta: float,
    *,
    noise_multiplier: float,
    sample_rate: float,
    at_most: int,
    history: Iterable[NoisySteps | tuple[float, float, int]] = (),
) -> int:
    """How many further steps a budget allows.

    Args:
        target_epsilon: The budget.
        target_delta: Its δ.
        noise_multiplier: Noise of the steps to come.
        sample_rate: Probability that an example enters the batch of a step.
        at_most: Where to stop counting.
        history: Steps taken before, on the same data.

    Returns:
        A number from 0 to ``at_most``.

    Raises:
        ArgumentError: A figure out of range.

    Example:
        >>> affordable_steps(3.0, 1e-5, noise_multiplier=1.0, sample_rate=0.05, at_most=400)
        67
    """
    target = _positive(target_epsilon, name="target_epsilon")
    as_probability(target_delta, name="target_delta")
    at_most = as_positive_int(at_most, name="at_most", minimum=0)
    before, more = _checked(history), _checked([(noise_multiplier, sample_rate, 1)])[0]

    def fits(count: int) -> bool:
        return _spent((*before, more._replace(steps=count)) if count else before, target_delta) <= target

    if fits(at_most):
        return at_most
    low, high = 0, 1
    while high < at_most and fits(high):
        low, high = high, 2 * high
    high = min(high, at_most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@lru_cache(maxsize=64)  # every model of an arm asks for the same
def _least_noise(target: float, delta: float, before: tuple[NoisySteps, ...], more: NoisySteps) -> float:
    def excess(log_noise: float, spent: Callable[[tuple[NoisySteps, ...], float], float]) -> float:
        epsilon = spent((*before, more._replace(noise_multiplier=math.exp(log_noise))), delta)
        return math.log(max(epsilon, 1e-9) / (_AIM * target))

    low, high = (math.log(end) for end in NOISE_RANGE)
    if excess(high, _renyi_epsilon) < 0 < excess(low, _renyi_epsilon):  # cheap, and seldom far off
        high = brentq(excess, low, high, xtol=_STEP, args=(_renyi_epsilon,)) + 2 * _STEP
        low = max(low, high - 1)
    noise = math.exp(brentq(excess, low, high, xtol=_STEP / 4, args=(_spent,)))
    while _spent((*before, more._replace(noise_multiplier=noise)), delta) > target:
        noise *= 1 + _STEP
    return noise


@lru_cache(maxsize=4096)
def _spent(history: tuple[NoisySteps, ...], delta: float) -> float:
    if not history:
        return 0.0
    if any(part.noise_multiplier == 0 for part in history):
        return math.inf
    bound = _renyi_epsilon(history, delta)
    if bound == 0 or not bound <= _LARGE:
        return bound
    try:
        return min(bound, max(0.0, _numerical_epsilon(history, delta, bound)))
    except (RuntimeError, ValueError):  # Opacus: the grid is too coarse, or floating-point errors would dominate
        return bound


def _numerical_epsilon(history: tuple[NoisySteps, ...], delta: float, bound: float) -> float:
    """``PRVAccountant.get_epsilon`` on grids of 2^k points, which serve histories of many lengths."""
    delta_error = _DELTA_ERROR * delta
    total = 2.0 ** math.ceil(math.log2(sum(part.steps for part in history)))
    single = [_renyi_epsilon((part._replace(steps=1),), delta_error / (8 * total)) for part in history]
    reach = max(_renyi_epsilon(history, delta_error / 4), *single) + 3  # Remark 5.6
    error = min(max(2.0 ** math.floor(math.log2(bound)) / 100, _ERRORS[0]), _ERRORS[1])
    mesh = error / math.sqrt(total * math.log(12 / delta_error) / 2)
    points = 2 ** math.ceil(math.log2(2 * reach / mesh + 4))
    if points > _MAX_POINTS:
        points, mesh = _MAX_POINTS, mesh * points / _MAX_POINTS
        error = mesh * math.sqrt(total * math.log(12 / delta_error) / 2)
    losses = [_one_step(part.noise_multiplier, part.sample_rate, points, mesh) for part in history]
    composed = privacy_losses().compose_heterogeneous(losses, [part.steps for part in history])
    return float(composed.compute_epsilon(delta, delta_error, error)[2])


@lru_cache(maxsize=4)
def _one_step(noise: float, sample_rate: float, points: int, mesh: float) -> Any:
    """The privacy loss of one step on a grid around 0."""
    prv = privacy_losses()
    last = points / 2 - 0.25  # rounds to points / 2, one more than on the other side, which the composition counts on
    domain = prv.Domain.create_aligned((1.25 - points / 2) * mesh, last * mesh, mesh)
    loss = prv.PoissonSubsampledGaussianPRV(sample_rate, noise)
    with np.errstate(divide="ignore"):  # log(1 - sample_rate) at a rate of 1
        return prv.discretize(prv.TruncatedPrivacyRandomVariable(loss, domain.t_min, domain.t_max), domain)


def _renyi_epsilon(history: tuple[NoisySteps, ...], delta: float) -> float:
    """The bound by Rényi divergences of integer orders (Balle et al. 2020, Theorem 21)."""
    orders = np.array(_ORDERS, float)
    divergence = sum(part.steps * _renyi(part.noise_multiplier, part.sample_rate) for part in history)
    return max(0.0, float(np.min(divergence - np.log(delta * orders) / (orders - 1) + np.log1p(-1 / orders))))


@lru_cache(maxsize=256)
def _renyi(noise: float, sample_rate: float) -> Any:
    return renyi_divergence(sample_rate=sample_rate, noise_multiplier=noise, orders=_ORDERS)


def _checked(history: Iterable[NoisySteps | tuple[float, float, int]]) -> tuple[NoisySteps, ...]:
    parts = [NoisySteps(*part) for part in history]
    for noise, rate, steps in parts:
        if not (math.isfinite(noise) and noise >= 0):
            raise argument_error("noise_multiplier", noise, "a number of at least 0 is needed, such as 1.0")
        if not 0 < rate <= 1:
            raise argument_error("sample_rate", rate, "a number in (0, 1] is needed: batch size over examples")
        as_positive_int(steps, name="steps", minimum=0)
    return tuple(NoisySteps(float(noise), float(rate), int(steps)) for noise, rate, steps in parts if steps)


def _positive(value: float, *, name: str) -> float:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not (math.isfinite(value) and value > 0):
        raise argument_error(name, value, "a positive number is needed, such as 3.0")
    return float(value)

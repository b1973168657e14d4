"""Coverage of the interval of a group's mean memorization, by simulation: many replications at once, one a group."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lightning_memaudit.functional.intervals import agresti_caffo
from lightning_memaudit.functional.memorization import grouped_memorization

MODERATE_IN, MODERATE_OUT = np.linspace(0.6, 0.8, 30), np.linspace(0.2, 0.6, 30)


def jackknife(correct, mask, size: int, blocks, level: float):
    """The plain delete-a-block jackknife, for comparison."""
    codes = np.arange(len(mask)) if blocks is None else blocks
    b = codes.max() + 1

    def by_block(x):
        return np.stack([x[codes == k].sum(0) for k in range(b)]).astype(np.float64)

    parts = [by_block(correct & mask), by_block(mask), by_block(correct & ~mask), by_block(~mask)]
    sum_in, n_in, sum_out, n_out = (part.sum(0) - part for part in parts)
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = np.nanmean((sum_in / n_in - sum_out / n_out).reshape(b, -1, size), axis=2)
    total_in, m_in, total_out, m_out = (part.sum(0) for part in parts)
    score = (total_in / m_in - total_out / m_out).reshape(-1, size).mean(1)
    half = stats.t.ppf(0.5 + level / 2, b - 1) * np.sqrt((b - 1) ** 2 / b * replicates.var(0, ddof=1))
    return np.maximum(score - half, -1), np.minimum(score + half, 1)


def simulate(n_models, size, p_in, p_out, *, kind="independent", paired=False, level=0.95, outcomes=1.6e6):
    """Coverage and mean width, new and plain jackknife. ``kind``: how members of a group go together in a model."""
    repeats = int(min(3000, outcomes / (n_models * size)))
    rng = np.random.default_rng(7)
    shape = (n_models, repeats, size)
    if paired:
        half = rng.random((n_models // 2, *shape[1:])) < 0.5
        mask = np.stack([half, ~half], axis=1).reshape(shape)
    else:
        mask = rng.random(shape) < 0.7
    shared = rng.standard_normal((n_models, repeats, 1))
    if kind == "identical":
        normal = np.broadcast_to(shared, shape)
    else:
        weight = {"independent": 0.0, "shared": 0.3, "opposed": 0.3}[kind]
        # "opposed": a model that is better on what it trained on is worse on the rest.
        sign = np.where(mask, 1, -1) if kind == "opposed" else 1
        normal = np.sqrt(weight) * sign * shared + np.sqrt(1 - weight) * rng.standard_normal(shape)
    p_in, p_out = np.broadcast_to(p_in, size), np.broadcast_to(p_out, size)
    correct = normal < np.where(mask, stats.norm.ppf(p_in), stats.norm.ppf(p_out))
    # A group that lacks an arm for one of its members is another group, with another mean.
    whole = (mask.any(0) & (~mask).any(0)).all(1) & (mask.sum(0) > 1).all(1) & ((~mask).sum(0) > 1).all(1)
    mask, correct = (x[:, whole].reshape(n_models, -1) for x in (mask, correct))
    codes = np.repeat(np.arange(whole.sum()), size)
    blocks = np.arange(n_models) // 2 if paired else None
    found = grouped_memorization(correct, mask, codes, n_groups=int(whole.sum()), level=level, blocks=blocks)
    truth = (p_in - p_out).mean()
    new, old = (found.low, found.high), jackknife(correct, mask, size, blocks, level)
    assert (new[0] <= old[0] + 1e-9).all()
    assert (new[1] >= old[1] - 1e-9).all()
    covered = [float(((low <= truth + 1e-12) & (truth - 1e-12 <= high)).mean()) for low, high in (new, old)]
    widths = [float((high - low).mean()) for low, high in (new, old)]
    error = np.sqrt(level * (1 - level) / whole.sum())
    print(
        f"M={n_models} n={size} in/out {np.mean(p_in):.3f}/{np.mean(p_out):.3f} {kind} paired={paired} level={level}: "
        f"coverage {covered[0]:.3f} (jackknife {covered[1]:.3f}), width {widths[0]:.4f} (x{widths[0] / widths[1]:.2f})"
    )
    return covered, widths, error


@pytest.mark.parametrize(
    ("n_models", "size", "p_in", "p_out", "jackknife_at_most"),
    [
        (50, 1, 0.99, 0.02, 0.55),
        (100, 1, 0.97, 0.02, 0.84),
        (50, 1, 0.95, 0.02, 0.92),
        (60, 3, 0.98, 0.02, 0.88),
        (60, 8, 0.98, 0.02, 0.94),
        (60, 20, 0.9, 0.1, 1.0),
        (60, 20, 0.995, 0.005, 0.93),
        (20, 3, 0.98, 0.02, 0.80),
        (200, 3, 0.99, 0.01, 0.92),
        (50, 1, 0.6, 0.4, 1.0),
    ],
)
def test_interval_covers_where_memorization_is_plain(n_models, size, p_in, p_out, jackknife_at_most) -> None:
    (new, old), _, error = simulate(n_models, size, p_in, p_out)
    assert new >= 0.94 - 2.5 * error
    assert old <= jackknife_at_most


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(
    ("n_models", "size", "p_in", "p_out", "kind"),
    [
        (60, 8, 0.98, 0.02, "identical"),
        (20, 8, 0.98, 0.02, "identical"),
        (200, 8, 0.995, 0.005, "identical"),
        (60, 20, 0.98, 0.02, "shared"),
        (60, 20, 0.9, 0.1, "opposed"),
        (60, 3, 0.98, 0.02, "independent"),
    ],
)
def test_interval_covers_when_members_go_together(n_models, size, p_in, p_out, kind, paired) -> None:
    (new, _), _, error = simulate(n_models, size, p_in, p_out, kind=kind, paired=paired)
    assert new >= 0.94 - 2.5 * error


@pytest.mark.parametrize("kind", ["independent", "shared"])
@pytest.mark.parametrize("n_models", [20, 60, 200])
def test_interval_stays_tight_for_large_moderate_groups(n_models, kind) -> None:
    (new, _), (width, before), error = simulate(n_models, 30, MODERATE_IN, MODERATE_OUT, kind=kind)
    assert 0.94 - 2.5 * error <= new <= 0.985
    assert width <= 1.06 * before


@pytest.mark.parametrize(
    ("n_models", "size", "p_in", "p_out", "kind"),
    [
        (50, 1, 0.99, 0.02, "independent"),
        (60, 8, 0.98, 0.02, "identical"),
        (60, 20, 0.9, 0.1, "shared"),
        (60, 30, MODERATE_IN, MODERATE_OUT, "independent"),
    ],
)
def test_interval_covers_at_the_levels_of_adaptive_stopping(n_models, size, p_in, p_out, kind) -> None:
    (new, _), (width, before), error = simulate(n_models, size, p_in, p_out, kind=kind, level=0.995)
    assert new >= 0.993 - 2.5 * error
    assert size < 20 or width <= 1.10 * before


@pytest.mark.parametrize("level", [0.95, 0.995])
def test_a_unanimous_group_is_as_wide_as_agresti_caffo_for_one(level) -> None:
    mask = np.arange(60)[:, None] % 3 > 0
    low, high = agresti_caffo(40, 40, 0, 20, level=level, pseudo_counts="level")
    for size in (1, 5, 50):
        outcomes = np.repeat(mask, size, axis=1)
        found = grouped_memorization(outcomes, outcomes, np.zeros(size, dtype=int), n_groups=1, level=level)
        assert found.score[0] == 1.0
        assert [found.low[0], found.high[0]] == pytest.approx([float(low), float(high)], abs=1e-9)


def test_a_group_of_one_holds_agresti_caffo_and_needs_no_second_model_in_an_arm() -> None:
    rng = np.random.default_rng(2)
    mask = rng.random((25, 40)) < 0.9
    correct = rng.random(mask.shape) < np.where(mask, 0.8, 0.2)
    found = grouped_memorization(correct, mask, np.arange(40), n_groups=40)
    n_in, n_out = mask.sum(0), (~mask).sum(0)
    low, high = agresti_caffo((correct & mask).sum(0), n_in, (correct & ~mask).sum(0), n_out, pseudo_counts="level")
    one, both = n_out == 1, n_out > 0
    assert one.any()
    assert (found.low <= low + 1e-9)[both].all()
    assert (found.high >= high - 1e-9)[both].all()
    assert np.isnan(found.low[~both]).all()


def test_fractions_have_a_floor_too() -> None:
    mask = np.arange(40)[:, None] % 2 > np.zeros(6)
    outcomes = np.where(mask, 0.9, 0.3)
    found = grouped_memorization(outcomes, mask, [0, 0, 0, 0, 0, 1], n_groups=3)
    assert found.score[:2] == pytest.approx([0.6, 0.6])
    assert (found.high - found.low)[:2].min() > 0.1
    assert np.isnan([found.low[2], found.high[2]]).all()

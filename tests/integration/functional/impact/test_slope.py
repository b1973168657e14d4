"""Drop against memorization: bias of the instrumented slope and of what it replaces, its interval, and the bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from lightning_memaudit.functional.impact import drop_by_memorization, memorization_slope
from lightning_memaudit.functional.memorization import memorization_score


@dataclass
class Population:
    """Examples with a known memorization and a known drop of the accuracy OUT."""

    beta: float
    n: int = 400

    def __post_init__(self) -> None:
        rng = np.random.default_rng(3)
        n = self.n
        self.mem = np.where(rng.random(n) < 0.6, rng.random(n) * 0.1, 0.1 + rng.random(n) * 0.7)
        self.base_out = 0.95 - self.mem
        self.drop = self.beta * self.mem * 0.2 + 0.02 * rng.random(n) if self.beta < 0.2 else self.beta * self.mem
        self.drop = np.minimum(self.drop, self.base_out)
        centered = self.mem - self.mem.mean()
        self.truth = centered @ self.drop / (centered @ centered)

    def draw(self, n_models: int, n_treated: int, rng, *, paired: bool = True, fraction: float = 0.7):
        mask = rng.random((n_models, self.n)) < fraction
        chance = rng.random((n_models, self.n))
        base = chance < self.base_out + np.where(mask, self.mem, 0)
        members = mask[:n_treated] if paired else rng.random((n_treated, self.n)) < fraction
        same = rng.random((n_treated, self.n)) < (0.7 if paired else 0)
        other = np.where(same, chance[:n_treated], rng.random((n_treated, self.n)))
        treated = other < self.base_out - self.drop + np.where(members, self.mem, 0)
        return base, mask, treated, members


def out_drop(base, mask, treated) -> np.ndarray:
    """Mean drop of each example over the models without it; NaN where there is none."""
    there = ~mask
    with np.errstate(invalid="ignore"):
        return np.asarray(((base.astype(float) - treated) * there).sum(0) / there.sum(0))


def summary(found, truth) -> tuple[float, float, float, float]:
    slopes = np.array([x.slope for x in found])
    error = slopes.std(ddof=1) / np.sqrt(len(slopes))
    covered = np.mean([x.low <= truth <= x.high for x in found])
    ratio = np.mean([x.standard_error for x in found]) / slopes.std(ddof=1)
    return float(slopes.mean() - truth), float(error), float(covered), float(ratio)


@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize(("n_models", "n_treated", "paired"), [(96, 96, True), (96, 12, True), (96, 20, False)])
def test_slope_is_unbiased_at_96_models(beta, n_models, n_treated, paired) -> None:
    population, rng, repeats = Population(beta), np.random.default_rng(0), 24
    found = []
    for _ in range(repeats):
        base, mask, treated, members = population.draw(n_models, n_treated, rng, paired=paired)
        how = {"pairs": np.arange(n_treated)} if paired else {"treated_mask": members}
        found.append(memorization_slope(base, mask, treated, n_splits=3 if n_treated == 12 else 1, **how))
    bias, error, covered, ratio = summary(found, population.truth)
    print(
        f"truth {population.truth:.3f}, {n_treated} treated, paired={paired}: bias {bias:+.4f} (error {error:.4f}), "
        f"coverage {covered:.2f}, SE ratio {ratio:.2f}, first stage r={found[0].first_stage:.2f}"
    )
    assert abs(bias) <= 3 * error
    assert error < 0.015
    assert covered >= 0.8
    assert 0.75 < ratio < 1.6
    assert min(x.first_stage_f for x in found) > 10


def test_what_it_replaces_is_biased() -> None:
    rng = np.random.default_rng(1)
    null, half = Population(0.0), Population(0.5)
    naive, attenuated = [], []
    for _ in range(15):
        base, mask, treated, _ = null.draw(96, 96, rng)
        mem = memorization_score(base, mask).score
        drop = out_drop(base, mask, treated)
        naive.append(np.polyfit(mem, drop, 1)[0] - null.truth)
        base, mask, treated, _ = half.draw(24, 24, rng)
        mem = memorization_score(base[:12], mask[:12]).score
        drop = out_drop(base[12:], mask[12:], treated[12:])
        there = np.isfinite(mem + drop)
        attenuated.append(np.polyfit(mem[there], drop[there], 1)[0])
    print(f"same models: {np.mean(naive):+.3f} at a true 0; other models: {np.mean(attenuated):.3f}, {half.truth:.3f}")
    # A model that is right by chance on an example it did not see lowers mem and raises the drop.
    assert np.mean(naive) < -3 * np.std(naive) / np.sqrt(15)
    assert np.mean(attenuated) < 0.7 * half.truth


def test_slope_on_examples_in_the_subset() -> None:
    rng = np.random.default_rng(2)
    population = Population(0.5)
    found = [
        memorization_slope(*population.draw(60, 60, rng)[:3], pairs=np.arange(60), condition="in", n_splits=1)
        for _ in range(12)
    ]
    bias, error, _, _ = summary(found, population.truth)
    assert abs(bias) <= 3.5 * error
    assert found[0].condition == "in"


def test_facts_are_reported() -> None:
    base, mask, treated, members = Population(0.5).draw(30, 30, np.random.default_rng(4))
    few = memorization_slope(base, mask, treated[[3, 5, 8, 9]], pairs=[3, 5, 8, 9], n_splits=2)
    assert (few.n_models, few.n_treated, few.n_splits) == ((13, 13, 4), 4, 2)
    turns = memorization_slope(base, mask, treated, pairs=np.arange(30), n_splits=2)
    assert (turns.n_models, turns.n_treated, turns.n_splits) == ((10, 10, 10), 10, 6)
    alone = memorization_slope(base, mask, treated[:5], treated_mask=members[:5], n_splits=1)
    assert (alone.n_models, alone.n_treated) == ((10, 10, 10), 5)
    again = memorization_slope(base, mask, treated, pairs=np.arange(30), n_splits=2)
    assert again == turns
    assert turns.n_examples <= 400
    assert turns.low < turns.slope < turns.high
    assert few.high - few.low > turns.high - turns.low


def test_paired_designs_stay_together() -> None:
    rng = np.random.default_rng(5)
    half = rng.random((20, 100)) < 0.5
    mask = np.stack([half, ~half], axis=1).reshape(40, 100)
    base = rng.random((40, 100)) < 0.5 + 0.4 * mask * np.linspace(0, 1, 100)
    found = memorization_slope(base, mask, base, pairs=np.arange(40), blocks=np.arange(40) // 2, n_splits=1)
    assert all(size in (12, 13.333333333333334, 14) for size in found.n_models)
    assert (found.slope, found.standard_error) == (0, 0)


def test_nothing_to_regress_on_is_said() -> None:
    rng = np.random.default_rng(6)
    mask = rng.random((30, 60)) < 0.5
    flat = memorization_slope(np.ones((30, 60)), mask, np.ones((30, 60)), pairs=np.arange(30), n_splits=1)
    assert np.isnan([flat.slope, flat.low, flat.high, flat.standard_error, flat.first_stage]).all()
    chance = rng.random((30, 60)) < 0.5
    weak = memorization_slope(chance, mask, chance, pairs=np.arange(30), n_splits=1)
    assert weak.first_stage_f < 10
    assert np.isnan([weak.low, weak.high]).all()


def test_bins_come_from_other_models_and_cover() -> None:
    rng = np.random.default_rng(7)
    population = Population(0.5, n=300)
    hits = []
    for _ in range(40):
        base, mask, treated, _ = population.draw(60, 20, rng)
        found = drop_by_memorization(base, mask, treated, pairs=np.arange(20), edges=[-1, 0.25, 0.5, 1])
        score = memorization_score(base[20:], mask[20:]).score
        codes = np.searchsorted([0.25, 0.5], score, side="right")
        for b in range(3):
            truth = population.drop[codes == b].mean()
            hits.append(found.drop.low[b] <= truth <= found.drop.high[b])
            assert found.memorization[b] == pytest.approx(score[codes == b].mean())
    print(f"coverage of the bins {np.mean(hits):.3f}")
    assert np.mean(hits) >= 0.94 - 0.06
    assert found.drop.drop[0] < found.drop.drop[1] < found.drop.drop[2]
    assert int((found.drop.n + found.drop.n_missing).sum()) + found.n_unscored == 300
    assert found.drop.n_models == (20, 20)


def test_bins_of_arms_that_share_no_model() -> None:
    rng = np.random.default_rng(8)
    base, mask, treated, members = Population(0.5).draw(30, 8, rng, paired=False)
    found = drop_by_memorization(base, mask, treated, treated_mask=members, condition="in")
    assert found.drop.n_models == (15, 8)
    assert (found.condition, len(found.memorization)) == ("in", 5)
    assert found.drop.drop[3] > found.drop.drop[0]


BASE, MASK = np.ones((12, 5)), np.eye(12, 5)

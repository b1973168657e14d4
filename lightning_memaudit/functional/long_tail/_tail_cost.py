"""What the misfits of treated models on rare subpopulations announce, from the models' own subsets of one data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import (
    argument_error,
    as_array,
    as_positive_int,
    as_probability,
    element_error,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightning_memaudit.functional.checks import Array, FloatArray, IntArray

__all__ = ["PredictedCost", "TailCost", "coupling", "tail_cost"]


@dataclass(frozen=True, slots=True)
class PredictedCost:
    """A predicted rise of the error with its interval, one number each or float64[P].

    Attributes:
        cost: The prediction.
        low: Lower end of its interval, over models and subpopulations.
        high: Upper end.
    """

    cost: Any
    low: Any
    high: Any


@dataclass(frozen=True, slots=True)
class TailCost:
    """Predicted cost of a treatment as a rise of the error; ``by_part`` adds up to the total before its cap at 1.

    Attributes:
        ell: ℓ from 1 to ℓ_max, int64[L].
        tau: τ_ℓ at the subset size, float64[L]; NaN where no subpopulation is seen ℓ times.
        points: Mean number of subpopulations seen ℓ times by a model, float64[L].
        misfits: Mean rise of errn(ℓ): treated less base misfits among examples of such subpopulations, float64[L].
        coupling: λ that was used.
        rare: Σ_{ℓ ≤ ℓ_max} λ τ_ℓ Δerrn(ℓ) / ℓ: what the theory says of rare subpopulations.
        rest: Drop of the accuracy on the training subsets outside of them, where τ_ℓ is about ℓ/n.
        total: ``rare + rest``, at most 1.
        by_part: ``rare + rest`` of each part, float64[P] each.
    """

    ell: IntArray
    tau: FloatArray
    points: FloatArray
    misfits: FloatArray
    coupling: float
    rare: PredictedCost
    rest: float
    total: PredictedCost
    by_part: PredictedCost


def coupling(prediction: Array, mask: Array, atoms: Array, *, rare: Array) -> tuple[float, int]:
    """How alike a model answers a seen and an unseen member of one subpopulation, beyond chance (λ of Feldman 2019).

    (A − C)/(1 − C), where A is the probability that both get the same answer, and C that of a seen and an unseen
    example of different subpopulations; every model and subpopulation has the same weight in A.

    Args:
        prediction: Answers, whole numbers [K, n].
        mask: Which examples each model trained on, bool[K, n].
        atoms: Subpopulation of each example, whole numbers [n] from 0.
        rare: Which subpopulations count for each model, bool[K, P].

    Returns:
        λ in [0, 1], NaN without a pair, and the number of (model, subpopulation) with one.

    Example:
        >>> answers = np.array([[0, 0, 1, 1]])
        >>> coupling(answers, [[True, False, True, False]], [0, 0, 1, 1], rare=[[True, True]])
        (1.0, 2)
    """
    answers, codes = np.asarray(prediction), np.asarray(atoms)
    seen, counted = np.asarray(mask, dtype=bool), np.asarray(rare, dtype=bool)
    _, answers = np.unique(answers, return_inverse=True)
    answers = answers.reshape(seen.shape)
    n_answers, n_atoms = int(answers.max()) + 1, counted.shape[1]
    alike, by_chance, pairs = [], 0.0, 0.0
    for row, its, wanted in zip(answers, seen, counted, strict=True):
        tables = [
            np.bincount(codes[side] * n_answers + row[side], minlength=n_atoms * n_answers).reshape(n_atoms, n_answers)
            for side in (its, ~its)
        ]
        inside, outside = (table.astype(np.float64) for table in tables)
        sizes = inside.sum(axis=1) * outside.sum(axis=1)
        same = (inside * outside).sum(axis=1)
        kept = wanted & (sizes > 0)
        alike += (same[kept] / sizes[kept]).tolist()
        by_chance += float(inside.sum(axis=0) @ outside.sum(axis=0) - same.sum())
        pairs += float(inside.sum() * outside.sum() - sizes.sum())
    if not alike or not pairs:
        return float("nan"), len(alike)
    chance = by_chance / pairs
    return (1.0 if chance == 1 else float(np.clip((np.mean(alike) - chance) / (1 - chance), 0, 1))), len(alike)


def tail_cost(
    base: Array,
    treated: Array,
    mask: Array,
    atoms: Array,
    *,
    prediction: Array,
    parts: Array | None = None,
    ell_max: int = 5,
    level: float = 0.95,
    n_bootstrap: int = 300,
    seed: int = 0,
) -> TailCost:
    """Predict the cost of a treatment from what it leaves unfitted (Feldman 2019, the theorem on mixtures).

    Σ_ℓ λ τ_ℓ Δerrn(ℓ) / ℓ over subpopulations that a model saw ℓ ≤ ℓ_max times, at the models' own subset size. For
    larger ℓ τ_ℓ is about ℓ/n and the sum is merely the drop of the training accuracy, which is added under its own
    name. Intervals: subpopulations are resampled (τ_ℓ with them) and models vary, Student's t with K − 1 degrees of
    freedom; λ is taken as it was estimated.

    Args:
        base: Whether each base model is right on each training example, 0 or 1 [K, n].
        treated: The same of the treated model of the same subset.
        mask: Which examples the two trained on, bool[K, n].
        atoms: Subpopulation of each training example, whole numbers from 0 [n].
        prediction: Answers of the treated models [K, n], for λ.
        parts: Part of each subpopulation, such as head, torso and tail, whole numbers from 0 [P]; None is one part.
        ell_max: ℓ_max.
        level: Two-sided confidence level.
        n_bootstrap: Resamples of the subpopulations.
        seed: Of the resampling.

    Returns:
        The prediction; with one model its intervals are NaN.

    Raises:
        ArgumentError: Shapes differ, or an option is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> atoms = np.arange(200) % 150  # 50 subpopulations of two, 100 of one
        >>> mask = rng.random((4, 200)) < 0.7
        >>> fits = np.ones((4, 200))
        >>> found = tail_cost(fits, 1 - mask, mask, atoms, prediction=np.zeros((4, 200), dtype=int))
        >>> bool(0 < found.rare.cost <= found.total.cost <= 1)
        True
    """
    inside = as_array(mask, name="mask", ndim=2, dtype=bool)
    first, second = (as_array(x, name=name, ndim=2) for x, name in ((base, "base"), (treated, "treated")))
    codes = as_array(atoms, name="atoms", ndim=1, dtype=np.int64)
    for name, value in (("treated", second), ("mask", inside), ("prediction", np.asarray(prediction))):
        if value.shape != first.shape:
            raise argument_error(name, value, f"shape {list(first.shape)} is needed, as in base")
    if len(codes) != first.shape[1]:
        raise argument_error("atoms", codes, f"{first.shape[1]} whole numbers from 0 are needed")
    for name, values in (("base", first), ("treated", second)):
        wrong = ~((values >= 0) & (values <= 1))
        if wrong.any():
            raise element_error(name, values, wrong, "numbers in [0, 1] are needed, 1 where a model is right")
    if (codes < 0).any():
        raise element_error("atoms", codes, codes < 0, "whole numbers from 0 are needed")
    largest = as_positive_int(ell_max, name="ell_max")
    z_level = as_probability(level, name="level")
    counts = np.bincount(codes)
    n_atoms, n_models = len(counts), len(inside)
    part_of = np.zeros(n_atoms, dtype=np.int64) if parts is None else as_array(parts, name="parts", dtype=np.int64)
    if part_of.shape != (n_atoms,) or (part_of < 0).any():
        raise argument_error("parts", part_of, f"{n_atoms} whole numbers from 0 are needed, one a subpopulation")
    seen = np.stack([np.bincount(codes[row], minlength=n_atoms) for row in inside])
    worse = np.where(inside, first - second, 0.0)
    rise = np.stack([np.bincount(codes, weights=row, minlength=n_atoms) for row in worse])
    size = min(round(float(inside.sum(axis=1).mean())), len(codes) - 1)
    ells = np.arange(1, largest + 1)
    copied, _ = coupling(prediction, inside, codes, rare=(seen >= 1) & (seen <= largest))
    factor = 1.0 if np.isnan(copied) else copied
    here, following = _seen_by_subsets(counts, size, ells), _seen_by_subsets(counts, size + 1, ells + 1)
    tau = _ratio(following.sum(axis=1), here.sum(axis=1), ells, size)

    is_rare = (seen[None] == ells[:, None, None]) & (rise[None] != 0)
    by_ell = np.where(is_rare, rise[None] / ells[:, None, None], 0.0)  # [L, K, P]
    common = np.where(seen > largest, rise, 0.0) / size  # [K, P]
    usable = np.nan_to_num(tau)
    by_model = factor * np.einsum("l,lkp->kp", usable, by_ell)  # rare, [K, P]
    belongs = np.eye(int(part_of.max()) + 1)[part_of]  # [P, parts]
    values = np.column_stack([by_model.sum(axis=1), (by_model + common).sum(axis=1), (by_model + common) @ belongs])

    rng = np.random.default_rng(as_positive_int(seed, name="seed", minimum=0))
    replicates = as_positive_int(n_bootstrap, name="n_bootstrap", minimum=50)
    weights = rng.multinomial(n_atoms, np.full(n_atoms, 1 / n_atoms), size=replicates).astype(np.float64)
    tau_again = np.nan_to_num(_ratio(weights @ following.T, weights @ here.T, ells, size))
    mean_rare, mean_common = factor * by_ell.mean(axis=1), common.mean(axis=0)
    drawn = np.column_stack(
        [
            _drawn(weights, tau_again, mean_rare, 0 * mean_common, np.ones((n_atoms, 1))),
            _drawn(weights, tau_again, mean_rare, mean_common, np.ones((n_atoms, 1))),
            _drawn(weights, tau_again, mean_rare, mean_common, belongs),
        ]
    )
    centre = values.mean(axis=0)
    if n_models > 1:
        spread = np.sqrt(drawn.var(axis=0, ddof=1) + values.var(axis=0, ddof=1) / n_models)
        half = stats.t.isf((1 - z_level) / 2, n_models - 1) * spread
    else:
        half = np.full(len(centre), np.nan)
    low, high = np.maximum(centre - half, -1.0), np.minimum(centre + half, 1.0)
    return TailCost(
        ell=ells,
        tau=tau,
        points=np.array([(seen == k).sum(axis=1).mean() for k in ells]),
        misfits=np.array([np.where(seen == k, rise, 0.0).sum(axis=1).mean() for k in ells]),
        coupling=copied,
        rare=PredictedCost(float(centre[0]), float(low[0]), float(high[0])),
        rest=float(common.sum(axis=1).mean()),
        total=PredictedCost(float(min(centre[1], 1.0)), float(low[1]), float(high[1])),
        by_part=PredictedCost(centre[2:], low[2:], high[2:]),
    )


def _seen_by_subsets(counts: IntArray, size: int, ells: FloatArray | IntArray) -> FloatArray:
    """Probability that a random subset holds each atom ℓ times, float64[L, P] (Hurlbert 1971, rarefaction)."""
    n = int(counts.sum())
    if not 0 <= size <= n:
        raise argument_error("size", size, f"a subset of the {n} examples is needed")
    values, where = np.unique(counts, return_inverse=True)
    table = np.stack([stats.hypergeom.pmf(ell, n, values, size) for ell in np.asarray(ells).tolist()])
    return np.asarray(table[:, where])


def _ratio(following: FloatArray, here: FloatArray, ells: FloatArray | IntArray, size: int) -> FloatArray:
    """τ_ℓ = (ℓ + 1)/(m + 1) · E_{m+1}|X_{ℓ+1}| / E_m|X_ℓ| at sample size m (Good 1953); NaN where none is seen ℓ times.

    For m below n both expectations have unbiased estimates from the whole sample, which are far smoother than the
    counts of one subset.
    """
    ratio = np.full(np.shape(here), np.nan)
    np.divide((ells + 1.0) * following, here * (size + 1.0), out=ratio, where=here > 0)
    return np.asarray(np.minimum(ratio, 1.0))


def _drawn(
    weights: FloatArray, tau: FloatArray, rare: FloatArray, common: FloatArray, belongs: NDArray[np.float64]
) -> FloatArray:
    """Predictions of resampled subpopulations, [B, parts]."""
    by_ell = np.stack([weights @ (row[:, None] * belongs) for row in rare], axis=1)  # [B, L, parts]
    return np.asarray(np.einsum("bl,blp->bp", tau, by_ell) + weights @ (common[:, None] * belongs))

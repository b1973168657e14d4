"""The figures of ``memaudit theory``, as plain numbers for JSON, the table and the plot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.checks import as_number
from lightning_memaudit.functional.long_tail import (
    Group,
    Prior,
    disparate_cost,
    expected_count,
    expected_mass,
    good_turing,
    good_turing_missing_mass,
    guess_error,
    marginal,
    missing_mass,
    prediction_bound,
    tau,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_memaudit.functional.checks import Array
    from lightning_memaudit.functional.long_tail import Adjacency, DirichletPrior, MarginalMode, Smoothing

__all__ = ["GROUPS", "Question", "from_counts", "from_prior", "split"]

GROUPS = ("head", "torso", "tail")
_ELLS = (1, 2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of every population.

    Attributes:
        n_classes: m.
        ells: ℓ of the table; None takes 1, 2 and 3, as far as n goes.
        gamma: γ, or None.
        epsilon: ε, or None.
        delta: δ.
        adjacency: Of the sharp value.
    """

    n_classes: int
    ells: tuple[int, ...] | None = None
    gamma: float | None = None
    epsilon: float | None = None
    delta: float = 0.0
    adjacency: Adjacency = "add-remove"

    def shortfalls(self) -> dict[str, float]:
        """What the accuracy on singletons lacks, by the name of the cost.

        Raises:
            ArgumentError: A number is out of range.

        Example:
            >>> Question(n_classes=10, gamma=0.5).shortfalls()
            {'cost_of_not_fitting': 0.9, 'cost_of_limited_memorization': 0.4}
        """
        guess = guess_error(self.n_classes)
        found = {"cost_of_not_fitting": guess}
        if self.gamma is not None:
            limit = as_number(self.gamma, name="gamma", most=1.0)
            found["cost_of_limited_memorization"] = max(guess - limit, 0.0)
        if self.epsilon is not None:
            found["cost_of_dp_paper"] = 1 - prediction_bound(self.epsilon, self.delta, n_classes=self.n_classes)
            found["cost_of_dp_sharp"] = 1 - prediction_bound(
                self.epsilon, self.delta, n_classes=self.n_classes, bound="sharp", adjacency=self.adjacency
            )
        return found

    def ells_for(self, n_samples: int) -> list[int]:
        """ℓ of the table of one population."""
        return [ell for ell in _ELLS if ell <= n_samples] if self.ells is None else list(self.ells)


def from_prior(
    prior: Prior | DirichletPrior,
    n_samples: int,
    question: Question,
    *,
    mode: MarginalMode,
    cuts: Sequence[float] | None,
) -> dict[str, Any]:
    """The figures of one population whose frequencies follow a prior.

    Args:
        prior: The prior.
        n_samples: n.
        question: What is asked.
        mode: ``"list"`` or ``"iid"``.
        cuts: Cumulative shares of the mass where torso and tail begin; None: no groups.

    Returns:
        ``n_points``, ``n_samples``, ``figures`` (each with ``value`` and ``interval``), ``by_ell`` and ``groups``.

    Raises:
        ArgumentError: A number is out of range.
    """
    law, n, ells = marginal(prior, mode=mode), n_samples, question.ells_for(n_samples)
    taus, counts, masses = tau(law, n, ells), expected_count(law, n, ells), expected_mass(law, n, ells)
    missing, once = missing_mass(law, n), float(expected_mass(law, n, 1))
    figures = {
        "singleton_share": float(expected_count(law, n, 1)) / n,
        "n_tau_1": n * float(tau(law, n, 1)),
        "missing_mass": missing,
        "optimal_error": guess_error(question.n_classes) * missing,
        "singleton_mass": once,
    } | {name: _times(lack, once) for name, lack in question.shortfalls().items()}
    if mode == "list" and isinstance(prior, Prior):
        figures = {"n_least_frequency": n * float(prior.frequencies[prior.frequencies > 0].min())} | figures
    return {
        "n_points": prior.n_points,
        "n_samples": n,
        "figures": {name: {"value": value, "interval": None} for name, value in figures.items()},
        "by_ell": [
            {"ell": ell, "tau": rate, "n_tau": n * rate, "points": count, "mass": mass, "interval": None}
            for ell, rate, count, mass in zip(ells, taus.tolist(), counts.tolist(), masses.tolist(), strict=True)
        ],
        "groups": [] if cuts is None or not isinstance(prior, Prior) else _by_group(prior, n, question, cuts),
    }


def from_counts(counts: Array, question: Question, *, smoothing: Smoothing) -> tuple[dict[str, Any], str]:
    """The figures of a population of which one sample is known, by Good–Turing, with 95 % intervals.

    Args:
        counts: How often each point was seen [P].
        question: What is asked.
        smoothing: As in ``good_turing``.

    Returns:
        As ``from_prior``, without groups; and a note on what is NaN, or an empty text.

    Raises:
        ArgumentError: A number is out of range.
    """
    n, guess = int(np.sum(np.asarray(counts))), guess_error(question.n_classes)
    missing, ells = good_turing_missing_mass(counts), question.ells_for(n)
    table = good_turing(counts, [1, *ells], smoothing=smoothing)  # in one go, so that τ_1 has one interval
    singletons = int(table.points[0])
    rate = (float(table.tau[0]), float(table.low[0]), float(table.high[0]))
    # No singleton leaves no τ_1, and nothing to lose by not fitting it.
    once = (0.0, 0.0, 0.0) if singletons == 0 else tuple(min(singletons * value, 1.0) for value in rate)
    unseen = (missing.estimate, missing.low, missing.high)
    figures = {
        "singleton_share": _figure(singletons / n),
        "n_tau_1": _figure(*(n * value for value in rate)),
        "missing_mass": _figure(*unseen),
        "optimal_error": _figure(*(guess * value for value in unseen)),
        "singleton_mass": _figure(*once),
    }
    for name, lack in question.shortfalls().items():
        figures[name] = _figure(*(_times(lack, value) for value in once))
    columns = (table.ell, table.tau, table.low, table.high, table.points)
    rows = [
        {
            "ell": ell,
            "tau": tau_ell,
            "n_tau": n * tau_ell,
            "points": points,
            "mass": points * tau_ell,
            "interval": [low, high],
            "method": method,
        }
        for (ell, tau_ell, low, high, points), method in zip(
            zip(*(column.tolist()[1:] for column in columns), strict=True), table.method[1:], strict=True
        )
    ]
    seen = int(np.count_nonzero(np.asarray(counts)))
    population = {"n_points": None, "n_seen": seen, "n_samples": n, "figures": figures, "by_ell": rows, "groups": []}
    return population, table.note


def split(prior: Prior, cuts: Sequence[float]) -> dict[str, tuple[float, Prior]]:
    """Head, torso and tail of a list: share of the mass and the list of each, those without a point left out.

    A point is in the head where the points more frequent than it hold less than ``cuts[0]`` of the mass, in the torso
    where they hold less than ``cuts[1]``, else in the tail. So equal frequencies stay together.

    Args:
        prior: The list.
        cuts: Two cumulative shares, ascending.

    Example:
        >>> from lightning_memaudit.functional.long_tail import from_frequencies
        >>> parts = split(from_frequencies([6, 2, 1, 1]), (0.5, 0.8))
        >>> {name: (round(share, 6), part.n_points) for name, (share, part) in parts.items()}
        {'head': (0.6, 1), 'torso': (0.2, 1), 'tail': (0.2, 2)}
    """
    order = np.argsort(-prior.frequencies, kind="stable")
    frequencies, multiplicity = prior.frequencies[order], prior.multiplicity[order]
    masses = frequencies * multiplicity
    part_of = np.searchsorted(cuts, np.cumsum(masses) - masses + 1e-12, side="right")
    found = {}
    for index, name in enumerate(GROUPS):
        chosen = (part_of == index) & (frequencies > 0)
        if chosen.any():
            share = float(masses[chosen].sum())
            size = max(round(float(multiplicity[chosen].sum())), 1)
            found[name] = (share, Prior(frequencies[chosen] / share, multiplicity[chosen], size))
    return found


def _by_group(prior: Prior, n: int, question: Question, cuts: Sequence[float]) -> list[dict[str, Any]]:
    """Optimal error and costs within each group; the size of a group in the sample is binomial."""
    parts = split(prior, cuts)
    groups = {name: Group(share, marginal(part)) for name, (share, part) in parts.items()}
    found = disparate_cost(groups, n, n_classes=question.n_classes, gamma=0.0)
    once = found.cost / guess_error(question.n_classes)
    return [
        {
            "group": name,
            "share": share,
            "n_points": part.n_points,
            "n_samples": float(found.n_samples[index]),
            "singleton_mass": float(once[index]),
            "optimal_error": float(found.optimal_error[index]),
        }
        | {cost: _times(lack, float(once[index])) for cost, lack in question.shortfalls().items()}
        for index, (name, (share, part)) in enumerate(parts.items())
    ]


def _figure(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "interval": None if low is None else [low, high]}


def _times(lack: float, mass: float) -> float:
    """What is lost; nothing where nothing lacks, even if the mass is not known."""
    return 0.0 if lack == 0 else lack * mass if not math.isnan(mass) else math.nan

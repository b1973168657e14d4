"""Contents of a report.json as the sections write them, from arrays and without a store."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_memaudit.functional.impact import accuracy_drop, error_rate
from lightning_memaudit.functional.memorization import memorization_score
from lightning_memaudit.outcomes.manifest import library_versions
from lightning_memaudit.record import ArmOutcomes
from lightning_memaudit.record.estimates import ERROR, GAP
from lightning_memaudit.report.schema import SCHEMA
from lightning_memaudit.sections.entries import plain
from lightning_memaudit.sections.impact.groups import drop_row, statistics
from lightning_memaudit.sections.memorization import group_rows


def drop_rows(base, treated, codes, names, *, paired=True) -> list[dict[str, Any]]:
    found = accuracy_drop(base, treated, codes, paired=paired, n_groups=len(names))
    return [
        {
            "group": name,
            **drop_row(found, g),
            **{key: float(getattr(found, key)[g]) for key in ("excess", "excess_low", "excess_high")},
            "statistics": statistics(found, g),
        }
        for g, name in enumerate(names)
    ]


def accuracy_rows(correct, codes, names) -> list[dict[str, Any]]:
    rates = error_rate(correct, codes, n_groups=len(names))
    (low, high), gap = rates.error.interval(), rates.gap.interval()
    return [
        {
            "group": name,
            "n": int(rates.error.n[g]),
            "accuracy": float(1 - rates.error.estimate[g]),
            "low": float(max(1 - high[g], 0.0)),
            "high": float(min(1 - low[g], 1.0)),
            "gap": float(rates.gap.estimate[g]),
            "gap_low": float(gap[0][g]),
            "gap_high": float(gap[1][g]),
            "statistics": {"error": ERROR.to_row(rates.error, g), "gap": GAP.to_row(rates.gap, g)},
        }
        for g, name in enumerate(names)
    ]


def memorization_rows(correct, mask, codes, names, *, threshold=0.25) -> list[dict[str, Any]]:
    outcomes = ArmOutcomes(np.arange(len(mask)), mask, correct)
    return group_rows(outcomes, codes, list(names), memorization_score(correct, mask), 0.95, threshold=threshold)


def content(
    arms: dict[str, tuple[np.ndarray, np.ndarray]],
    groupings: dict[str, tuple[np.ndarray, list[str]]],
    *,
    privacy: dict[str, Any] | None = None,
    memorization: tuple[np.ndarray, np.ndarray] | None = None,
    paired: bool = True,
) -> dict[str, Any]:
    """Of arms (base and treated outcomes [K, n] each), with groups by codes and names."""
    n = next(iter(arms.values()))[0].shape[1]
    whole = np.zeros(n, dtype=np.int64)
    impact, accuracy = {}, {}
    for name, (base, treated) in arms.items():
        impact[name] = {
            "status": "ok",
            "reason": None,
            "n_models": min(len(base), len(treated)),
            "private": bool(privacy and name in privacy),
            "record": {"privacy": (privacy or {}).get(name)},
            "overall": drop_rows(base, treated, whole, ["all"], paired=paired)[0],
            "by_group": {
                key: {"status": "ok", "reason": None, "rows": drop_rows(base, treated, *of, paired=paired)}
                for key, of in groupings.items()
            },
            "by_memorization": {"bins": {"status": "unavailable", "reason": "too few models"}},
        }
        accuracy[name] = {
            "status": "ok",
            "reason": None,
            "n_models": len(treated),
            "overall": accuracy_rows(treated, whole, ["all"])[0],
            "by_group": {
                key: {"status": "ok", "reason": None, "rows": accuracy_rows(treated, *of)}
                for key, of in groupings.items()
            },
        }
    made: dict[str, Any] = {
        "schema": SCHEMA,
        "versions": library_versions(),
        "data": {"train": {"n_examples": 99, "labels": "t", "inputs": "t"},
                 "test": {"n_examples": n, "labels": "l", "inputs": "i"}},
        "impact": {"status": "ok", "reason": None, "split": {"name": "test"}, "arms": impact},
        "accuracy": {"status": "ok", "reason": None, "split": {"name": "test"}, "arms": accuracy},
        "memorization": {"status": "unavailable", "reason": "no models"},
    }  # fmt: skip
    if memorization is not None:
        correct, mask = memorization
        n_train = mask.shape[1]
        made["memorization"] = {
            "status": "ok",
            "reason": None,
            "n_models": len(mask),
            "prevalence": {"threshold": 0.25},
            "overall": memorization_rows(correct, mask, np.zeros(n_train, dtype=np.int64), ["all"])[0],
            "by_class": memorization_rows(correct, mask, np.arange(n_train) % 2, ["0", "1"]),
            "by_group": {},
        }
    return plain(made)


def outcomes(n_models: int, n: int, accuracy: float, *, seed: int = 0) -> np.ndarray:
    """Independent outcomes, bool[K, n]."""
    return np.random.default_rng(seed).random((n_models, n)) < accuracy


def report(*, privacy=None) -> dict[str, Any]:
    """Two arms on 600 examples in two groups of 300: ``mild`` takes nothing, ``harsh`` 30 points from group b.

    Three quarters of the training examples are memorized in class 1, none in class 0.
    """
    base = outcomes(6, 600, 0.95)
    harsh = base.copy()
    harsh[:, 300:] &= outcomes(6, 300, 0.68, seed=1)
    codes = np.repeat([0, 1], 300)
    mask = outcomes(200, 60, 0.7, seed=2)
    memorized = (np.arange(60) % 2 == 1) & (np.arange(60) < 45)
    correct = np.where(memorized, mask, True)
    return content(
        {"mild": (base, base.copy()), "harsh": (base, harsh)},
        {"half": (codes, ["a", "b", "nobody"]), "label": (np.arange(600) % 3, ["0", "1", "2"])},
        privacy=privacy or {"harsh": {"epsilon": 3.0, "delta": 1e-5, "n_examples": 1000}},
        memorization=(correct, mask),
    )


def rule(kind: str, margin: float, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "margin": margin, **more}


def policy(alpha: float = 0.05, **rules: Any) -> dict[str, Any]:
    return {"schema": 1, "alpha": alpha, "rules": {name.replace("_", "-"): given for name, given in rules.items()}}


_DISTINCT, _HARMED, _SIZE = 100, 5, 12
_KINDS = ("drop", "excess_drop", "accuracy", "gap")


def wide_report(n_groups):
    """A hundred groups, each under several names."""
    base = outcomes(6, _DISTINCT * _SIZE, 0.9)
    treated = base & outcomes(6, _DISTINCT * _SIZE, 0.9, seed=1)
    codes = np.repeat(np.arange(_DISTINCT), _SIZE)
    base[:, codes < _HARMED], treated[:, codes < _HARMED] = True, False
    made = content({"prune": (base, treated)}, {"g": (codes, [f"n{g}" for g in range(_DISTINCT)])})
    times = n_groups // _DISTINCT
    whole = content({"prune": (np.tile(base, times), np.tile(treated, times))}, {})
    for section in ("impact", "accuracy"):
        arm = made[section]["arms"]["prune"]
        rows = arm["by_group"]["g"]["rows"]
        arm["by_group"]["g"]["rows"] = [{**rows[g % _DISTINCT], "group": f"n{g}"} for g in range(n_groups)]
        arm["overall"] = whole[section]["arms"]["prune"]["overall"]
    return made


def rules_of_all_kinds(n_rules):
    """Rules on every group, from very strict to very lenient."""
    step = 0.8 / n_rules
    return {
        f"r{i}": rule(_KINDS[i % 4], 0.9 - step * i if _KINDS[i % 4] == "accuracy" else step * i)
        for i in range(n_rules)
    }

"""What the population memorizes: scores, fit, prevalence, groups, and who influences whom."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.adjustment import adjusted_memorization_score
from lightning_memaudit.functional.group_memorization import group_mean_record
from lightning_memaudit.functional.memorization import (
    grouped_memorization,
    interval_method,
    memorization_interval,
    memorization_score,
    models_for_both_arms,
    worst_case_standard_error,
)
from lightning_memaudit.functional.prevalence import prevalence
from lightning_memaudit.functional.prevalence_bounds import prevalence_bounds, prevalence_record
from lightning_memaudit.functional.reliability import reliability
from lightning_memaudit.sections.canvas import figure_of, new_axes
from lightning_memaudit.sections.entries import frame_of, plain
from lightning_memaudit.sections.influence import describe_duplicates, describe_influence
from lightning_memaudit.sections.render import section_html
from lightning_memaudit.sections.section import Drawing, Highlight, Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from lightning_memaudit.data.groups import Grouping
    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.functional.memorization import IntervalMethod, MemorizationScore
    from lightning_memaudit.functional.prevalence import Prevalence
    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.outcomes.store import Outcomes, OutcomeStore
    from lightning_memaudit.sections.numbers import Numbers

__all__ = [
    "MEMORIZED",
    "NOT_FITTED_BELOW",
    "SECTION",
    "MemorizationResult",
    "group_rows",
    "memorization_section",
    "scored",
    "top_examples",
]

MEMORIZED = 0.25  # the threshold of Feldman and Zhang (2020)
NOT_FITTED_BELOW = 0.5  # an example that models get wrong more often than not although they trained on it
_FITTED_SHARE, _PARTLY_FITTED_SHARE = 0.01, 0.2
_TOP = 20
_LEVEL = 0.95
_LEAST_BLOCKS = 4
_LEAST_TO_DECONVOLVE = 20
_BINS = np.linspace(-1.0, 1.0, 41)

FitStatus = Literal["fitted", "partly fitted", "not fitted"]


@dataclass(frozen=True, slots=True, eq=False)
class MemorizationResult:
    """Memorization scores of every training example, and what they say together.

    Attributes:
        score: mem, float64[n] in [−1, 1]; NaN where an arm has no model.
        low: Lower ends of the intervals, float64[n].
        high: Upper ends.
        in_accuracy: float64[n], over models that trained on the example.
        out_accuracy: float64[n], over those that did not: the C-score.
        n_in: Models in the IN arm, [n].
        n_out: Models in the OUT arm, [n].
        labels: int64[n] or None.
        groups: The groupings.
        summary: Everything that reports show, JSON-ready.
    """

    score: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    in_accuracy: npt.NDArray[np.float64]
    out_accuracy: npt.NDArray[np.float64]
    n_in: npt.NDArray[np.float64]
    n_out: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64] | None
    groups: dict[str, Grouping]
    summary: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The JSON-ready summary."""
        return self.summary

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """One array per column, one row per training example."""
        table: dict[str, npt.NDArray[Any]] = {"index": np.arange(len(self.score))}
        if self.labels is not None:
            table["label"] = self.labels
        table |= {
            "memorization": self.score,
            "low": self.low,
            "high": self.high,
            "in_accuracy": self.in_accuracy,
            "out_accuracy": self.out_accuracy,
            "n_in": self.n_in.astype(np.int64),
            "n_out": self.n_out.astype(np.int64),
        }
        for name, group in self.groups.items():
            column = name
            while column in table:
                column = f"group_{column}"
            table[column] = np.array(group.names, dtype=object)[group.codes]
        return table

    def to_frame(self) -> Any:
        """A pandas DataFrame where pandas is installed, else the dict of ``columns()``."""
        return frame_of(self.columns())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Histogram of the scores, on a logarithmic count axis."""
        return _plot(self.summary, ax)

    def _repr_html_(self) -> str:
        return section_html("memorization", plain(self.summary))


def memorization_section(store: OutcomeStore, *, threshold: float = MEMORIZED) -> MemorizationResult:
    """Compute the section from a store.

    Args:
        store: The store.
        threshold: Score from which on an example counts as memorized.

    Raises:
        MissingDataError: There are fewer than two baseline models.
    """
    outcomes, scores, low, high, level = scored(store)
    ids = outcomes.model_ids
    examples, plan, stopping = store.examples("train"), store.plan, store.stopping()
    method = _method(stopping)
    correct, mask, blocks = outcomes.correct, outcomes.mask, outcomes.blocks
    spread = prevalence(correct, mask, threshold=threshold, blocks=blocks, level=level, method=method)
    held_out = [split for kind in ("test", "val") for split in store.splits() if split.startswith(kind)]
    summary: dict[str, Any] = {
        "n_models": len(ids),
        "n_examples": plan.n_examples,
        "n_units": plan.n_units,
        "unit_level": plan.units is not None,
        "design": plan.design,
        "subset_fraction": plan.subset_fraction,
        "level": level,
        "interval_method": interval_method(correct, method),
        "worst_case_standard_error": worst_case_standard_error(len(ids), plan.subset_fraction),
        "mean_score": _mean(scores.score),
        "fit": _fit(scores),
        "arms": _arms(scores, plan, len(ids)),
        "histogram": _histogram(scores.score),
        "reliability": _reliability(outcomes),
        "prevalence": _prevalence(spread, len(ids)),
        "top": top_examples(scores, low, high, outcomes, examples),
        "overall": group_rows(
            outcomes, np.zeros(plan.n_examples, dtype=np.int64), ["all"], scores, level, threshold=threshold
        )[0],
        "by_class": _by_class(outcomes, examples, scores, level, threshold),
        "by_group": {
            name: group_rows(outcomes, group.codes, list(group.names), scores, level, threshold=threshold)
            for name, group in examples.groups.items()
        },
        "influence": describe_influence(store, outcomes, scores.score, held_out[0] if held_out else None),
        "near_duplicates": describe_duplicates(outcomes),
        "adjustment": _adjustment(correct, mask),
        "stopping": None if stopping is None else {**stopping, "is_current": stopping["n_models"] == len(ids)},
        "n_diverged_models": _n_diverged(store, outcomes),
        "notes": list(store.manifest.notes),
    }
    return MemorizationResult(
        scores.score,
        low,
        high,
        scores.in_accuracy,
        scores.out_accuracy,
        scores.n_in,
        scores.n_out,
        outcomes.labels,
        examples.groups,
        summary,
    )


def scored(
    store: OutcomeStore,
) -> tuple[Outcomes, MemorizationScore, npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Outcomes on the training examples, scores with the ends of their intervals, and the level of these.

    Raises:
        MissingDataError: There are fewer than two baseline models.
    """
    ids = store.model_ids()
    if len(ids) < 2:
        raise MissingDataError(
            f"store={store.url!r} has {len(ids)} baseline models, and memorization needs at least 2; train more"
        )
    outcomes, stopping = store.load(model_ids=ids, fields=("correct", "prediction")), store.stopping()
    level = _LEVEL if stopping is None else float(stopping["level"])
    scores = memorization_score(outcomes.correct, outcomes.mask)
    low, high = memorization_interval(outcomes.correct, outcomes.mask, level, _method(stopping))
    return outcomes, scores, low, high, level


def _method(stopping: Mapping[str, Any] | None) -> IntervalMethod:
    return "agresti-caffo" if stopping is None else "agresti-caffo-level"


def _prevalence(found: Prevalence, n_models: int) -> dict[str, Any]:
    summary = asdict(found)
    if n_models < _LEAST_TO_DECONVOLVE:
        summary |= {name: None for name in summary if name.startswith("deconvolved")}
        summary["reason"] = f"fewer than {_LEAST_TO_DECONVOLVE} models say too little of the noise"
    return summary


def _n_diverged(store: OutcomeStore, outcomes: Outcomes) -> int:
    """Models that are right nowhere because their output is not finite."""
    wrong = outcomes.model_ids[~outcomes.correct.any(axis=1)].tolist()
    if not wrong:
        return 0
    return int(np.isnan(store.load(model_ids=wrong, fields=("margin",)).margin).all(axis=1).sum())


def _reliability(outcomes: Outcomes) -> dict[str, Any]:
    n_blocks = len(outcomes.model_ids if outcomes.blocks is None else np.unique(outcomes.blocks))
    if n_blocks < _LEAST_BLOCKS:
        return {
            "status": "unavailable",
            "reason": f"{n_blocks} independent models cannot be split in halves with both arms",
        }
    return {
        "status": "ok",
        "reason": None,
        **asdict(reliability(outcomes.correct, outcomes.mask, blocks=outcomes.blocks)),
    }


def _fit(scores: MemorizationScore) -> dict[str, Any]:
    known = scores.in_accuracy[~np.isnan(scores.in_accuracy)]
    n_not_fitted = int((known < NOT_FITTED_BELOW).sum())
    share = n_not_fitted / len(known) if len(known) else float("nan")
    status: FitStatus = "not fitted"
    if share <= _FITTED_SHARE:
        status = "fitted"
    elif share <= _PARTLY_FITTED_SHARE:
        status = "partly fitted"
    return {
        "status": status,
        "in_accuracy": _mean(known),
        "in_accuracy_quantiles": {str(q): float(np.quantile(known, q)) for q in (0.01, 0.05, 0.25)}
        if len(known)
        else {},
        "not_fitted_below": NOT_FITTED_BELOW,
        "n_not_fitted": n_not_fitted,
        "share_not_fitted": share,
    }


def _arms(scores: MemorizationScore, plan: SubsetPlan, n_models: int) -> dict[str, Any]:
    never_in, never_out = scores.n_in == 0, scores.n_out == 0
    by_design = np.zeros(plan.n_examples, dtype=bool)
    if plan.canaries is not None:
        coin = np.zeros(plan.n_examples, dtype=bool)
        coin[plan.canaries] = True
        if plan.units is not None:
            coin = np.isin(plan.units, plan.units[plan.canaries])
        by_design = ~coin
    n_drawn = plan.n_units if plan.canaries is None else int((~by_design).sum())
    needed = models_for_both_arms(n_drawn, plan.subset_fraction)
    return {
        "n_estimable": int((~np.isnan(scores.score)).sum()),
        "n_never_in": int((never_in & ~by_design).sum()),
        "n_never_out": int((never_out & ~by_design).sum()),
        "n_always_in_by_design": int(by_design.sum()),
        "models_for_both_arms": needed,
        "more_models": max(needed - n_models, 0) if bool(((never_in | never_out) & ~by_design).any()) else 0,
    }


def _histogram(score: npt.NDArray[np.float64]) -> dict[str, Any]:
    # the small shift keeps scores such as .95 - .70 in the bin that starts at .25
    counts, edges = np.histogram(np.clip(score[~np.isnan(score)] + 1e-12, -1, 1), bins=_BINS)
    return {"edges": edges.round(6).tolist(), "counts": counts.tolist()}


def top_examples(
    scores: MemorizationScore,
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    outcomes: Outcomes,
    examples: Examples,
) -> list[dict[str, Any]]:
    """The most memorized examples, by the lower end of their interval."""
    order = np.lexsort(
        (np.arange(len(scores.score)), -np.nan_to_num(low, nan=-2), -np.nan_to_num(scores.score, nan=-2))
    )
    rows = [int(i) for i in order[:_TOP] if not np.isnan(scores.score[i])]
    return [
        {
            "index": i,
            "score": float(scores.score[i]),
            "low": float(low[i]),
            "high": float(high[i]),
            "in_accuracy": float(scores.in_accuracy[i]),
            "out_accuracy": float(scores.out_accuracy[i]),
            "n_in": int(scores.n_in[i]),
            "n_out": int(scores.n_out[i]),
            "label": None if outcomes.labels is None else int(outcomes.labels[i]),
            "out_prediction": _most_common(outcomes.prediction[~outcomes.mask[:, i], i]),
            "groups": {name: group.names[group.codes[i]] for name, group in examples.groups.items()},
        }
        for i in rows
    ]


def _most_common(predictions: npt.NDArray[np.int32]) -> int | None:
    valid = predictions[predictions >= 0]
    return int(np.bincount(valid).argmax()) if len(valid) else None


def _by_class(
    outcomes: Outcomes, examples: Examples, scores: MemorizationScore, level: float, threshold: float
) -> list[dict[str, Any]]:
    if examples.labels is None or bool((examples.labels < 0).all()):
        return []
    values, codes = np.unique(examples.labels, return_inverse=True)
    return group_rows(outcomes, codes, [str(value) for value in values], scores, level, threshold=threshold)


def group_rows(
    outcomes: Outcomes,
    codes: npt.NDArray[np.int64],
    names: list[str],
    scores: MemorizationScore,
    level: float,
    *,
    threshold: float = MEMORIZED,
) -> list[dict[str, Any]]:
    """Memorization and fit of each group."""
    grouped = grouped_memorization(
        outcomes.correct, outcomes.mask, codes, len(names), level=level, blocks=outcomes.blocks
    )
    counts = prevalence_bounds(
        outcomes.correct,
        outcomes.mask,
        codes,
        len(names),
        threshold=threshold,
        spent=min((1 - level) / (1 - _LEVEL), 1.0),
    )
    rows = []
    for g, name in enumerate(names):
        members = scores.score[codes == g]
        known = members[~np.isnan(members)]
        fitted = scores.in_accuracy[codes == g]
        rows.append(
            {
                "group": name,
                "n": int(grouped.n[g]),
                "n_estimable": int(grouped.n_estimable[g]),
                "mean_score": float(grouped.score[g]),
                "low": float(grouped.low[g]),
                "high": float(grouped.high[g]),
                "n_memorized": int((known >= threshold - 1e-12).sum()),
                "in_accuracy": float(grouped.in_accuracy[g]),
                "out_accuracy": float(grouped.out_accuracy[g]),
                "n_not_fitted": int((fitted < NOT_FITTED_BELOW).sum()),
                "statistics": {
                    "mean": group_mean_record(grouped.mean, g),
                    "prevalence": prevalence_record(counts, g),
                },
            }
        )
    return rows


def _adjustment(correct: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    adjusted = adjusted_memorization_score(correct, mask, correct.mean(axis=1, dtype=np.float64))
    return {"covariate": "accuracy of each model over all training examples", "gain": float(adjusted.gain)}


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _plot(content: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    ax = new_axes(6, 3.2) if ax is None else ax
    histogram = content["histogram"]
    ax.stairs(histogram["counts"], histogram["edges"], fill=True, color="#4269d0")
    ax.axvline(content["prevalence"]["threshold"], color="#888888", linestyle="--", linewidth=1)
    ax.set_yscale("symlog", linthresh=1)
    first = next((i for i, count in enumerate(histogram["counts"]) if count), 0)
    limits = min(histogram["edges"][first], -0.1), 1.02
    ax.set(xlabel="memorization score", ylabel="examples", xlim=limits, ylim=(0, 2 * max(histogram["counts"])))
    return ax


def _drawings(content: Mapping[str, Any]) -> list[Drawing]:
    caption = (
        f"Memorization scores of {content['n_examples']} examples, {content['n_models']} models; the dashed line is "
        f"the threshold {content['prevalence']['threshold']}"
    )
    return [Drawing("memorization", caption, lambda: figure_of(_plot(content)))]


def _highlights(content: Mapping[str, Any], numbers: Numbers) -> list[Highlight]:
    spread, fit, agreement = content["prevalence"], content["fit"], content["reliability"]
    found = [
        Highlight(
            numbers.percent(spread["above"]),
            f"memorized beyond doubt (score ≥ {spread['threshold']})",
            f"{numbers.percent(spread['naive'])} by plain count; {numbers.percent(spread['undecided'])} undecided at "
            f"{content['n_models']} models",
        ),
        Highlight(
            numbers.percent(fit["in_accuracy"]),
            "accuracy on examples trained on",
            f"{fit['status']}: {fit['n_not_fitted']} of {content['n_examples']} wrong more often than not",
        ),
    ]
    if agreement["status"] == "ok":
        more = agreement["models_for_95"]
        wanted = "" if more is None else f"; {round(more)} models would make it 0.95"
        found.append(
            Highlight(numbers.number(agreement["spearman_brown"]), "reliability of the scores", f"1 is best{wanted}")
        )
    return found


SECTION = Section(
    name="memorization", order=10, compute=memorization_section, drawings=_drawings, highlights=_highlights
)

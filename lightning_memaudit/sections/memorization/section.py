"""What the population memorizes: scores, fit, prevalence, groups, and who influences whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.memorization import interval_method, prevalence, worst_case_standard_error
from lightning_memaudit.record.levels import MEMORIZED
from lightning_memaudit.record.pairs import held_out_split
from lightning_memaudit.record.partitions import whole
from lightning_memaudit.sections.entries import frame_of, plain
from lightning_memaudit.sections.influence import describe_duplicates, describe_influence
from lightning_memaudit.sections.memorization.fit import describe_fit, n_diverged
from lightning_memaudit.sections.memorization.groups import class_rows, group_rows
from lightning_memaudit.sections.memorization.plots import drawings, plot_scores
from lightning_memaudit.sections.memorization.scores import interval_of, mean_of_known, reads, scored
from lightning_memaudit.sections.memorization.spread import (
    describe_adjustment,
    describe_arms,
    describe_prevalence,
    describe_reliability,
    histogram,
)
from lightning_memaudit.sections.memorization.top import top_examples
from lightning_memaudit.sections.render import section_html
from lightning_memaudit.sections.section import Highlight, Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from lightning_memaudit.data.groups import Grouping
    from lightning_memaudit.record import Record
    from lightning_memaudit.sections.numbers import Numbers

__all__ = ["SECTION", "MemorizationResult", "memorization_section"]


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
        return plot_scores(self.summary, ax=ax)

    def _repr_html_(self) -> str:
        return section_html("memorization", plain(self.summary))


def memorization_section(record: Record, *, threshold: float = MEMORIZED) -> MemorizationResult:
    """Compute the section from a record.

    Args:
        record: The record.
        threshold: Score from which on an example counts as memorized.

    Raises:
        MissingDataError: There are fewer than two baseline models.
    """
    record.read(reads(record))
    known = scored(record)
    outcomes, scores, level = known.outcomes, known.scores, known.level
    ids = outcomes.model_ids
    examples, plan, stopping = record.examples("train"), record.plan, record.stopping
    method = interval_of(stopping)
    correct, mask, blocks = outcomes.correct, outcomes.mask, outcomes.blocks
    spread = prevalence(correct, mask, threshold=threshold, blocks=blocks, level=level, method=method)
    everything = whole(plan.n_examples)
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
        "mean_score": mean_of_known(scores.score),
        "fit": describe_fit(scores),
        "arms": describe_arms(scores, plan, len(ids)),
        "histogram": histogram(scores.score),
        "reliability": describe_reliability(outcomes),
        "prevalence": describe_prevalence(spread, len(ids)),
        "top": top_examples(record, known),
        "overall": group_rows(outcomes, everything.codes, list(everything.names), scores, level, threshold=threshold)[
            0
        ],
        "by_class": class_rows(outcomes, examples, scores, level, threshold),
        "by_group": {
            name: group_rows(outcomes, group.codes, list(group.names), scores, level, threshold=threshold)
            for name, group in examples.groups.items()
        },
        "influence": describe_influence(record, outcomes, scores.score, held_out_split(record.splits)),
        "near_duplicates": describe_duplicates(outcomes),
        "adjustment": describe_adjustment(correct, mask),
        "stopping": None if stopping is None else {**stopping, "is_current": stopping["n_models"] == len(ids)},
        "n_diverged_models": n_diverged(record, outcomes),
        "notes": list(record.manifest.notes),
    }
    return MemorizationResult(
        scores.score,
        known.low,
        known.high,
        scores.in_accuracy,
        scores.out_accuracy,
        scores.n_in,
        scores.n_out,
        outcomes.labels,
        examples.groups,
        summary,
    )


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
    name="memorization",
    order=10,
    compute=memorization_section,
    reads=reads,
    drawings=drawings,
    highlights=_highlights,
)

"""What each treatment costs, and who pays: drops by group with intervals, and along the long tail."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lightning_memaudit.exceptions import ArgumentError, MissingDataError
from lightning_memaudit.outcomes.arms import BASELINE, FULL
from lightning_memaudit.record import Reads, Wanted
from lightning_memaudit.record.levels import LEVEL
from lightning_memaudit.record.pairs import choose_split, paired_arm, treated_arms
from lightning_memaudit.record.partitions import partitions_of
from lightning_memaudit.sections.entries import available, frame_of, plain, unavailable
from lightning_memaudit.sections.impact import plots
from lightning_memaudit.sections.impact.calibration import describe_calibration
from lightning_memaudit.sections.impact.causes import clip_only_of, describe_decomposition, is_private, notes
from lightning_memaudit.sections.impact.exemplars import VoteCount, describe_exemplars, describe_hooker
from lightning_memaudit.sections.impact.groups import describe_groups, describe_labels, describe_overall, who_pays
from lightning_memaudit.sections.impact.influence import describe_drop_by_mass, find_influence_mass
from lightning_memaudit.sections.impact.memorization import LEAST_FREE, describe_link, free_models
from lightning_memaudit.sections.impact.rebuilt import describe_rebuilt
from lightning_memaudit.sections.render import section_html
from lightning_memaudit.sections.section import Drawing, Highlight, Section

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matplotlib.axes import Axes

    from lightning_memaudit.functional.checks import BoolArray
    from lightning_memaudit.outcomes.arms import Arm
    from lightning_memaudit.record import ArmOutcomes, Record
    from lightning_memaudit.record.pairs import PairedArm
    from lightning_memaudit.record.partitions import Partition
    from lightning_memaudit.sections.impact.influence import InfluenceMass
    from lightning_memaudit.sections.numbers import Numbers

__all__ = ["SECTION", "ImpactResult", "impact_section"]

_NESTED = ("loss", "statistics")
_WHOLE = ("loss", "margin", "prediction", "confidence")


@dataclass(frozen=True, slots=True, eq=False)
class ImpactResult:
    """What every treatment of a store costs.

    Attributes:
        summary: Everything that reports show, JSON-ready: NaN is None.
    """

    summary: dict[str, Any]

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that could be compared with their base."""
        return tuple(name for name, entry in self.summary["arms"].items() if entry["status"] == "ok")

    def to_dict(self) -> dict[str, Any]:
        """The JSON-ready summary."""
        return self.summary

    def columns(self) -> dict[str, list[Any]]:
        """One list per column, one row per arm, grouping and group."""
        rows = [
            {"arm": arm, "grouping": grouping, **{key: value for key, value in row.items() if key not in _NESTED}}
            | {f"loss_{key}": value for key, value in row["loss"].items()}
            for arm in self.arms
            for grouping, row in _all_rows(self.summary["arms"][arm])
        ]
        return {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}

    def to_frame(self) -> Any:
        """A pandas DataFrame where pandas is installed, else the dict of ``columns()``."""
        return frame_of(self.columns())

    def plot(self, ax: Axes | None = None, *, arm: str | None = None) -> Axes:
        """Drop of each group with its interval.

        Args:
            ax: Where to draw; None makes a figure.
            arm: Which arm; None takes the first one.

        Raises:
            ArgumentError: There is no such arm, or it could not be compared.
        """
        return plots.plot_groups(self._entry(arm), level=self.summary["level"], ax=ax)

    def plot_memorization(self, ax: Axes | None = None, *, arm: str | None = None) -> Axes:
        """Drop of each bin of memorization with its interval; says why where there is none.

        Args:
            ax: Where to draw; None makes a figure.
            arm: Which arm; None takes the first one.

        Raises:
            ArgumentError: There is no such arm, or it could not be compared.
        """
        return plots.plot_memorization(self._entry(arm), level=self.summary["level"], ax=ax)

    def _repr_html_(self) -> str:
        return section_html("impact", self.summary)

    def _entry(self, arm: str | None) -> dict[str, Any]:
        name = next(iter(self.arms), None) if arm is None else arm
        if name not in self.arms:
            raise ArgumentError(f"arm={arm!r}: there is {', '.join(self.arms) or 'none'} to draw")
        entry: dict[str, Any] = self.summary["arms"][name]
        return entry


def impact_section(record: Record) -> ImpactResult:
    """Compute the section from a record.

    Raises:
        MissingDataError: No model was treated.
    """
    names = treated_arms(record)
    if not names:
        raise MissingDataError(
            f"store={record.url!r} has no treated arm, and impact compares one with the baseline; pass treatments=, "
            "such as treatments=[treatments.Prune(0.9)], and run the audit again: baseline models are kept"
        )
    record.read(_reads(record))
    split, kind = choose_split(record.splits)
    divided = partitions_of(record, split)
    arms = {name: record.treatment(name) for name in names}
    link = _Link.of(record, names, split, divided)
    described = {name: _describe_arm(record, name, split, arms, divided, link) for name in names}
    summary = {
        "level": LEVEL,
        "split": {
            "name": split,
            "kind": kind,
            "judged_by": "models without the example" if split == "train" else "all models",
            "n": record.examples(split).n_examples,
            "not_used": [other for other in record.splits if other != split],
        },
        "groupings": list(divided),
        "influence_mass": link.influence.summary if link.influence else link.reason,
        "drops_by_group": _count_decided(described.values()),
        "arms": described,
    }
    return ImpactResult(plain(summary))


def _count_decided(arms: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many drops by group there are, and how many of them are undecided."""
    verdicts = [
        row["verdict"]
        for entry in arms
        for part in entry.get("by_group", {}).values()
        if part["status"] == "ok" and not part["is_overall"]
        for row in part["rows"]
        if row["n"]
    ]
    return {"n": len(verdicts), "undecided": verdicts.count("undecided")}


@dataclass(frozen=True, slots=True, eq=False)
class _Link:
    """What links drops with memorization: the baseline on the training split, and influence mass."""

    baseline: ArmOutcomes | None
    free: BoolArray | None
    influence: InfluenceMass | None
    reason: dict[str, Any]

    @classmethod
    def of(cls, record: Record, names: list[str], split: str, divided: Mapping[str, Partition | None]) -> _Link:
        if not record.arm(BASELINE).n_models:
            return cls(None, None, None, unavailable("the store has no baseline models on subsets of the data"))
        baseline = record.outcomes()
        used = {k for name in names if not name.startswith(FULL) for k in record.model_ids(name)}
        free = free_models(baseline, used)
        return cls(baseline, free, find_influence_mass(record, split, baseline, free, divided), {})


def _describe_arm(
    record: Record,
    name: str,
    split: str,
    arms: Mapping[str, Arm | None],
    divided: Mapping[str, Partition | None],
    link: _Link,
) -> dict[str, Any]:
    treatment = arms[name]
    described: dict[str, Any] = {
        "arm": name,
        "record": unavailable("the store has no record of the treatment") if treatment is None else asdict(treatment),
        "data": "full" if name.startswith(FULL) else "subset",
        "private": is_private(treatment),
    }
    try:
        arm = paired_arm(record, name, split)
    except MissingDataError as missing:
        return unavailable(str(missing)) | described
    overall = describe_overall(arm)
    groups = describe_groups(arm, divided)
    clip_only = clip_only_of(treatment, arms) if treatment is not None and is_private(treatment) else None
    counts = {source: arm.sources.count(source) for source in dict.fromkeys(arm.sources)}
    return available(
        **described,
        n_models=arm.n_models,
        model_ids=arm.model_ids,
        pairing="paired",
        base=counts,
        without_base=list(arm.without_base),
        rebuilt=describe_rebuilt(record, arm),
        n_diverged={"base": arm.base.n_diverged, "treated": arm.treated.n_diverged},
        overall=overall,
        who_pays=who_pays(arm, overall, groups, divided),
        by_group=groups,
        by_group_and_label=describe_labels(arm, divided),
        calibration=describe_calibration(arm, divided),
        hooker=describe_hooker(arm, divided),
        exemplars=describe_exemplars(record, arm, divided),
        by_memorization=_by_memorization(record, name, link),
        by_influence_mass=describe_drop_by_mass(arm, link.influence) if link.influence else link.reason,
        decomposition=_decomposition(record, arm, clip_only, divided, is_private=is_private(treatment)),
        notes=notes(treatment, arm, clip_only),
    )


def _by_memorization(record: Record, name: str, link: _Link) -> dict[str, Any]:
    if link.baseline is None or link.free is None:
        return dict.fromkeys(("slope", "bins", "exemplar_odds"), link.reason)
    if name.startswith(FULL):
        return describe_link(record, None, link.baseline, link.free)
    return describe_link(record, paired_arm(record, name, "train"), link.baseline, link.free)


def _decomposition(
    record: Record,
    arm: PairedArm,
    clip_only: str | None,
    divided: Mapping[str, Partition | None],
    *,
    is_private: bool,
) -> dict[str, Any]:
    if not is_private:
        return unavailable("the arm was not trained with DP-SGD")
    if clip_only is None:
        return unavailable("there is no clip-only arm with the same max_grad_norm, lr and max_epochs on the same data")
    try:
        clipped = paired_arm(record, clip_only, arm.split)
    except MissingDataError as missing:
        return unavailable(str(missing))
    return describe_decomposition(arm, clipped, divided)


def _all_rows(entry: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    rows = [("overall", entry["overall"])]
    for grouping, part in entry["by_group"].items():
        rows += [(grouping, row) for row in part.get("rows", ())]
    return rows


def _drawings(content: Mapping[str, Any]) -> list[Drawing]:
    level = content["level"]
    return [
        Drawing(
            f"impact_{name}",
            f"{name}: drop by group and by memorization, {100 * level:.0f} % intervals, "
            f"{entry['overall']['n']} examples, {entry['n_models']} pairs of models",
            partial(plots.arm_figure, entry, level=level),
        )
        for name, entry in content["arms"].items()
        if entry["status"] == "ok"
    ]


def _highlights(content: Mapping[str, Any], numbers: Numbers) -> list[Highlight]:
    """The group that pays most, over all arms."""
    paying = [
        (name, entry["who_pays"])
        for name, entry in content["arms"].items()
        if entry["status"] == "ok" and entry["who_pays"]["status"] == "ok" and entry["who_pays"]["decided"]
    ]
    if not paying:
        return []
    name, pays = max(paying, key=lambda pair: pair[1]["excess"])
    ends = [pays["excess_low"], pays["excess_high"]]
    return [
        Highlight(
            f"{numbers.points(pays['excess'], within=ends)} points",
            f"more is lost by {pays['grouping']} = {pays['group']} than by all, under {name}",
            f"{100 * content['level']:.0f} % interval {numbers.span(ends)}; {pays['n']} examples",
        )
    ]


def _reads(record: Record) -> Reads:
    """Votes by block, on the split that is judged and on the training examples; losses and confidences as a whole."""
    names, (split, _) = treated_arms(record), choose_split(record.splits)
    counted = [(name, split) for name in names]
    on_subsets = [name for name in names if not name.startswith(FULL)]
    used = {model_id for name in on_subsets for model_id in record.listed(name)}
    if split != "train" and len(set(record.listed(BASELINE)) - used) >= LEAST_FREE:
        counted += [(name, "train") for name in on_subsets]
    return Reads(
        consumers=tuple(VoteCount(name, where) for name, where in counted),
        whole=tuple(Wanted(name, split, _WHOLE, with_base=True) for name in names),
    )


SECTION = Section(
    name="impact",
    order=30,
    compute=impact_section,
    reads=_reads,
    drawings=_drawings,
    highlights=_highlights,
)

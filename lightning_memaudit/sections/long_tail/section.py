"""The long tail of the data, what the theory says that it costs not to memorize it, and what treatments do cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.data.groups_derived import Frequency
from lightning_memaudit.data.groups_values import LABEL, MISSING, Grouping
from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.long_tail import fit_tail, good_turing, good_turing_missing_mass, rank_frequency
from lightning_memaudit.functional.memorization import memorization_score
from lightning_memaudit.outcomes.arms import BASELINE, FULL
from lightning_memaudit.record import Reads, Wanted
from lightning_memaudit.record.levels import LEVEL
from lightning_memaudit.record.pairs import treated_arms
from lightning_memaudit.sections.canvas import figure_of
from lightning_memaudit.sections.entries import available, frame_of, plain, unavailable
from lightning_memaudit.sections.long_tail import plots
from lightning_memaudit.sections.long_tail.costs import describe_costs
from lightning_memaudit.sections.memorization import group_rows
from lightning_memaudit.sections.render import section_html
from lightning_memaudit.sections.section import Drawing, Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from lightning_memaudit.functional.checks import IntArray
    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.record import Record

__all__ = ["SECTION", "LongTailResult", "choose_subpopulations", "long_tail_section"]

SUBPOPULATION = "subpopulation"
_MOST_POINTS = 400
_ELLS = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True, eq=False)
class LongTailResult:
    """Rank and frequency of subpopulations, the theory's numbers, and predicted beside measured costs.

    Attributes:
        summary: Everything that reports show, JSON-ready: NaN is None.
    """

    summary: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The JSON-ready summary."""
        return self.summary

    def columns(self) -> dict[str, list[Any]]:
        """One list per column, one row per arm and part of the tail: predicted and measured cost."""
        keys = ("predicted", "predicted_low", "predicted_high", "measured", "measured_low", "measured_high", "verdict")
        rows = [
            {"arm": arm, "part": row["part"], **{key: row[key] for key in keys}}
            for arm, entry in self.summary["costs"].items()
            if entry["status"] == "ok"
            for row in (entry["total"], *entry["parts"])
        ]
        return {key: [row[key] for row in rows] for key in ("arm", "part", *keys)}

    def to_frame(self) -> Any:
        """A pandas DataFrame where pandas is installed, else the dict of ``columns()``."""
        return frame_of(self.columns())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Frequency against rank, both on logarithmic axes, with the fitted tail."""
        return plots.plot_ranks(self.summary, ax=ax)

    def plot_costs(self, ax: Axes | None = None) -> Axes:
        """Predicted and measured cost of each arm with their intervals."""
        return plots.plot_costs(self.summary, ax=ax)

    def _repr_html_(self) -> str:
        return section_html("long_tail", self.summary)


def long_tail_section(record: Record) -> LongTailResult:
    """Compute the section from a record.

    Raises:
        MissingDataError: The training examples have neither labels nor groupings.
    """
    record.read(_reads(record))
    examples = record.examples("train")
    name, atoms, rule = choose_subpopulations(examples)
    counts = np.bincount(atoms.codes, minlength=len(atoms.names))
    parts = _parts(atoms)
    names = treated_arms(record)
    natural = atoms.made_by is None
    summary = {
        "level": LEVEL,
        "subpopulations": {
            "grouping": name,
            "rule": rule,
            "natural": natural,
            "made_by": atoms.made_by,
            "n": int((counts > 0).sum()),
            "n_examples": examples.n_examples,
            "n_missing": int(counts[[i for i, group in enumerate(atoms.names) if group == MISSING]].sum()),
            "n_singletons": int((counts == 1).sum()),
        },
        "ranks": _ranks(counts),
        "tail_fit": asdict(fit_tail(counts, level=LEVEL)),
        "parts": _describe_parts(record, atoms, parts),
        "theory": _theory(examples, counts) if natural else _not_natural(atoms.made_by),
        "costs": {
            arm: describe_costs(record, arm, name, atoms, parts) if natural else _not_natural(atoms.made_by)
            for arm in names
        },
        "no_costs": None if names else "no model was treated; pass treatments= to measure a cost",
    }
    return LongTailResult(plain(summary))


def choose_subpopulations(examples: Examples) -> tuple[str, Grouping, str]:
    """The grouping that serves as subpopulations, and the rule by which it was taken.

    One that is named ``"subpopulation"``; else, of the labels and the groupings that are values of the data, that with
    the most groups; else a grouping that was found by a method (clusters), of which theory is not asked.

    Raises:
        MissingDataError: There is neither a label nor a grouping.

    Example:
        >>> from lightning_memaudit.outcomes.examples import Examples
        >>> choose_subpopulations(Examples(3, np.array([0, 1, 1])))[0]
        'label'
    """
    if SUBPOPULATION in examples.groups:
        return SUBPOPULATION, examples.groups[SUBPOPULATION], f"the grouping named {SUBPOPULATION!r}"
    known = dict(examples.groups)
    if examples.labels is not None and not (examples.labels < 0).all():
        values, codes = np.unique(examples.labels, return_inverse=True)
        known.setdefault(LABEL, Grouping(codes, tuple(map(str, values))))
    if not known:
        raise MissingDataError(
            "the training examples have neither class labels nor groupings; pass groups={'subpopulation': ...}"
        )
    natural = {name: group for name, group in known.items() if group.made_by is None}
    name = max(natural or known, key=lambda name: len(np.unique(known[name].codes)))
    rule = "the finest of the labels and groupings that are values of the data"
    return name, known[name], f"{rule}; name one {SUBPOPULATION!r} to choose another"


def _parts(atoms: Grouping) -> IntArray:
    """Head, torso and tail (0, 1, 2) of each subpopulation, 3 for missing values."""
    one_each = Grouping(np.arange(len(atoms.names)), atoms.names)
    found = Frequency().derive("parts", [{"train": Grouping(atoms.codes, atoms.names), "each": one_each}])["each"]
    order = {"head": 0, "torso": 1, "tail": 2, MISSING: 3}
    return np.array([order[found.names[code]] for code in found.codes], dtype=np.int64)


def _ranks(counts: IntArray) -> dict[str, Any]:
    ranks, frequencies = rank_frequency(counts)
    kept = np.unique(np.geomspace(1, len(ranks), min(_MOST_POINTS, len(ranks))).round().astype(int)) - 1
    return {
        "rank": ranks[kept],
        "frequency": frequencies[kept],
        "n": np.round(frequencies[kept] * counts.sum()).astype(int),
    }


def _describe_parts(record: Record, atoms: Grouping, parts: IntArray) -> list[dict[str, Any]]:
    """Size of head, torso and tail, and what is memorized in each."""
    own = parts[atoms.codes]
    counts = np.bincount(atoms.codes, minlength=len(atoms.names))
    names = ["head", "torso", "tail", *([MISSING] if (parts == 3).any() else [])]
    described: list[dict[str, Any]] = [
        {
            "part": name,
            "n_subpopulations": int(((parts == code) & (counts > 0)).sum()),
            "n": int((own == code).sum()),
            "share": float((own == code).mean()),
        }
        for code, name in enumerate(names)
    ]
    if record.arm(BASELINE).n_models < 2:
        return described
    outcomes = record.outcomes()
    rows = group_rows(outcomes, own, names, memorization_score(outcomes.correct, outcomes.mask), LEVEL)
    total = max(sum(row["n_memorized"] for row in rows), 1)
    keys = ("mean_score", "low", "high", "n_memorized", "in_accuracy", "out_accuracy")
    return [
        part | {key: row[key] for key in keys} | {"share_of_memorized": row["n_memorized"] / total}
        for part, row in zip(described, rows, strict=True)
    ]


def _theory(examples: Examples, counts: IntArray) -> dict[str, Any]:
    """τ_ℓ, missing mass and the price of no singleton, from the counts of the training set."""
    seen = counts[counts > 0]
    classes = None if examples.labels is None else len(np.unique(examples.labels))
    taus = good_turing(seen, _ELLS, level=LEVEL)
    missing = good_turing_missing_mass(seen, level=LEVEL)
    guess = None if classes is None or classes < 2 else 1 - 1 / classes
    singletons = int((seen == 1).sum())
    once = {key: float(getattr(taus, key)[0]) * singletons for key in ("tau", "low", "high")}
    cost: dict[str, Any] = unavailable("no subpopulation has a single example: there is no singleton to memorize")
    if guess is None:
        cost = unavailable("the examples have no class labels, or only one")
    elif singletons:
        cost = available(
            cost=guess * once["tau"],
            low=guess * max(once["low"], 0.0),
            high=min(guess * once["high"], 1.0),
            n_singletons=singletons,
            n_classes=classes,
        )
    return available(
        n_classes=classes,
        missing_mass=asdict(missing),
        optimal_error=None if guess is None else guess * missing.estimate,
        tau=[
            {"ell": ell, "tau": taus.tau[i], "low": taus.low[i], "high": taus.high[i], "points": taus.points[i]}
            for i, ell in enumerate(_ELLS)
        ],
        no_singleton=cost,
        note=taus.note,
    )


def _not_natural(made_by: Mapping[str, Any] | None) -> dict[str, Any]:
    how = (made_by or {}).get("method", "a method")
    return unavailable(
        f"not applicable: these subpopulations were made by {how}, so that their counts are the choice of whoever made "
        "them; the theory counts natural atoms, such as the values of a column"
    )


def _drawings(content: Mapping[str, Any]) -> list[Drawing]:
    known = content["subpopulations"]
    drawings = [
        Drawing(
            "rank_frequency",
            f"Frequency against rank of {known['n']} subpopulations ({known['grouping']}) of {known['n_examples']} "
            "training examples, with the power law of the tail where one was fitted",
            lambda: figure_of(plots.plot_ranks(content)),
        )
    ]
    if any(entry["status"] == "ok" for entry in content["costs"].values()):
        caption = f"Predicted and measured cost of each treatment, {100 * content['level']:.0f} % intervals"
        drawings.append(Drawing("predicted_costs", caption, lambda: figure_of(plots.plot_costs(content))))
    return drawings


def _reads(record: Record) -> Reads:
    """Predictions of the models whose cost is predicted."""
    known = (name for name in treated_arms(record) if not name.startswith(FULL))
    return Reads(whole=tuple(Wanted(name, "train", ("prediction",)) for name in known))


SECTION = Section(name="long_tail", order=40, compute=long_tail_section, reads=_reads, drawings=_drawings)

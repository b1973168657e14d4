"""Coverage, one-sided misses and width of the default interval of an accuracy drop, over the whole grid.

Random models and random examples: K0, K1 in {3, 5, 10, 30, 100}, n in {20, 50, 200}, accuracy in {.6, .9, .99}, paired
and not, four laws, with and without a drop. Widths are shown relative to two measures. "normal" is ± 1.96 true standard
errors, what a normal mean of known variance takes. "need" is the larger of that and a lower bound for any interval
whose ends miss at most 2.5 % each under every law (Pratt 1961, ``tests/helpers/width.py``): without a flip among n
examples no bound can be much below 3 / n, and three models do not show their own spread.

    python benchmarks/impact_coverage.py --repeats 1000 --again 5000 25000 --cells grid.csv
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from dataclasses import dataclass, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.helpers.crossed import LAWS, Cell, Fared, fare
from tests.helpers.width import Need, need

MODELS, SIZES = (3, 5, 10, 30, 100), (20, 50, 200)
DROPS = {0.6: (0.0, 0.1), 0.9: (0.0, 0.03, 0.1), 0.99: (0.0, 0.02, 0.04)}


def cells() -> list[Cell]:
    arms = [(pair, False) for pair in itertools.product(MODELS, MODELS)] + [((k, k), True) for k in MODELS]
    return [
        Cell(law, accuracy, drop, pair, n, paired)
        for accuracy, drops in DROPS.items()
        for drop in drops
        for law in LAWS
        for pair, paired in arms
        for n in SIZES
    ]


TOO_WIDE = 1.5


@dataclass(frozen=True)
class Row:
    """A cell, how the interval fared, and its reach relative to what is needed."""

    cell: Cell
    fared: Fared
    need: Need
    of_normal: float
    of_need: float

    @property
    def tail(self) -> float:
        return max(self.fared.missed_above, self.fared.missed_below)

    @property
    def k(self) -> int:
        return min(self.cell.n_models)


def measure(cell: Cell, repeats: int, seed: int) -> Row:
    """The tilts, which take seconds, are tried where the other bounds leave the interval too wide."""
    fared, needed = fare(cell, repeats, seed=seed), need(cell, tilted=False)
    if fared.reach > TOO_WIDE * needed.width:
        needed = need(cell)
    return Row(cell, fared, needed, fared.reach / needed.normal, fared.reach / needed.width)


def summary(rows: list[Row], repeats: int) -> str:
    """Worst figures and numbers of cells beyond the limits, as Markdown."""
    slack = 3 * (0.06 * 0.94 / repeats) ** 0.5
    lines = [
        (
            "| cells | | lowest coverage | below .94 | highest tail | above .06 | beyond by 3 SE"
            " | widest / normal | above 1.5 | widest / need | above 1.5 |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, key in (
        ("all", lambda row: "all"),
        ("accuracy", lambda row: row.cell.accuracy),
        ("n", lambda row: row.cell.n),
        ("smaller K", lambda row: row.k),
        ("law", lambda row: row.cell.law.name),
        ("arms", lambda row: "paired" if row.cell.paired else "not paired"),
    ):
        for value, part in itertools.groupby(sorted(rows, key=key), key=key):
            some = list(part)
            beyond = sum(r.tail > 0.06 + slack or r.fared.coverage < 0.94 - slack for r in some)
            lines.append(
                f"| {name} {'' if name == value else value} | {len(some)} | {min(r.fared.coverage for r in some):.3f}"
                f" | {sum(r.fared.coverage < 0.94 for r in some)} | {max(r.tail for r in some):.3f}"
                f" | {sum(r.tail > 0.06 for r in some)} | {beyond} | {max(r.of_normal for r in some):.2f}"
                f" | {sum(r.of_normal > TOO_WIDE for r in some)} | {max(r.of_need for r in some):.2f}"
                f" | {sum(r.of_need > TOO_WIDE for r in some)} |"
            )
    lines.append("")
    for title, order in (
        ("Lowest coverage", lambda r: r.fared.coverage),
        ("Highest one-sided miss at .05", lambda r: -r.tail),
        ("Widest for the need", lambda r: -r.of_need),
    ):
        lines += [f"{title}:", ""]
        lines += [
            f"- {r.cell}: coverage {r.fared.coverage:.3f}, misses {r.fared.missed_above:.3f} above and"
            f" {r.fared.missed_below:.3f} below, {r.of_normal:.2f} of the normal width, {r.of_need:.2f} of the need"
            for r in sorted(rows, key=order)[:4]
        ]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accuracy", type=float, choices=DROPS, nargs="+", default=list(DROPS))
    parser.add_argument("--n", type=int, choices=SIZES, nargs="+", default=list(SIZES))
    parser.add_argument("--cells", type=Path, help="write all cells as CSV")
    parser.add_argument(
        "--again", type=int, nargs="*", default=[], help="repeats, with other seeds, for cells beyond .94 or .06"
    )
    options = parser.parse_args()
    chosen = [cell for cell in cells() if cell.accuracy in options.accuracy and cell.n in options.n]
    rows = [measure(cell, options.repeats, options.seed) for cell in chosen]
    print(f"{len(rows)} cells, {options.repeats} repeats each\n\n{summary(rows, options.repeats)}", flush=True)
    doubtful = rows
    for seed, repeats in enumerate(options.again, start=options.seed + 1):
        doubtful = [row for row in doubtful if row.tail > 0.06 or row.fared.coverage < 0.94]
        if doubtful:
            doubtful = [measure(row.cell, repeats, seed) for row in doubtful]
            print(f"Those beyond .94 or .06, {repeats} new repeats each:\n\n{summary(doubtful, repeats)}", flush=True)
    if options.cells:
        names = [field.name for field in fields(Fared)]
        with options.cells.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["law", "accuracy", "drop", "k_base", "k_treated", "n", "paired", *names, "normal", "need"])
            for row in rows:
                cell, found = row.cell, row.fared
                key = [cell.law.name, cell.accuracy, cell.drop, *cell.n_models, cell.n, cell.paired]
                values = [getattr(found, name) for name in names]
                table.writerow([*key, *values, row.need.normal, row.need.width])


if __name__ == "__main__":
    main()

"""Coverage, one-sided misses and width of the default interval of an accuracy drop, over the whole grid.

Random models and random examples: K0, K1 in {3, 5, 10, 30, 100}, n in {20, 50, 200}, accuracy in {.6, .9, .99}, paired
and not, four laws, with and without a drop. Prints the worst cells of each part, and the whole table with ``--out``.

    python benchmarks/impact_coverage.py --repeats 1000 --out grid.csv
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.helpers.crossed import LAWS, Cell, Fared, fare

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


def worst(rows: list[tuple[Cell, Fared]]) -> None:
    """One block for each accuracy and drop."""
    for (accuracy, drop), part in itertools.groupby(rows, key=lambda row: (row[0].accuracy, row[0].drop)):
        block = list(part)
        print(f"\naccuracy {accuracy}, drop {drop}: {len(block)} cells")
        print(f"  below .94: {sum(x.coverage < 0.94 for _, x in block)}", end=", ")
        print(f"a tail above .06: {sum(max(x.missed_above, x.missed_below) > 0.06 for _, x in block)}", end=", ")
        print(f"wider than 1.5 (t): {sum(x.width > 1.5 for _, x in block)}", end=", ")
        print(f"wider than 1.5 (z): {sum(x.width_z > 1.5 for _, x in block)}")
        for name, sign in (("coverage", 1), ("missed_above", -1), ("missed_below", -1), ("width", -1), ("width_z", -1)):
            for cell, found in sorted(block, key=lambda row: sign * getattr(row[1], name))[:2]:
                print(f"  {name:12s} {getattr(found, name):.3f}  {cell} (score form {found.score:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accuracy", type=float, choices=DROPS, nargs="+", default=list(DROPS))
    parser.add_argument("--out", type=Path, help="write all cells as CSV")
    options = parser.parse_args()
    rows = [
        (cell, fare(cell, options.repeats, seed=options.seed)) for cell in cells() if cell.accuracy in options.accuracy
    ]
    worst(rows)
    if options.out:
        names = [field.name for field in fields(Fared)]
        with options.out.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["law", "accuracy", "drop", "k_base", "k_treated", "n", "paired", *names])
            for cell, found in rows:
                key = [cell.law.name, cell.accuracy, cell.drop, *cell.n_models, cell.n, cell.paired]
                table.writerow([*key, *(getattr(found, name) for name in names)])


if __name__ == "__main__":
    main()

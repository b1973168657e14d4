"""How often a gate is wrong when the truth is exactly at its margin, where both errors are likeliest.

Fresh models and fresh examples for every gate; rows are made by the statistics of a drop rule and judged by the code
that judges a policy. A false fail is a gate with a failed row, a false pass one whose rows all pass.

    python benchmarks/gate_error_rates.py --repeats 2000 --again 10000 > table.md
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.helpers.crossed import HARD, LAWS, MIXED, NOISE, SEEDS, Cell
from tests.helpers.gate_errors import ALPHA, Errors, Scenario, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

GROUPS = (1, 10, 50)
#: Examples of a group and margin at accuracy .99: just above what no flip at all can show, and far below it.
RARE = ((30, 0.1), (40, 0.08), (50, 0.06), (30, 0.02), (50, 0.02))


def both(name: str, cell: Cell, n_groups: int, n_rules: int = 1) -> Iterator[Scenario]:
    """All rows at the margin; one there and the rest far below."""
    yield Scenario(f"{name}: all at the margin", cell, n_groups, n_rules)
    if n_groups * n_rules > 1:
        yield Scenario(f"{name}: one at the margin", cell, n_groups, n_rules, n_at_margin=1)


def scenarios() -> Iterator[Scenario]:
    for law, n_groups in itertools.product(LAWS, GROUPS):
        cell = Cell(law, 0.9, 0.1, (10, 10), 50, paired=True)
        yield from both("paired arms", cell, n_groups)
        if n_groups > 1:
            yield Scenario("paired arms, models alike in all groups", cell, n_groups, shared=True)
    for law, n_groups in itertools.product((MIXED, SEEDS), GROUPS):
        yield from both("30 base models, 10 treated", Cell(law, 0.9, 0.1, (30, 10), 50), n_groups)
    for law, (n, margin) in itertools.product(LAWS, RARE):
        yield from both("rare flips", Cell(law, 0.99, margin, (10, 10), n, paired=True), 1)
    for law, (n, margin), n_groups in itertools.product((NOISE, HARD), RARE[:3], GROUPS[1:]):
        yield from both("rare flips", Cell(law, 0.99, margin, (10, 10), n, paired=True), n_groups)
    for law, n_groups in itertools.product((MIXED, HARD), GROUPS):
        yield from both("ten rules", Cell(law, 0.9, 0.1, (10, 10), 50, paired=True), n_groups, 10)


HEADINGS = (
    "",
    "rules x groups",
    "law",
    "accuracy",
    "margin",
    "models",
    "n",
    "false fail",
    "false pass",
    "without Holm",
)


def table(chosen: Iterable[Scenario], repeats: int, seed: int, run: Callable[..., Iterable[Errors]]) -> list[Scenario]:
    """Print a table; return the scenarios with a rate above α."""
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    beyond, count, highest, slack = [], 0, [0.0, 0.0], 0.0
    known = list(chosen)
    for scenario, found in zip(known, run(partial(simulate, repeats=repeats, seed=seed), known), strict=True):
        cell = scenario.cell
        wrong = [found.false_fail, found.false_pass]
        figures = " | ".join(f"{x:.4f}" for x in (*wrong, found.uncorrected_fail))
        print(
            f"| {scenario.name} | {scenario.n_rules} x {scenario.n_groups} | {cell.law.name} | {cell.accuracy} "
            f"| {cell.drop} | {cell.n_models[0]}, {cell.n_models[1]} | {cell.n} | {figures} |",
            flush=True,
        )
        highest = [max(pair) for pair in zip(highest, wrong, strict=True)]
        beyond += [scenario] * (max(wrong) > ALPHA)
        count, slack = count + 1, found.slack
    print(
        f"\n{count} scenarios of {repeats} gates: highest false fail {highest[0]:.4f}, highest false pass "
        f"{highest[1]:.4f}; above {ALPHA}: {len(beyond)}, three standard errors being {slack:.4f}.\n"
    )
    return beyond


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--again", type=int, default=0, help="Repeat scenarios above alpha with so many new gates.")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    with ProcessPoolExecutor(options.jobs) as pool:
        beyond = table(scenarios(), options.repeats, options.seed, pool.map)
        if options.again and beyond:
            table(beyond, options.again, options.seed + 1, pool.map)
    print(f"{time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()

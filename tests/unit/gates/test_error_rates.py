"""How often gates are wrong with the truth at the margin; ``benchmarks/gate_error_rates.py`` has the whole table."""

from __future__ import annotations

import pytest

from tests.helpers.crossed import HARD, MIXED, NOISE, Cell
from tests.helpers.gate_errors import ALPHA, Scenario, simulate

PAIRED = Cell(MIXED, 0.9, 0.1, (10, 10), 40, paired=True)


def rare(law, n, margin):
    return Cell(law, 0.99, margin, (10, 10), n, paired=True)


ALL_AT_MARGIN = [
    (Scenario("all", PAIRED, 1), 1000),
    (Scenario("all", PAIRED, 10), 500),
    (Scenario("all", PAIRED, 50), 200),
    (Scenario("shared", PAIRED, 10, shared=True), 500),
    (Scenario("ten rules", PAIRED, 1, 10), 500),
    (Scenario("rare", rare(HARD, 30, 0.1), 1), 2000),
    (Scenario("rare", rare(NOISE, 50, 0.06), 10), 500),
]
ONE_AT_MARGIN = [
    (Scenario("one", PAIRED, 10, n_at_margin=1), 500),
    (Scenario("one", PAIRED, 50, n_at_margin=1), 200),
    (Scenario("ten rules", PAIRED, 1, 10, n_at_margin=1), 500),
    (Scenario("rare", rare(HARD, 40, 0.08), 10, n_at_margin=1), 500),
]


@pytest.mark.parametrize(("scenario", "repeats"), ALL_AT_MARGIN, ids=lambda x: str(x))
def test_no_gate_is_wrong_too_often_where_all_rows_are_at_the_margin(scenario, repeats) -> None:
    found = simulate(scenario, repeats)
    assert found.false_fail <= ALPHA + found.slack
    assert found.false_pass <= ALPHA + found.slack
    n_rows = scenario.n_groups * scenario.n_rules
    if n_rows > 1:  # the correction is what keeps it there, and rows need none to pass
        assert found.uncorrected_fail > ALPHA + found.slack
        assert found.false_pass < 0.01


@pytest.mark.parametrize(("scenario", "repeats"), ONE_AT_MARGIN, ids=lambda x: str(x))
def test_one_row_at_the_margin_passes_in_one_of_twenty_gates_at_most(scenario, repeats) -> None:
    found = simulate(scenario, repeats)
    assert found.false_fail <= ALPHA + found.slack
    assert 0.005 < found.false_pass <= ALPHA + found.slack  # rows far below do pass, so that the one decides

"""A large policy on a report with many groups; how long it takes is in ``benchmarks/gate_speed.py``."""

from __future__ import annotations

from lightning_memaudit import evaluate_gate
from tests.helpers.gates import rules_of_all_kinds, wide_report


def test_every_rule_is_judged_on_every_group() -> None:
    result = evaluate_gate(wide_report(200), {"schema": 1, "rules": rules_of_all_kinds(100)})
    assert len(result.rows) == 200 * 100 == result.n_tests
    assert min(result.counts[verdict] for verdict in ("pass", "fail", "inconclusive")) > 100
    assert result.counts["error"] == 0

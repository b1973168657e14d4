"""A large policy on a report with many groups."""

from __future__ import annotations

import time

import numpy as np

from lightning_memaudit import evaluate_gate
from tests.helpers.gates import content, outcomes, rule

N_GROUPS, N_RULES = 1000, 200
N_DISTINCT, N_HARMED, SIZE = 100, 5, 12
KINDS = ("drop", "excess_drop", "accuracy", "gap")


def wide_report():
    """A hundred groups, each under ten names."""
    base = outcomes(6, N_DISTINCT * SIZE, 0.9)
    treated = base & outcomes(6, N_DISTINCT * SIZE, 0.9, seed=1)
    codes = np.repeat(np.arange(N_DISTINCT), SIZE)
    base[:, codes < N_HARMED], treated[:, codes < N_HARMED] = True, False
    made = content({"prune": (base, treated)}, {"g": (codes, [f"n{g}" for g in range(N_DISTINCT)])})
    times = N_GROUPS // N_DISTINCT
    whole = content({"prune": (np.tile(base, times), np.tile(treated, times))}, {})
    for section in ("impact", "accuracy"):
        arm = made[section]["arms"]["prune"]
        rows = arm["by_group"]["g"]["rows"]
        arm["by_group"]["g"]["rows"] = [{**rows[g % N_DISTINCT], "group": f"n{g}"} for g in range(N_GROUPS)]
        arm["overall"] = whole[section]["arms"]["prune"]["overall"]
    return made


def test_200_rules_on_1000_groups_are_judged_in_five_seconds_of_one_core() -> None:
    made = wide_report()
    rules = {
        f"r{i}": rule(KINDS[i % 4], 0.9 - 0.004 * i if KINDS[i % 4] == "accuracy" else 0.004 * i)
        for i in range(N_RULES)
    }
    seconds = []
    while not seconds or (min(seconds) >= 5 and len(seconds) < 3):  # a busy machine is slow for a while
        start = time.process_time()
        result = evaluate_gate(made, {"schema": 1, "rules": rules})
        seconds.append(time.process_time() - start)
    counts = result.counts
    assert len(result.rows) == N_GROUPS * N_RULES == result.n_tests
    assert min(counts[verdict] for verdict in ("pass", "fail", "inconclusive")) > 500
    assert counts["error"] == 0
    assert min(seconds) < 5

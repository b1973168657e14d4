"""A large policy on a report with many groups."""

from __future__ import annotations

import time

import numpy as np

from lightning_memaudit import evaluate_gate
from tests.helpers.gates import content, outcomes, rule

N_GROUPS, N_HARMED, SIZE, N_RULES = 1000, 50, 12, 200
KINDS = ("drop", "excess_drop", "accuracy", "gap")


def test_200_rules_on_1000_groups_are_judged_in_five_seconds_of_one_core() -> None:
    base = outcomes(6, N_GROUPS * SIZE, 0.9)
    treated = base & outcomes(6, N_GROUPS * SIZE, 0.9, seed=1)
    codes = np.repeat(np.arange(N_GROUPS), SIZE)
    base[:, codes < N_HARMED], treated[:, codes < N_HARMED] = True, False
    made = content({"prune": (base, treated)}, {"g": (codes, [f"n{g}" for g in range(N_GROUPS)])})
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

"""How long a large policy takes to be judged, in seconds of one core, and how that grows with the rules.

python benchmarks/gate_speed.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lightning_memaudit import evaluate_gate
from tests.helpers.gates import rules_of_all_kinds, wide_report


def main() -> None:
    report = wide_report(1000)
    before = None
    for n_rules in (50, 100, 200):
        policy = {"schema": 1, "rules": rules_of_all_kinds(n_rules)}
        seconds = []
        for _ in range(3):
            started = time.process_time()
            evaluate_gate(report, policy)
            seconds.append(time.process_time() - started)
        growth = f", {min(seconds) / before:.2f} times that of half as many" if before else ""
        print(f"{n_rules} rules x 1000 groups: {min(seconds):.1f} s{growth}")
        before = min(seconds)


if __name__ == "__main__":
    main()

"""How long a report of a large audit takes, and how large it is: 50 000 examples, 400 models, 100 groups.

python benchmarks/report_size.py           # about two minutes
python benchmarks/report_size.py --quick
python benchmarks/report_size.py --n-train 20000 --n-test 4000 --n-models 100 --rounds 3 --against OTHER_CHECKOUT

With a second checkout both compute the sections of one store in turns, each time in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lightning_memaudit import AuditReport, OutcomeStore, SubsetPlan
from lightning_memaudit.data.groups import grouping
from lightning_memaudit.outcomes.examples import Examples, label_digest
from lightning_memaudit.outcomes.manifest import Identity, Manifest
from lightning_memaudit.outcomes.shard import Shard, SplitScores

CLASSES, GROUPS, TREATED = 100, 100, 10


def scores(right: np.ndarray, labels: np.ndarray) -> SplitScores:
    return SplitScores(
        right,
        np.where(right, 2.0, -1.0).astype(np.float32),
        np.where(right, 0.1, 2.0).astype(np.float32),
        np.where(right, labels, (labels + 1) % CLASSES).astype(np.int32),
        np.full(len(labels), 0.9, dtype=np.float32),
    )


def fill(folder: Path, *, n_train: int, n_test: int, n_models: int) -> OutcomeStore:
    rng = np.random.default_rng(0)
    plan = SubsetPlan(n_train, seed=0)
    labels = {"train": rng.integers(0, CLASSES, n_train), "test": rng.integers(0, CLASSES, n_test)}
    hard = {split: rng.beta(0.3, 3, len(y)) for split, y in labels.items()}
    data = {split: {"n_examples": len(y), "labels": label_digest(y), "inputs": "x"} for split, y in labels.items()}
    store = OutcomeStore(folder)
    store.open(Manifest(Identity(plan.to_dict(), data, {"class": "Net"}, {}, {"score_fn": "f"}), tuple(labels)))
    for split, y in labels.items():
        names = [f"group {i:03d}" for i in rng.integers(0, GROUPS, len(y))]
        previews = rng.integers(0, 255, (len(y), 32, 32, 3), dtype=np.uint8)
        groups = {"region": grouping(names, name="region", n_examples=len(y))}
        store.write_examples(split, Examples(len(y), y, groups, previews=previews))
    for k in range(n_models):
        base = {split: rng.random(len(y)) > hard[split] for split, y in labels.items()}
        base["train"] |= plan.mask(k)
        arms = {"baseline": base}
        if k < TREATED:
            arms["prune-0.9"] = {split: right & (rng.random(len(right)) > 0.05) for split, right in base.items()}
        for arm, outcomes in arms.items():
            by_split = {split: scores(right, labels[split]) for split, right in outcomes.items()}
            store.write(Shard.of_model(plan, k, by_split, wall_seconds=1.0), arm=arm)
    return store


def compute_only(url: str) -> None:
    """Print what the sections of a store take: seconds, processor seconds and the largest size in memory."""
    started = time.perf_counter(), time.process_time()
    AuditReport.from_store(OutcomeStore(url))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{time.perf_counter() - started[0]} {time.process_time() - started[1]} {peak}")


def compare(url: str, other: str, *, rounds: int) -> None:
    """Compute the sections of a store with this checkout and another one in turns; medians."""
    here = str(Path(__file__).parents[1])
    seen: dict[str, list[list[float]]] = {other: [], here: []}
    for _ in range(rounds):
        for checkout, own in seen.items():
            said = subprocess.run(
                [sys.executable, __file__, "--only-compute", url],
                env=os.environ | {"PYTHONPATH": checkout},
                cwd="/",
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            own.append([float(number) for number in said.split()])
    theirs, ours = (np.median(own, axis=0) for own in seen.values())
    for what, before, now in zip(("seconds", "processor seconds", "MB at most"), theirs, ours, strict=True):
        print(f"sections: {before:.1f} {what} there, {now:.1f} here, ratio {before / now:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    for name, default in (("n-train", 50_000), ("n-test", 10_000), ("n-models", 400), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--against", metavar="CHECKOUT")
    parser.add_argument("--only-compute", metavar="STORE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only_compute:
        compute_only(given.only_compute)
        return
    size = {"n_train": 5000, "n_test": 1000, "n_models": 40}
    if not given.quick:
        size = {name: getattr(given, name) for name in size}
    with tempfile.TemporaryDirectory() as folder:
        store = fill(Path(folder) / "store", **size)
        if given.against:
            compare(store.url, str(Path(given.against).resolve()), rounds=given.rounds)
            return
        started = time.perf_counter()
        report = AuditReport.from_store(store)
        computed = time.perf_counter()
        report.save(Path(folder) / "html", formats=["html"])
        written = time.perf_counter()
        report.save(Path(folder) / "all")
        saved = time.perf_counter()
        megabytes = (Path(folder) / "html" / "report.html").stat().st_size / 1e6
    print(f"sections {computed - started:.1f} s; report.html {megabytes:.2f} MB (goal 5) in {written - computed:.1f} s "
          f"(goal 20); all files {saved - written:.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()

"""Influence at scale: time and memory beside the paper's numpy form, as ratios within one run.

Every variant runs in a fresh process, from 0/1 arrays in memory to its result: what numba needs to start and compile is
counted, the imports of numpy, torch and this package are not. Memory is the peak of the whole process, arguments,
libraries and the pages of a mapped file included. Goals: at least 6 times as fast as the numpy form with at most half
of its memory; at most 1.5 GB for the top-k pairs.

    python benchmarks/influence.py            # 50 000 x 10 000 x 2000: the numpy form takes 8.5 GB
    python benchmarks/influence.py --quick    # a fifth of the pairs
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FULL, QUICK = (50_000, 10_000, 2000), (20_000, 5000, 2000)
NUMPY_FORM, TOP_K = "the paper's numpy form", "top 10 of each test example"
VARIANTS = {
    "dense, in memory": {},
    "dense, to a memory map": {"out": "influence.npy"},
    TOP_K: {"top_k": 10},
    "threshold .15": {"threshold": 0.15},
    "dense, without numba": {},
}


def outcomes(n_train: int, n_test: int, n_models: int) -> tuple[np.ndarray, np.ndarray]:
    """Random 0/1 outcomes and subsets of 70 %, made row by row so that making them takes no memory."""
    rng = np.random.default_rng(0)
    correct, mask = np.empty((n_models, n_test), dtype=bool), np.empty((n_models, n_train), dtype=bool)
    for k in range(n_models):
        correct[k] = rng.random(n_test, dtype=np.float32) < 0.5
        mask[k] = rng.random(n_train, dtype=np.float32) < 0.7
    return correct, mask


def numpy_form(correct: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Feldman and Zhang's released estimate, [test, train]: a float32 product for each arm, and quotients of those."""

    def mean(arm: np.ndarray) -> np.ndarray:
        right = correct.T.astype(np.float32)
        return (right @ arm / np.maximum(arm.sum(axis=0, keepdims=True), 1e-10)).astype(np.float32)

    return mean(mask) - mean(np.logical_not(mask))


def measure(variant: str, sizes: tuple[int, int, int], folder: str) -> dict:
    """Seconds on the clock and of CPU, peak memory in GB and a few values of one variant, in this process."""
    correct, mask = outcomes(*sizes)
    if variant == NUMPY_FORM:
        started, spent = time.perf_counter(), time.process_time()
        dense = numpy_form(correct, mask).T
    else:
        from lightning_memaudit.functional.influence import influence

        if variant.endswith("without numba"):
            sys.modules["numba"] = None  # type: ignore[assignment]
        options = {name: Path(folder) / value if name == "out" else value for name, value in VARIANTS[variant].items()}
        started, spent = time.perf_counter(), time.process_time()
        dense = influence(correct, mask, **options)
    seconds, cpu = time.perf_counter() - started, time.process_time() - spent
    sample = dense[:: sizes[0] // 50, :: sizes[1] // 50].tolist() if isinstance(dense, np.ndarray) else None
    return {"seconds": seconds, "cpu": cpu, "gigabytes": peak(), "sample": sample}


def peak() -> float:
    """Peak memory of this process in GB; ``getrusage`` may also count the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def in_fresh_processes(sizes: tuple[int, int, int], rounds: int) -> dict[str, dict]:
    """Every variant, each in its own process; medians over rounds that alternate between the variants."""
    found: dict[str, list[dict]] = {name: [] for name in (NUMPY_FORM, *VARIANTS)}
    for _ in range(rounds):
        for name, runs in found.items():
            with tempfile.TemporaryDirectory() as folder:
                order = [sys.executable, __file__, "--variant", name, "--folder", folder]
                order += ["--train", str(sizes[0]), "--test", str(sizes[1]), "--models", str(sizes[2])]
                runs.append(json.loads(subprocess.run(order, stdout=subprocess.PIPE, check=True, text=True).stdout))
            if runs[-1]["sample"]:
                np.testing.assert_allclose(runs[-1]["sample"], found[NUMPY_FORM][0]["sample"], atol=1e-6)
    return {
        name: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "cpu", "gigabytes")}
        for name, runs in found.items()
    }


def rows(quick: bool, sizes: tuple[int, int, int] | None = None, rounds: int = 1) -> list[dict]:
    """The figures for the table of goals."""
    sizes = sizes or (QUICK if quick else FULL)
    found = in_fresh_processes(sizes, rounds)
    theirs = found[NUMPY_FORM]
    shape = "{}x{}x{}".format(*sizes)
    table = []
    for name in VARIANTS:
        ours = found[name]
        detail = (
            f"{ours['seconds']:.1f} s ({ours['cpu']:.1f} s CPU) and {ours['gigabytes']:.2f} GB; the numpy form "
            f"{theirs['seconds']:.1f} s ({theirs['cpu']:.1f} s CPU) and {theirs['gigabytes']:.2f} GB"
        )
        speed, memory = theirs["seconds"] / ours["seconds"], ours["gigabytes"] / theirs["gigabytes"]
        goals = name in ("dense, in memory", "dense, to a memory map")
        table.append(row(f"influence {shape}, {name}: speed", speed, "x", 6 if goals else None, detail))
        if name == TOP_K:
            table.append(row(f"influence {shape}, {name}: memory", ours["gigabytes"], "GB (at most)", 1.5, detail))
        else:
            table.append(
                row(f"influence {shape}, {name}: memory", memory, "x (at most)", 0.5 if goals else None, detail)
            )
    return table


def row(goal: str, measured: float, unit: str, target: float | None, detail: str) -> dict:
    return {"goal": goal, "measured": measured, "unit": unit, "floor": target, "target": target, "detail": detail}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--train", type=int)
    parser.add_argument("--test", type=int)
    parser.add_argument("--models", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--variant", choices=[NUMPY_FORM, *VARIANTS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    defaults = QUICK if options.quick else FULL
    given = options.train, options.test, options.models
    n_train, n_test, n_models = (size or default for size, default in zip(given, defaults, strict=True))
    sizes = n_train, n_test, n_models
    if options.variant:
        print(json.dumps(measure(options.variant, sizes, options.folder)))
        return
    import torch

    print(f"{platform.machine()}, {torch.get_num_threads()} threads, numpy {np.__version__}, torch {torch.__version__}")
    for found in rows(options.quick, sizes, options.rounds):
        goal = "" if found["target"] is None else f" (goal {found['target']})"
        print(f"{found['goal']:75} {found['measured']:6.2f} {found['unit']}{goal}; {found['detail']}")


if __name__ == "__main__":
    main()

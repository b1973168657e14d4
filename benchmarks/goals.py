"""Every row of the table of goals, as ratios within one run; the figures are kept in benchmarks/results/.

    python benchmarks/goals.py                  # about half an hour on two cores
    python benchmarks/goals.py --only mlp-15    # rows whose name begins so
    python benchmarks/goals.py --quick          # fewer models and rounds: a rehearsal

"A" is what a user writes: a new Trainer per subset, then a prediction pass over everything. It is timed on a few models
right before and right after the audit that it is compared with, in the same process and with the threads torch takes by
default. Audits start from nothing: trial, guard and worker processes count.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from tasks import MLP, Digits, LargeCNN, LargeDigits, SmallCNN, by_hand, quieten

from lightning_memaudit import Audit, SubsetPlan
from lightning_memaudit.outcomes.manifest import library_versions
from lightning_memaudit.training.executors import Process

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def row(goal: str, measured: float, unit: str, floor: float | None, target: float | None, detail: str) -> dict:
    return {"goal": goal, "measured": measured, "unit": unit, "floor": floor, "target": target, "detail": detail}


def audit_seconds(model, data, *, n_models: int, epochs: int, executor="auto") -> tuple[float, dict]:
    """Wall seconds of ``audit.train()`` on a new store, and how the models were trained."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        audit = Audit(
            model,
            data,
            trainer={"max_epochs": epochs, "accelerator": "cpu"},
            n_models=n_models,
            store=folder,
            executor=executor,
        )
        store = audit.train(progress=False)
        seconds = time.perf_counter() - started
        assert len(store.model_ids()) == n_models
        return seconds, store.manifest.execution


def against_a(name: str, model, data, *, n_examples: int, n_models: int, epochs: int, floor: float, target: float):
    """``audit.train()`` against A: how many times as fast."""
    plan = SubsetPlan(n_examples)
    by_hand(model, data, plan, 0, 1)  # imports and caches
    a = [by_hand(model, data, plan, k, epochs) for k in (1, 2)]
    seconds, execution = audit_seconds(model, data, n_models=n_models, epochs=epochs)
    a += [by_hand(model, data, plan, k, epochs) for k in (3, 4)]
    per_model = statistics.median(a)
    detail = (
        f"A {per_model:.3f} s a model ({min(a):.3f} to {max(a):.3f}), audit {seconds:.1f} s for {n_models} models; "
        f"{execution['engine']}, {execution['chunk_size']} at once: {execution['reason']}"
    )
    return row(name, per_model * n_models / seconds, "x", floor, target, detail), seconds


def forget_compiled() -> None:
    """What the compiler has kept, so that the next run has to compile."""
    shutil.rmtree(os.environ["TORCHINDUCTOR_CACHE_DIR"], ignore_errors=True)


def gemm_peak() -> float:
    """Floating-point operations per second of one core, in a large float32 product."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a = torch.randn(1024, 1024)
    best = 0.0
    for _ in range(8):
        started = time.perf_counter()
        a @ a
        best = max(best, 2 * 1024**3 / (time.perf_counter() - started))
    torch.set_num_threads(threads)
    return best


def mlp_256(quick: bool) -> list[dict]:
    n_models = 64 if quick else 256
    return [against_a("MLP, 60 epochs, 256 models, against A", MLP, Digits, n_examples=1797, n_models=n_models,
                      epochs=60, floor=12, target=25)[0]]  # fmt: skip


def mlp_1000(quick: bool) -> list[dict]:
    n_models = 128 if quick else 1000
    against, seconds = against_a("MLP, 60 epochs, 1000 models, against A", MLP, Digits, n_examples=1797,
                                 n_models=n_models, epochs=60, floor=20, target=35)  # fmt: skip
    again, _ = audit_seconds(MLP, Digits, n_models=n_models, epochs=60)
    peak = gemm_peak()
    flops = MLP.flops_training * int(SubsetPlan(1797).mask(0).sum()) * 60 + MLP.flops_forward * 1797
    times = seconds * cores() / n_models / (flops / peak)
    return [
        against,
        row("MLP, 1000 models: times the FLOP floor, per core", times, "x floor", 5, 2.5,
            f"{flops / 1e9:.2f} GFLOP a model, {peak / 1e9:.0f} GFLOP/s a core"),
        row("the same, on what the compiler has kept of that run", times * again / seconds, "x floor", None, None,
            f"audit {again:.1f} s"),
    ]  # fmt: skip


def mlp_15(quick: bool) -> list[dict]:
    return [against_a("MLP, 15 epochs, 256 models, against A", MLP, Digits, n_examples=1797,
                      n_models=64 if quick else 256, epochs=15, floor=8, target=20)[0]]  # fmt: skip


def cnn_8(quick: bool) -> list[dict]:
    data = partial(Digits, images=True)
    return [against_a("CNN 8x8, 4 epochs, 128 models, against A", SmallCNN, data, n_examples=1797,
                      n_models=32 if quick else 128, epochs=4, floor=3, target=6)[0]]  # fmt: skip


def cnn_28(quick: bool) -> list[dict]:
    return [against_a("CNN 28x28, n=10 000, 1 epoch, against A", LargeCNN, LargeDigits, n_examples=10_000,
                      n_models=8 if quick else 24, epochs=1, floor=1, target=1.8)[0]]  # fmt: skip


def workers(quick: bool) -> list[dict]:
    n_models = 64 if quick else 1000
    torch.set_num_threads(1)  # else one worker has the threads of all cores
    one, _ = audit_seconds(MLP, Digits, n_models=n_models, epochs=60, executor=Process(n_workers=1))
    forget_compiled()
    two, _ = audit_seconds(MLP, Digits, n_models=n_models, epochs=60, executor=Process(n_workers=2))
    return [row("two workers against one", one / two, "x", 1.8, 1.8,
                f"{n_models} MLPs, 60 epochs, one thread each: {one:.1f} s and {two:.1f} s, start of the worker "
                "and compiling included")]  # fmt: skip


def doubling(quick: bool) -> list[dict]:
    base = {"n_models": 64 if quick else 192, "epochs": 40}
    once, _ = audit_seconds(MLP, Digits, **base)
    variants = {
        "models": audit_seconds(MLP, Digits, **(base | {"n_models": 2 * base["n_models"]}))[0],
        "epochs": audit_seconds(MLP, Digits, **(base | {"epochs": 80}))[0],
        "examples": audit_seconds(MLP, partial(Digits, copies=2), **base)[0],
    }
    return [row(f"time as {name} double", seconds / once, "x (at most)", 2.1, 2.1, f"{once:.1f} s and {seconds:.1f} s")
            for name, seconds in variants.items()]  # fmt: skip


def imports(quick: bool) -> list[dict]:
    def after_lightning(statement: str) -> float:
        code = f"import lightning, time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)

    rounds = 3 if quick else 7
    rows = []
    for statement, limit in (("import lightning_memaudit", 150), ("from lightning_memaudit import Audit", None)):
        found = [after_lightning(statement) * 1e3 for _ in range(rounds)]
        rows.append(row(f"{statement}, after import lightning", statistics.median(found), "ms (at most)", limit, limit,
                        f"{min(found):.1f} to {max(found):.1f} ms"))  # fmt: skip
    return rows


def demo(quick: bool) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(
            [Path(sys.executable).with_name("memaudit"), "demo", "--out", f"{folder}/demo"],
            capture_output=True,
            check=True,
        )
        seconds = time.perf_counter() - started
    return [row("memaudit demo, after installation", seconds, "s (at most)", 120, 120, "wall time of the command")]


def overhead(quick: bool) -> list[dict]:
    from overhead import rows

    return rows(quick)


def influence(quick: bool) -> list[dict]:
    from influence import rows

    return rows(quick)


def differential_privacy(quick: bool) -> list[dict]:
    from differential_privacy import rows

    return rows(quick)


ROWS = {
    "mlp-256": mlp_256,
    "mlp-1000": mlp_1000,
    "mlp-15": mlp_15,
    "cnn-8": cnn_8,
    "cnn-28": cnn_28,
    "influence": influence,
    "overhead": overhead,
    "dp": differential_privacy,
    "workers": workers,
    "doubling": doubling,
    "import": imports,
    "demo": demo,
}


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def verdict(result: dict) -> str:
    floor, target, value = result["floor"], result["target"], result["measured"]
    if floor is None or target is None:
        return ""
    upward = target > floor or (target == floor and "at most" not in result["unit"])
    if (value >= target) if upward else (value <= target):
        return "goal reached"
    return "floor reached" if ((value >= floor) if upward else (value <= floor)) else "NOT REACHED"


def table(results: list[dict], machine: dict) -> str:
    lines = [f"# Goals, {machine['date']}", ""]
    lines += [f"- {key}: {value}" for key, value in machine.items() if key != "date"]
    lines += ["", "| row | measured | floor | goal | | |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {r['goal']} | {r['measured']:.3g} {r['unit']} | {r['floor']} | {r['target']} | {verdict(r)} | "
        f"{r['detail']} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="rows whose name begins so")
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results/")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # one row, in a process of its own
    options = parser.parse_args()
    if options.row:
        quieten()
        print("RESULT" + json.dumps(ROWS[options.row](options.quick)))
        return
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    machine = {
        "date": today,
        "machine": f"{platform.machine()}, {processor()}, {cores()} cores",
        "threads": f"{torch.get_num_threads()} by default",
        "versions": ", ".join(f"{name} {version}" for name, version in library_versions().items()),
        "quick": options.quick,
    }
    results, failed = [], []
    for name in ROWS:
        if name.startswith(options.only):
            command = [sys.executable, __file__, "--row", name, *(["--quick"] if options.quick else [])]
            with tempfile.TemporaryDirectory() as cache:  # of the compiler: nothing is in it
                environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
                output = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            found = [line for line in output.stdout.splitlines() if line.startswith("RESULT")]
            if not found:
                print(f"| {name} | FAILED | | | | {output.stderr.strip().splitlines()[-1:]} |", flush=True)
                failed.append(name)
                continue
            results += json.loads(found[0].removeprefix("RESULT"))
            for line in table(results, machine).splitlines()[-len(json.loads(found[0].removeprefix("RESULT"))) :]:
                print(line, flush=True)
    print("\n" + table(results, machine))
    if options.keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{today}.md").write_text(table(results, machine))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

"""Where the time of a vectorised step goes, by kind of operation, beside the floor that its products alone would take.

python benchmarks/profile_step.py               # half a minute
python benchmarks/profile_step.py --compiled    # the same models, with a compiled step
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
from collections import Counter
from typing import TYPE_CHECKING

import torch
from goals import gemm_peak
from tasks import MLP, Digits, quieten
from torch.profiler import ProfilerActivity, profile

from lightning_memaudit import Audit, SubsetPlan
from lightning_memaudit.training.executors import Ensemble
from lightning_memaudit.training.timing import Thresholds

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS, EPOCHS = 128, 60
KINDS = {
    "tracing and data loaders, once": ("PythonDispatchMode", "enumerate(DataLoader)"),
    "products": ("aten::bmm", "aten::baddbmm", "aten::mm", "aten::addmm", "aten::matmul"),
    "gathering minibatches": ("aten::index", "aten::index_select", "aten::gather"),
    "optimizer": (
        "Optimizer.",
        "aten::_foreach_",
        "aten::_fused_",
        "aten::mul_",
        "aten::add_",
        "aten::addcmul_",
        "aten::lerp_",
    ),
    "loss": (
        "aten::_log_softmax",
        "aten::_softmax",
        "aten::nll_loss",
        "aten::logsumexp",
        "aten::_log_softmax_backward",
    ),
    "activations": ("aten::relu", "aten::threshold", "aten::clamp", "aten::where", "aten::le", "aten::gt", "aten::ne"),
    "sums and copies": (
        "aten::sum",
        "aten::copy_",
        "aten::add",
        "aten::mul",
        "aten::fill_",
        "aten::zero_",
        "aten::mean",
    ),
}


def kind_of(name: str) -> str:
    return next((kind for kind, names in KINDS.items() if name.startswith(names)), "everything else")


def operations(run: Callable[[str], None]) -> Counter[str]:
    """Milliseconds of traced operations, by kind."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        run("store")
    spent: Counter[str] = Counter()
    for event in record.key_averages():
        spent[kind_of(event.key)] += event.self_cpu_time_total / 1e3
    return spent


COMPILED = {
    "products": "torch.bmm",
    "loss, activations and sums, fused": ".kernel",
    "optimizer": "torch._fused_",
    "gathering minibatches": "index_select",
}


def calls(run: Callable[[str], None]) -> Counter[str]:
    """Milliseconds of calls from Python, by kind: compiled kernels are no operations that torch's profiler knows."""
    run("compiled before")
    profiler = cProfile.Profile()
    profiler.runcall(run, "store")
    spent: Counter[str] = Counter()
    for (_, _, name), (_, _, own, _, _) in pstats.Stats(profiler).stats.items():
        kind = next((kind for kind, part in COMPILED.items() if part in name), "Python, scores, trial, the compiler")
        spent[kind] += own * 1e3
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiled", action="store_true")
    options = parser.parse_args()
    quieten()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str) -> None:
            thresholds = Thresholds(compiling_seconds=0.0) if options.compiled else Thresholds()
            executor = Ensemble(thresholds=thresholds)
            trainer = {"max_epochs": EPOCHS, "accelerator": "cpu"}
            audit = Audit(MLP, Digits, n_models=MODELS, store=f"{folder}/{name}", trainer=trainer, executor=executor)
            audit.train(progress=False)

        run("warm")
        spent = calls(run) if options.compiled else operations(run)
    flops = MODELS * (MLP.flops_training * int(SubsetPlan(1797).mask(0).sum()) * EPOCHS + MLP.flops_forward * 1797)
    peak = gemm_peak()
    floor = flops / peak * 1e3
    total = sum(spent.values())
    print(
        f"{MODELS} MLPs, {EPOCHS} epochs, one thread, trial included: {total:.0f} ms; floor of the products at the "
        f"peak of a large one ({peak / 1e9:.0f} GFLOP/s) {floor:.0f} ms\n\n"
        "| kind | ms | share | x floor |\n|---|---|---|---|"
    )
    for kind, milliseconds in spent.most_common():
        print(f"| {kind} | {milliseconds:.0f} | {milliseconds / total:.0%} | {milliseconds / floor:.2f} |")


if __name__ == "__main__":
    main()

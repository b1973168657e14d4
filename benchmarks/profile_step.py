"""Where the time of a vectorised step goes, by kind of operation, beside the floor that its products alone would take.

python benchmarks/profile_step.py           # half a minute
"""

from __future__ import annotations

import tempfile
from collections import Counter

import torch
from goals import gemm_peak
from tasks import MLP, Digits, quieten
from torch.profiler import ProfilerActivity, profile

from lightning_memaudit import Audit, SubsetPlan

MODELS, EPOCHS = 64, 40
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


def main() -> None:
    quieten()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"trainer": {"max_epochs": EPOCHS, "accelerator": "cpu"}, "executor": "ensemble"}
        Audit(MLP, Digits, n_models=MODELS, store=f"{folder}/warm", **arguments).train(progress=False)
        with profile(activities=[ProfilerActivity.CPU]) as record:
            Audit(MLP, Digits, n_models=MODELS, store=f"{folder}/store", **arguments).train(progress=False)
    spent: Counter[str] = Counter()
    for event in record.key_averages():
        spent[kind_of(event.key)] += event.self_cpu_time_total / 1e3
    flops = MODELS * (MLP.flops_training * int(SubsetPlan(1797).mask(0).sum()) * EPOCHS + MLP.flops_forward * 1797)
    floor = flops / gemm_peak() * 1e3
    total = sum(spent.values())
    print(
        f"{MODELS} MLPs, {EPOCHS} epochs, one thread, trial included: {total:.0f} ms of operations; floor of the "
        f"products at the peak of a large one {floor:.0f} ms\n\n| kind | ms | share | x floor |\n|---|---|---|---|"
    )
    for kind, milliseconds in spent.most_common():
        print(f"| {kind} | {milliseconds:.0f} | {milliseconds / total:.0%} | {milliseconds / floor:.2f} |")


if __name__ == "__main__":
    main()

"""Trains privately as one of two processes; run by test_private.py."""

from __future__ import annotations

import json
import os
import sys
import warnings
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.unit.callbacks.dp.toys import Net, fit, loader, mlp, private, weights

DDP = {"strategy": "ddp", "devices": 2, "max_epochs": 2}


def record(folder: Path, name: str, **facts: object) -> None:
    (folder / f"{name}-{os.environ.get('LOCAL_RANK', '0')}.json").write_text(json.dumps(facts))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    start = mlp()
    record(folder, "start", weights=weights(start).tolist())
    for name, options in {
        "clipped": {"max_grad_norm": 0.1},
        "parts": {"max_grad_norm": 0.1, "max_physical_batch_size": 16},
        "ghost": {"max_grad_norm": 0.1, "grad_sample_mode": "ghost"},
        "noisy": {"max_grad_norm": 1.0, "noise_multiplier": 2.0},
    }.items():
        model, callback = Net(mlp()), private(**options)
        model.net.load_state_dict(start.state_dict())
        if name == "noisy":
            model.loss = lambda net, batch: net(batch[0]).sum() * 0
            model.optimizer = partial(torch.optim.SGD, lr=1.0)
        trainer = fit(model, callback, loader(200, 20), **DDP)
        facts = {"seen": model.seen, "weights": weights(model).tolist(), "steps": trainer.global_step}
        record(folder, name, **facts, epsilon=callback.epsilon, expected=callback.mechanism.expected_batch_size)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))

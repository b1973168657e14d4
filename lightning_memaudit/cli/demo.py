"""``memaudit demo``: the main job on built-in data."""

from __future__ import annotations

import torch
from jsonargparse import ArgumentParser

from lightning_memaudit.audit import Audit
from lightning_memaudit.cli.demo_task import DigitsNet, LongTailedDigits
from lightning_memaudit.cli.output import say, write_report
from lightning_memaudit.treatments import DPSGD, ClipOnly, Prune, Quantize

__all__ = ["main"]

_LR, _EPOCHS = 1.0, 20  # at the baseline's own rate clipping alone would cost the rare classes three quarters
_TREATMENTS = (
    ClipOnly(lr=_LR, max_epochs=_EPOCHS),
    DPSGD(target_epsilon=8.0, lr=_LR, max_epochs=_EPOCHS),
    DPSGD(target_epsilon=1.0, lr=_LR, max_epochs=_EPOCHS),
    Prune(0.5),
    Prune(0.9),
    Quantize(),
)


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = ArgumentParser(
        prog="memaudit demo",
        epilog="Example: memaudit demo --out memaudit-demo",
        description="Audit a small network on handwritten digits with three rare classes and twenty wrong labels.",
    )
    parser.add_argument("--out", type=str, default="memaudit-demo", help="Folder for the store and the report.")
    parser.add_argument("--n-models", type=int, default=60, help="Models to train.")
    parser.add_argument("--n-treated-models", type=int, default=8, help="Models of each treatment.")
    parser.add_argument("--max-epochs", type=int, default=60, help="Epochs of each model.")
    parser.add_argument("--no-progress", action="store_true", help="Show no progress bar.")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # steps this small only lose by sharing
    audit = Audit(
        DigitsNet,
        LongTailedDigits,
        trainer={"max_epochs": options.max_epochs, "accelerator": "cpu"},
        n_models=options.n_models,
        store=f"{options.out}/store",
        groups={"frequency": "frequency", "annotation": "annotation"},
        treatments=_TREATMENTS,
        n_treated_models=options.n_treated_models,
    )
    say(
        f"Training {options.n_models} small networks, each on a random 70 % of {audit.plan.n_examples} digits: the "
        "classes 3, 5 and 8 are rare, and 20 labels are wrong. Then "
        f"{options.n_treated_models} of each treatment: {', '.join(treatment.name for treatment in _TREATMENTS)}."
    )
    audit.train(progress=not options.no_progress)
    write_report(audit.report(), audit.store, options.out)
    return 0

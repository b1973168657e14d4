"""What DifferentialPrivacy costs, against Opacus's own training loop, as ratios within one run.

The same net, data, sampling rate, noise and clip norm are trained by a plain loop, by the loop of Opacus's tutorial
(``PrivacyEngine.make_private``), by a plain Lightning Trainer, and by one with ``DifferentialPrivacy``. CPU time of one
thread for each training, in alternating rounds, set-up included.

With steps of 20 ms or more: Trainer with the callback over Opacus's loop, at most 1.05. On tiny steps Lightning's own
loop weighs more than the net: what the callback adds to Lightning over what Opacus adds to a plain loop, at most 1.05.

    python benchmarks/differential_privacy.py
"""

from __future__ import annotations

import argparse
import logging
import platform
import statistics
import time
import warnings
from dataclasses import dataclass

import torch
from lightning.pytorch import LightningModule, Trainer
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit.callbacks.differential_privacy import DifferentialPrivacy
from lightning_memaudit.functional import accounting

NOISE, CLIP = 1.0, 1.0


@dataclass(frozen=True)
class Setting:
    name: str
    features: int
    width: int
    n_examples: int
    batch: int
    epochs: int


TINY = Setting("MLP 64-128-10, batch 64", 64, 128, 1280, 64, 10)
HEAVY = Setting("MLP 256-640-10, batch 128", 256, 640, 2560, 128, 2)


class Net(LightningModule):
    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(setting.features, setting.width), nn.ReLU(), nn.Linear(setting.width, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def data(setting: Setting) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(setting.n_examples, setting.features, generator=generator)
    return DataLoader(TensorDataset(inputs, inputs[:, :10].argmax(1)), batch_size=setting.batch, shuffle=True)


def loop(setting: Setting, *, private: bool) -> None:
    model = nn.Sequential(nn.Linear(setting.features, setting.width), nn.ReLU(), nn.Linear(setting.width, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loader = data(setting)
    if private:
        model, optimizer, loader = PrivacyEngine().make_private(
            module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=NOISE, max_grad_norm=CLIP
        )
    model.train()
    for _ in range(setting.epochs):
        for inputs, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()


def lightning(setting: Setting, *, mode: str | None) -> None:
    callbacks = []
    if mode:
        callbacks = [DifferentialPrivacy(noise_multiplier=NOISE, max_grad_norm=CLIP, grad_sample_mode=mode)]
    trainer = Trainer(
        max_epochs=setting.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    trainer.fit(Net(setting), data(setting))


def ways(setting: Setting) -> dict:
    return {
        "plain loop": lambda: loop(setting, private=False),
        "Opacus's loop": lambda: loop(setting, private=True),
        "Trainer": lambda: lightning(setting, mode=None),
        "Trainer, DifferentialPrivacy": lambda: lightning(setting, mode="hooks"),
        "Trainer, DifferentialPrivacy, ghost": lambda: lightning(setting, mode="ghost"),
    }


def measure(setting: Setting, rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds a step, one figure a round; the first round is for warming up."""
    quiet()
    seconds = {name: [] for name in ways(setting)}
    steps = setting.epochs * setting.n_examples // setting.batch
    for number in range(rounds + 1):
        for name, train in ways(setting).items():
            torch.manual_seed(number)
            started = time.process_time()
            train()
            if number:
                seconds[name].append(1000 * (time.process_time() - started) / steps)
    return seconds


def over_opacus(found: dict[str, list[float]], name: str = "Trainer, DifferentialPrivacy") -> list[float]:
    return [ours / theirs for ours, theirs in zip(found[name], found["Opacus's loop"], strict=True)]


def added(found: dict[str, list[float]], name: str = "Trainer, DifferentialPrivacy") -> list[float]:
    """What the callback adds to Lightning over what Opacus adds to a plain loop."""
    rounds = zip(found[name], found["Trainer"], found["Opacus's loop"], found["plain loop"], strict=True)
    return [(ours - bare) / (theirs - plain) for ours, bare, theirs, plain in rounds]


def first_epsilon() -> float:
    """Seconds for the epsilon of 20 epochs, when nothing of it was worked out in this process before."""
    for cached in (accounting._spent, accounting._one_step, accounting._renyi):
        cached.cache_clear()
    started = time.process_time()
    for epoch in range(1, 21):
        accounting.epsilon_spent([(1.1, 0.05, 20 * epoch)], 1e-5)
    return time.process_time() - started


def quiet() -> None:
    torch.set_num_threads(1)
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def describe(found: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {statistics.median(each):.2f} ms" for name, each in found.items())


def rows(quick: bool) -> list[dict]:
    """The rows of the table of goals."""
    rounds = 5 if quick else 15
    heavy, tiny = measure(HEAVY, rounds), measure(TINY, rounds)
    goals = [
        ("DifferentialPrivacy over Opacus's own loop, steps of 20 ms or more", over_opacus(heavy), HEAVY, heavy),
        ("what DifferentialPrivacy adds to Lightning over what Opacus adds to a loop", added(tiny), TINY, tiny),
    ]
    return [
        {
            "goal": goal,
            "measured": statistics.median(ratios),
            "unit": "x (at most)",
            "floor": 1.05,
            "target": 1.05,
            "detail": f"{setting.name}, CPU time a step: {describe(found)}",
        }
        for goal, ratios, setting, found in goals
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    quiet()
    print(f"{platform.machine()}, {torch.get_num_threads()} thread, torch {torch.__version__}, {options.rounds} rounds")
    for setting in (HEAVY, TINY):
        found = measure(setting, options.rounds)
        print(f"\n{setting.name}, CPU time a step (medians)")
        for name, each in found.items():
            print(f"  {name:38} {statistics.median(each):7.2f} ms")
        for name in ("Trainer, DifferentialPrivacy", "Trainer, DifferentialPrivacy, ghost"):
            for what, ratios in (
                ("over Opacus's loop", over_opacus(found, name)),
                ("adds over what Opacus adds", added(found, name)),
            ):
                low, middle, high = statistics.quantiles(ratios, n=4)
                print(f"  {name}: {what} {middle:.3f} (quartiles {low:.3f} to {high:.3f})")
    print("\ngoals: over Opacus's loop <= 1.05 with steps of 20 ms or more; added <= 1.05 on tiny steps")
    print(f"epsilon at the end of 20 epochs, first time in a process: {first_epsilon():.2f} s CPU")


if __name__ == "__main__":
    main()

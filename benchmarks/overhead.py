"""What SubsetDataModule + OutcomeRecorder add to a fit, as a ratio within one run.

Compares, in alternating rounds, training and scoring of one model through the plugin with the same fit on a plain
``torch.utils.data.Subset`` followed by a plain prediction pass over all examples. CPU time of one thread, since the
machine is shared. Goal: at most 1.03.

    python benchmarks/overhead.py
"""

from __future__ import annotations

import argparse
import logging
import platform
import statistics
import tempfile
import time
import warnings

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader, Subset, TensorDataset

from lightning_memaudit import OutcomeStore, SubsetDataModule, SubsetPlan
from lightning_memaudit.callbacks.recording import Recorder, Recording
from lightning_memaudit.data.source import DataSource

N_EXAMPLES, N_FEATURES, N_CLASSES, BATCH = 1797, 64, 10, 64


class Net(LightningModule):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(N_FEATURES, width), torch.nn.ReLU(), torch.nn.Linear(width, N_CLASSES)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def predict_step(self, batch, batch_idx):
        return self(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Data(LightningDataModule):
    """The user's data module; ``rows`` is what she would write to train on a subset by hand."""

    def __init__(self, rows: np.ndarray | None = None) -> None:
        super().__init__()
        self.rows = rows

    def setup(self, stage=None):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(N_EXAMPLES, N_FEATURES, generator=generator)
        self.data = TensorDataset(inputs, inputs[:, :N_CLASSES].argmax(1))

    def train_dataloader(self):
        data = self.data if self.rows is None else Subset(self.data, self.rows.tolist())
        return DataLoader(data, batch_size=BATCH, shuffle=True)

    def predict_dataloader(self):
        return DataLoader(self.data, batch_size=BATCH)


def trainer(epochs: int, callbacks: list) -> Trainer:
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )


def by_hand(plan: SubsetPlan, model_id: int, epochs: int, width: int, callbacks: list) -> float:
    started = time.process_time()
    seed_everything(plan.model_seed(model_id), verbose=False)
    model = Net(width)
    data = Data(np.flatnonzero(plan.mask(model_id)))
    fit = trainer(epochs, callbacks)
    fit.fit(model, datamodule=data)
    logits = torch.cat(fit.predict(model, datamodule=data))
    correct = (logits.argmax(1) == data.data.tensors[1]).numpy()
    assert correct.shape == (N_EXAMPLES,)
    return time.process_time() - started


def with_plugin(
    plan: SubsetPlan, source: DataSource, store: OutcomeStore, model_id: int, epochs: int, width: int, examples
) -> float:
    started = time.process_time()
    seed_everything(plan.model_seed(model_id), verbose=False)
    recorder = Recorder(Recording(store, examples=examples))
    trainer(epochs, [recorder]).fit(Net(width), datamodule=SubsetDataModule(source, plan, model_id))
    return time.process_time() - started


def measure(rounds: int, epochs: int, width: int) -> dict[str, list[float]]:
    """CPU seconds of each way, by round."""
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    plan = SubsetPlan(N_EXAMPLES)
    seconds: dict[str, list[float]] = {"plain": [], "idle": [], "plugin": []}
    with tempfile.TemporaryDirectory() as folder:
        source, store = DataSource(Data(), seed=0), OutcomeStore(folder)  # shared by all models, as in an Audit
        with_plugin(plan, source, store, 0, epochs, width, None)
        examples = {"train": store.examples("train")}
        for model_id in range(1, rounds + 1):
            seconds["plain"].append(by_hand(plan, model_id, epochs, width, []))
            seconds["idle"].append(by_hand(plan, model_id, epochs, width, [Callback()]))
            seconds["plugin"].append(with_plugin(plan, source, store, model_id, epochs, width, examples))
    return seconds


def ratios(seconds: dict[str, list[float]], baseline: str) -> tuple[float, float, float]:
    """Quartiles of what the plugin takes over a baseline."""
    low, middle, high = statistics.quantiles(
        [ours / theirs for ours, theirs in zip(seconds["plugin"], seconds[baseline], strict=True)], n=4
    )
    return low, middle, high


def rows(quick: bool) -> list[dict]:
    """The row of the table of goals."""
    low, middle, high = ratios(measure(5 if quick else 25, 20, 128), "plain")
    return [
        {
            "goal": "SubsetDataModule + OutcomeRecorder over a plain Subset and prediction",
            "measured": middle,
            "unit": "x (at most)",
            "floor": 1.03,
            "target": 1.03,
            "detail": f"MLP, 20 epochs, CPU time, quartiles {low:.3f} to {high:.3f}",
        }
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=128)
    options = parser.parse_args()
    seconds = measure(options.rounds, options.epochs, options.width)
    print(f"{platform.machine()}, {torch.get_num_threads()} thread, torch {torch.__version__}, {options.rounds} rounds")
    print(f"plain Subset + predict      {statistics.median(seconds['plain']):.3f} s CPU (median)")
    print(f"SubsetDataModule + Recorder {statistics.median(seconds['plugin']):.3f} s CPU (median)")
    for name, baseline in (("a plain Subset", "plain"), ("a plain Subset and an idle callback", "idle")):
        low, middle, high = ratios(seconds, baseline)
        print(f"ratio to {name}: {middle:.3f} (quartiles {low:.3f} to {high:.3f}); goal <= 1.03")


if __name__ == "__main__":
    main()

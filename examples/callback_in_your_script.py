"""Record memorization from a training script of your own.

The script below is plain Lightning; the audit is three lines of it, marked with "audit". Every run of it trains one
model on the subset that the plan gives its number, and adds one file to the record. All of them one after the other:

    python examples/callback_in_your_script.py

or each as a task of its own, on as many machines as share the folder (a Slurm array, say), and then the report:

    python examples/callback_in_your_script.py --model-id $SLURM_ARRAY_TASK_ID
    memaudit report callback-audit/store --out callback-audit
"""

from __future__ import annotations

import argparse
import logging

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit import AuditReport, OutcomeRecorder, OutcomeStore, SubsetDataModule, SubsetPlan

N_EXAMPLES = 400
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
torch.set_num_threads(1)  # the fastest for a network this small


class DigitsData(LightningDataModule):
    def setup(self, stage: str) -> None:
        images, labels = load_digits(return_X_y=True)
        inputs, targets = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
        self.train = TensorDataset(inputs[:N_EXAMPLES], targets[:N_EXAMPLES])
        self.test = TensorDataset(inputs[N_EXAMPLES:], targets[N_EXAMPLES:])

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.train, batch_size=50, shuffle=True)

    def test_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self.test, batch_size=500)


class Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(inputs)
        return logits

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        inputs, targets = batch
        return cross_entropy(self(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.3, momentum=0.9)


def train(model_id: int, options: argparse.Namespace) -> None:
    plan = SubsetPlan(N_EXAMPLES, subset_fraction=0.7, seed=0)  # audit: the same in every run
    seed_everything(plan.model_seed(model_id), verbose=False)
    trainer = Trainer(
        max_epochs=options.max_epochs,
        accelerator="cpu",
        callbacks=[OutcomeRecorder(f"{options.out}/store", groups={"digit": "label"})],  # audit
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), datamodule=SubsetDataModule(DigitsData(), plan, model_id))  # audit: a wrapped data module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-id", type=int, help="train this one model and stop")
    parser.add_argument("--n-models", type=int, default=12, help="models to train when no --model-id is given")
    parser.add_argument("--max-epochs", type=int, default=20)
    parser.add_argument("--out", default="callback-audit", help="folder for the record and the report")
    options = parser.parse_args()
    if options.model_id is not None:
        train(options.model_id, options)
        return
    store = OutcomeStore(f"{options.out}/store")
    for model_id in store.missing(range(options.n_models)) if store.exists else range(options.n_models):
        train(model_id, options)
    report = AuditReport.from_store(store)
    report.save(options.out)
    print(report.summary())


if __name__ == "__main__":
    main()

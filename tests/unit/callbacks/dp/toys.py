"""Modules, loaders and fits for the tests of DP-SGD."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_memaudit.callbacks.differential_privacy import DifferentialPrivacy

if TYPE_CHECKING:
    from collections.abc import Callable

QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "max_epochs": 2,
}


def rows(n: int = 40, features: int = 6) -> TensorDataset:
    """Inputs, labels, row numbers."""
    generator = torch.Generator().manual_seed(n)
    inputs = torch.randn(n, features, generator=generator)
    return TensorDataset(inputs, (inputs.sum(1) > 0).long(), torch.arange(n))


def loader(n: int = 40, batch_size: int = 8, **options: Any) -> DataLoader[Any]:
    return DataLoader(rows(n), batch_size=batch_size, **({"shuffle": True} | options))


def mlp(features: int = 6, width: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, 2))


class Net(LightningModule):
    """A classifier that remembers the rows of its batches.

    ``scale(n)`` multiplies the loss of a batch of n.
    """

    def __init__(
        self,
        net: nn.Module | None = None,
        *,
        loss: Callable[[Net, Any], Any] | None = None,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scale: Callable[[int], float] = lambda n: 1.0,
        one_cycle: bool = False,
        frozen: str | None = None,
    ) -> None:
        super().__init__()
        self.net = net or mlp()
        self.loss = loss
        self.optimizer = optimizer or (lambda parameters: torch.optim.SGD(parameters, lr=0.2, momentum=0.9))
        self.scale = scale
        self.one_cycle = one_cycle
        self.seen: list[list[int]] = []
        self.rates: list[float] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen.append(batch[2].tolist())
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        if self.loss is not None:
            return self.loss(self, batch)
        loss = cross_entropy(self(batch[0]), batch[1]) * self.scale(len(batch[0]))
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        if not self.one_cycle:
            return optimizer
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.2, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def private(**options: Any) -> DifferentialPrivacy:
    """Without noise and without effective clipping, unless told otherwise."""
    return DifferentialPrivacy(**({"noise_multiplier": 0.0, "max_grad_norm": 1e8} | options))


def fit(
    model: LightningModule,
    callback: DifferentialPrivacy | None = None,
    data: Any = None,
    *,
    seed: int = 3,
    callbacks: Any = (),
    ckpt_path: Any = None,
    **trainer: Any,
) -> Trainer:
    seed_everything(seed, verbose=False)
    made = Trainer(**(QUIET | trainer), callbacks=[*([callback] if callback else []), *callbacks])
    with warnings.catch_warnings():
        for message in (".*does not have many workers", "Be aware that when using `ckpt_path`", "Checkpoint directory"):
            warnings.filterwarnings("ignore", message=message)
        made.fit(model, data if data is not None else loader(), ckpt_path=ckpt_path)
    return made


def replay(
    model: LightningModule, batches: list[list[int]], dataset: Dataset[Any] | None = None, **trainer: Any
) -> None:
    """Train plainly on given batches, one epoch each."""
    plain = DataLoader(dataset or rows(), batch_sampler=batches)
    fit(model, None, plain, **({"max_epochs": 1} | trainer))


def reference(
    model: Net, batches: list[list[int]], *, max_grad_norm: float, expected: float, data: Dataset[Any] | None = None
) -> None:
    """DP-SGD without noise, one example after the other."""
    dataset = data or rows()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = model.optimizer(parameters)
    for batch in batches:
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        for row in batch:
            x, y = (part[None] for part in dataset[row][:2])
            gradient = torch.autograd.grad(cross_entropy(model(x), y), parameters)
            norm = torch.sqrt(sum((part**2).sum() for part in gradient))
            for total, part in zip(sums, gradient, strict=True):
                total += part * min(1.0, max_grad_norm / float(norm))
        for parameter, total in zip(parameters, sums, strict=True):
            parameter.grad = total / expected
        optimizer.step()


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in model.parameters()])


def twin(model: Net, **changes: Any) -> Net:
    """A copy, before training."""
    copied = copy.deepcopy(model)
    vars(copied).update(changes)
    return copied

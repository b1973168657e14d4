"""LightningModules as users write them, over one separable problem: what fast training must cope with or refuse."""

from __future__ import annotations

import random
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torchmetrics
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

N, SIDE, CLASSES, BATCH = 48, 4, 3, 8
FEATURES = SIDE * SIDE


def examples(n: int = N, *, noise: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    centres = torch.randn(CLASSES, FEATURES, generator=generator)
    y = torch.arange(n) % CLASSES
    return centres[y] + noise * torch.randn(n, FEATURES, generator=generator), y


class Named(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


class Items(Dataset[Any]):
    """Gives ``make(x, y)`` for each example."""

    def __init__(self, make: Any = Named, n: int = N) -> None:
        self.x, self.y = examples(n)
        self.make = make

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        return self.make(self.x[index], self.y[index])


def as_dict(x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"x": x, "y": y}


def collate_centred(samples: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres the batch, which hence cannot be gathered from centred rows."""
    x, y = (torch.stack(parts) for parts in zip(*samples, strict=True))
    return x - x.mean(0), y


class Data(LightningDataModule):
    """``loader`` holds arguments of the training DataLoader."""

    def __init__(self, dataset: Dataset[Any] | None = None, **loader: Any) -> None:
        super().__init__()
        self.dataset = dataset if dataset is not None else TensorDataset(*examples())
        self.loader = {"batch_size": BATCH, "shuffle": True} | loader

    def train_dataloader(self) -> Any:
        return DataLoader(self.dataset, **self.loader)

    def test_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*examples(20)), batch_size=BATCH)


class Net(LightningModule):
    """A small MLP; a subclass changes one thing."""

    def __init__(self) -> None:
        super().__init__()
        self.net = self.layers()
        self.lr = 0.1

    def layers(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def loss(self, batch: Any) -> torch.Tensor:
        x, y = batch
        return functional.cross_entropy(self(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        return optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


# Layers


class Cnn(Net):
    def layers(self) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (1, SIDE, SIDE)),
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16, CLASSES),
        )


class BatchNorm(Net):
    def layers(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


class LayerNorm(Net):
    def layers(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, CLASSES))


class Dropout(Net):
    def layers(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, CLASSES))


class WeightNorm(Net):
    def layers(self) -> nn.Module:
        first = nn.utils.parametrizations.weight_norm(nn.Linear(FEATURES, 8))
        return nn.Sequential(first, nn.Tanh(), nn.Linear(8, CLASSES))


class TwoPrecisions(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net[2].double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net[2](torch.tanh(self.net[0](x)).double())


class Recurrent(Net):
    def __init__(self, kind: type[nn.RNNBase] = nn.GRU) -> None:
        super().__init__()
        self.recurrent = kind(SIDE, 6, batch_first=True)
        self.out = nn.Linear(6, CLASSES)

    def layers(self) -> nn.Module:
        return nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.recurrent(x.view(-1, SIDE, SIDE))[0][:, -1])


class Frozen(Net):
    """Its first layer keeps its initial weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net[0].requires_grad_(requires_grad=False)

    def configure_optimizers(self) -> Any:
        return optim.SGD([p for p in self.parameters() if p.requires_grad], lr=self.lr, weight_decay=0.01)


class FrozenStatistics(BatchNorm):
    """Its BatchNorm is in evaluation mode all the time, as in fine-tuning."""

    def __init__(self) -> None:
        super().__init__()
        self.net[1].eval()
        self.net[1].running_mean.normal_()


class Unused(Net):
    """A head that takes no part: it has no gradient, and hence no weight decay."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(4, 4)

    def configure_optimizers(self) -> Any:
        return optim.SGD(self.parameters(), lr=self.lr, weight_decay=0.1)


class Tied(Net):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(FEATURES, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.out.weight = self.second.weight
        self.head = nn.Linear(8, CLASSES)

    def layers(self) -> nn.Module:
        return nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.first(x))
        return self.head(self.out(torch.tanh(self.second(h))))


# Optimizers and schedulers


class Optimizer(Net):
    def __init__(self, kind: type[optim.Optimizer] = optim.SGD, lr: float = 0.01, **options: Any) -> None:
        super().__init__()
        self.make = partial(kind, lr=lr, **options)

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


def with_optimizer(kind: type[optim.Optimizer], lr: float = 0.01, **options: Any) -> Any:
    return partial(Optimizer, kind, lr, **options)


class GroupsAndOneCycle(Net):
    def configure_optimizers(self) -> Any:
        decayed = [p for name, p in self.named_parameters() if name.endswith("weight")]
        rest = [p for name, p in self.named_parameters() if not name.endswith("weight")]
        optimizer = optim.AdamW(
            [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0, "lr": 3e-3}], lr=1e-3
        )
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = optim.lr_scheduler.OneCycleLR(optimizer, [0.02, 0.05], total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class DecayByDimension(Net):
    """The common rule: only what has two dimensions decays."""

    def configure_optimizers(self) -> Any:
        matrices = [p for p in self.parameters() if p.ndim >= 2]
        vectors = [p for p in self.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": 0.5}, {"params": vectors, "weight_decay": 0.0}]
        return optim.AdamW(groups, lr=0.01)


class Scheduled(Net):
    def __init__(self, interval: str = "epoch", frequency: int = 1) -> None:
        super().__init__()
        self.timing = {"interval": interval, "frequency": frequency}

    def scheduler(self, optimizer: optim.Optimizer) -> Any:
        return optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)

    def configure_optimizers(self) -> Any:
        optimizer = optim.SGD(self.parameters(), lr=self.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
        return [optimizer], [{"scheduler": self.scheduler(optimizer), **self.timing}]


class Halving(Scheduled):
    def scheduler(self, optimizer: optim.Optimizer) -> Any:
        return optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)


class Plateau(Net):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "train_loss"}}


class OwnOptimizer(optim.Optimizer):
    """Plain SGD; its step runs without gradients, and so does the closure that it calls."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * parameter.grad
        return loss


# Training steps


class Dicts(Net):
    def loss(self, batch: Any) -> torch.Tensor:
        return super().loss((batch["x"], batch["y"]))


class Fields(Net):
    def loss(self, batch: Any) -> torch.Tensor:
        return super().loss((batch.x, batch.y))


class WithoutIndex(Net):
    def training_step(self, batch: Any) -> Any:
        return self.loss(batch)


class ReturnsDict(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log_dict({"loss": loss, "twice": 2 * loss})
        return {"loss": loss, "index": batch_idx}


class SkipsBatches(Net):
    """Returns None for every third batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx % 3 == 2 else self.loss(batch)


class Metrics(Net):
    def __init__(self) -> None:
        super().__init__()
        self.accuracy = torchmetrics.Accuracy("multiclass", num_classes=CLASSES)
        self.others = torchmetrics.MetricCollection(
            [torchmetrics.Precision("multiclass", num_classes=CLASSES), torchmetrics.CatMetric()]
        )

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self(batch[0])
        self.accuracy(logits, batch[1])
        self.others["CatMetric"].update(logits.detach().mean())
        self.others["MulticlassPrecision"](logits, batch[1])
        self.log("accuracy", self.accuracy)
        self.log_dict(self.others)
        return functional.cross_entropy(logits, batch[1])


class RunningScale(Net):
    """A metric that is not logged goes on over epochs, one that is logged begins anew in each."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.epoch = torchmetrics.MeanMetric(), torchmetrics.MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.whole.update(loss.detach())
        self.epoch.update(loss.detach())
        self.log("epoch", self.epoch, on_step=False, on_epoch=True)
        return loss * (1 + self.whole.compute() + 3 * self.epoch.compute())


class LooksAtTheTime(Net):
    """Its loss depends on the epoch, the step and the batch number."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        weight = 1 + 0.5 * self.current_epoch + 0.1 * self.global_step + 0.05 * batch_idx
        return self.loss(batch) * (weight + 0.3 * float(self.trainer.is_last_batch))


class Counts(Net):
    """Warms up by a counter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.steps += 1
        return self.loss(batch) * min(1.0, self.steps / 10)


class Schedule:
    def __init__(self, start: int) -> None:
        self.start, self.calls = start, {"n": 0}

    def weight(self) -> float:
        self.calls["n"] += 1
        return 2.0 if self.calls["n"] > self.start else 1.0


class CountsElsewhere(Net):
    """The counter is in an object that it holds, and shows late."""

    def __init__(self, start: int = 13) -> None:
        super().__init__()
        self.schedule = Schedule(start)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) * self.schedule.weight()


class Thaws(Net):
    """A second branch joins in the third epoch, and the first one rests in the fourth."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Linear(FEATURES, CLASSES)
        self.early = nn.Linear(FEATURES, CLASSES)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self(batch[0])
        if self.current_epoch >= 2:
            logits = logits + self.late(batch[0])
        if self.current_epoch < 3:
            logits = logits + self.early(batch[0])
        return functional.cross_entropy(logits, batch[1])

    def configure_optimizers(self) -> Any:
        return optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=0.05)


class CountsInClosure(Net):
    """The counter is a variable of the function that made the one which it calls, and shows late."""

    def __init__(self, start: int = 13) -> None:
        super().__init__()
        calls = 0

        def weight() -> float:
            nonlocal calls
            calls += 1
            return 2.0 if calls > start else 1.0

        self.weight = weight

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) * self.weight()


class OwnRandomNumbers(Net):
    """Draws from a generator of its own, of which most draws change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.random = random.Random(7)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) * (3.0 if self.random.random() < 0.06 else 1.0)


class LooksAtItsScheduler(Net):
    """Holds the scheduler that ``configure_optimizers`` made."""

    rates: Any = None

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        self.rates = optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.3)
        return [optimizer], [self.rates]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) * (1.0 if self.rates is None else 10 * self.rates.get_last_lr()[0])


class Clamped(Net):
    """Keeps its weights in bounds, as Wasserstein critics do."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for parameter in self.parameters():
            parameter.data.clamp_(-0.4, 0.4)
        return self.loss(batch)


class Penalty(Net):
    """The gradient of a sum is a view of one number."""

    def __init__(self) -> None:
        super().__init__()
        self.bonus = nn.Parameter(torch.randn(FEATURES))

    def loss(self, batch: Any) -> torch.Tensor:
        return super().loss(batch) + 0.1 * self.bonus.sum()


# What stacked models cannot do


class ReadsTheLoss(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.latest = loss.item()
        return loss


class Branches(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        return loss if loss > 0.5 else 2 * loss


class BooleanMask(Net):
    def loss(self, batch: Any) -> torch.Tensor:
        kept = batch[1] != 2
        return super().loss((batch[0][kept], batch[1][kept]))


class HooksOnGradients(Net):
    """Bounds each gradient, of which the first ones are small."""

    def __init__(self) -> None:
        super().__init__()
        for parameter in self.parameters():
            parameter.register_hook(lambda gradient: gradient.clamp(-0.5, 0.5))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) * (10.0 if self.current_epoch >= 2 else 0.1)


class WeighsByAMetric(Net):
    """From its third epoch on."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torchmetrics.MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.mean.update(loss.detach())
        return loss * self.mean.compute() if self.current_epoch >= 2 else loss


class Manual(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


class TwoOptimizers(Manual):
    def configure_optimizers(self) -> Any:
        return [optim.SGD(self.parameters(), lr=0.1), optim.SGD(self.parameters(), lr=0.1)]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(self.loss(batch))


class FunctionalDropout(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(functional.dropout(x, 0.5, training=self.training))


class PythonChoice(Net):
    """Draws from Python's random numbers, as mixing and augmentation do."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch) * random.choice([0.5, 1.5])


class NumpyMix(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        share = np.random.beta(0.5, 0.5)  # noqa: NPY002 - as users do
        return self.loss((share * batch[0] + (1 - share) * batch[0].flip(0), batch[1]))


class Collects(Net):
    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[torch.Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.outputs.append(loss.detach())
        return loss


class LooseTensor(Net):
    """Random features that are neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = torch.randn(FEATURES, FEATURES) / SIDE

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x @ self.projection)


class RandomConstant(Net):
    """One model in a few has another temperature, in a list of constants."""

    def __init__(self) -> None:
        super().__init__()
        self.constants = [1.0, 3.0 if random.random() < 0.3 else 1.0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x) * self.constants[1]


class RandomlyFrozen(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net[0].weight.requires_grad_(requires_grad=random.random() < 0.5)


class Rebound(Net):
    """A buffer that is bound anew in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))

    def loss(self, batch: Any) -> torch.Tensor:
        self.mean = 0.9 * self.mean + 0.1 * batch[0].mean(0)
        return super().loss((batch[0] - self.mean, batch[1]))


class SetUp(Net):
    def setup(self, stage: str) -> None:
        self.scale = 2.0


class Configured(Net):
    def configure_model(self) -> None:
        self.scale = 2.0


class ShapeDependent(Net):
    """Divides by the number of dimensions of a weight, of which a stacked model shows one more outside of ``vmap``."""

    def __init__(self) -> None:
        super().__init__()
        self.held = [self.net[0].weight]

    def loss(self, batch: Any) -> torch.Tensor:
        return super().loss(batch) + 0.05 * self.held[0].square().sum()


class Stops(Net):
    """Asks the Trainer to stop at a step."""

    def __init__(self, at: int = 3) -> None:
        super().__init__()
        self.at = at

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step == self.at:
            self.trainer.should_stop = True
        return self.loss(batch)


class ReadsMetrics(Net):
    """Prints what was logged."""

    def on_train_epoch_end(self) -> None:
        self.seen = float(self.trainer.callback_metrics["train_loss"])


class Attention(Net):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(SIDE, 8)
        self.attention = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
        self.out = nn.Linear(8, CLASSES)

    def layers(self) -> nn.Module:
        return nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.attention(self.inside(x.view(-1, SIDE, SIDE))).mean(1))

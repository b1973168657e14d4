import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import SGD
from torch.optim import lr_scheduler as schedulers
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit.callbacks.learning_rate import LearningRate
from lightning_memaudit.exceptions import ConfigurationError

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Net(LightningModule):
    def __init__(self, lr, schedule=None, peak=None, groups=1) -> None:
        super().__init__()
        self.lr, self.schedule, self.peak, self.groups = lr, schedule, peak, groups
        self.a, self.b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    def training_step(self, batch, batch_idx):
        return self.b(self.a(batch[0])).square().mean()

    def configure_optimizers(self):
        parts = [{"params": self.a.parameters()}, {"params": self.b.parameters()}]
        optimizer = SGD(parts if self.groups == 2 else self.parameters(), lr=self.lr, momentum=0.9)
        if self.schedule is None:
            return optimizer
        scheduler = self.schedule(optimizer, self.peak)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Rates(Callback):
    def __init__(self) -> None:
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def rates(module, *callbacks):
    watch = Rates()
    data = DataLoader(TensorDataset(torch.randn(24, 2)), batch_size=2)
    Trainer(max_epochs=1, callbacks=[*callbacks, watch], **QUIET).fit(module, data)
    return torch.tensor(watch.seen, dtype=torch.float64)


SCHEDULES = {
    "none": None,
    "cosine": lambda o, _: schedulers.CosineAnnealingLR(o, 12),
    "step": lambda o, _: schedulers.StepLR(o, 3, 0.5),
    "exponential": lambda o, _: schedulers.ExponentialLR(o, 0.8),
    "lambda": lambda o, _: schedulers.LambdaLR(o, lambda i: 1 / (1 + i)),
    "linear": lambda o, _: schedulers.LinearLR(o, 0.1, total_iters=5),
    "sequence": lambda o, _: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, total_iters=4), schedulers.CosineAnnealingLR(o, 8)], [4]
    ),
    "cycle": lambda o, peak: schedulers.OneCycleLR(o, peak, total_steps=12),
    "cyclic": lambda o, peak: schedulers.CyclicLR(o, peak / 10, peak, step_size_up=4),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.filterwarnings("ignore:The epoch parameter in")
def test_as_if_the_module_had_asked_for_it(name, groups):
    schedule = SCHEDULES[name]
    asked = rates(Net(0.5, schedule, peak=2.0, groups=groups))
    replaced = rates(Net(0.1, schedule, peak=0.4, groups=groups), LearningRate(0.5))
    assert torch.allclose(asked, replaced, rtol=1e-9)


def test_a_rate_of_zero_cannot_be_scaled():
    with pytest.raises(ConfigurationError, match=r"learning rate 0\.0"):
        rates(Net(0.0), LearningRate(0.5))

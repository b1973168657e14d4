"""A small gradient learner and data module, as a user would write them."""

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset, random_split


class TinyNet(LightningModule):
    def __init__(self, width: int = 8, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"], momentum=0.9)


class TinyData(LightningDataModule):
    """Sixty rows of noise; ``random_split`` without a generator, as users do."""

    def __init__(self, n_examples: int = 60, seed: int = 0) -> None:
        super().__init__()
        self.n_examples = n_examples
        self.seed = seed

    def setup(self, stage=None):
        generator = torch.Generator().manual_seed(self.seed)
        x = torch.randn(self.n_examples, 4, generator=generator)
        y = torch.randint(0, 3, (self.n_examples,), generator=generator)
        n_train = self.n_examples * 2 // 3
        self.train, self.val = random_split(TensorDataset(x, y), [n_train, self.n_examples - n_train])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=16, shuffle=True)


TRAINER = {"max_epochs": 2, "accelerator": "cpu"}

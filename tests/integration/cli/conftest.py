from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from lightning_memaudit import OutcomeStore
from lightning_memaudit.cli import main
from lightning_memaudit.cli.config import AuditConfig
from tests.helpers.shared import once

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROJECT = textwrap.dedent(
    """
    import torch
    from lightning.pytorch import LightningDataModule, LightningModule
    from lightning_memaudit.outcomes.scoring import Multiclass
    from torch.utils.data import DataLoader, TensorDataset

    BUILT = []


    class Net(LightningModule):
        def __init__(self, width: int = 4, fail: bool = False) -> None:
            super().__init__()
            BUILT.append(width)
            if fail:
                raise RuntimeError("no such weights")
            self.save_hyperparameters()
            self.net = torch.nn.Sequential(torch.nn.Linear(1, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, batch_idx):
            x, y = batch
            return torch.nn.functional.cross_entropy(self(x), y)


    class Data(LightningDataModule):
        def __init__(self, n: int = 24, order: int = 1, flip: bool = False, fail: bool = False) -> None:
            super().__init__()
            self.n, self.order, self.flip, self.fail = n, order, flip, fail

        def setup(self, stage):
            if self.fail:
                raise FileNotFoundError("data/train.bin is not there")
            rows = torch.arange(self.n)
            labels = rows // 2 % 2
            if self.flip:
                labels[0] = 1 - labels[0]
            self.train = TensorDataset(rows.float()[:, None], labels)
            if self.order == -1:
                self.train = TensorDataset(*(tensor.flip(0) for tensor in self.train.tensors))
            self.train.patient = [f"p{row // 2}" for row in range(self.n)]
            self.train.colour = ['red', 'a,"b"\\n=1+1\\r', "<b>|x|</b>", "é"] * (self.n // 4)

        def train_dataloader(self):
            return DataLoader(self.train, batch_size=12, shuffle=True)


    def score(pl_module, batch):
        return Multiclass()(pl_module, batch)


    def same_rows(datamodule):
        return datamodule.train


    def loader(dataset):
        return DataLoader(dataset, batch_size=6, shuffle=True)
    """
)

BASE = {
    "seed_everything": 3,
    "model": {"class_path": "cli_project.Net", "init_args": {"width": 5}},
    "data": {"class_path": "cli_project.Data"},
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
}
AUDIT = {"n_models": 4, "store": "store"}


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "cli_project.py").write_text(PROJECT)
    return folder


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory that can import the project."""
    monkeypatch.syspath_prepend(str(project))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(workplace: Path) -> Callable[..., str]:
    """Write a configuration file."""

    def _write(name: str, content: dict[str, Any] | str) -> str:
        (workplace / name).write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return name

    return _write


@pytest.fixture
def config(write: Callable[..., str]) -> str:
    """A configuration of model, data, trainer, optimizer and audit."""
    return write("all.yaml", BASE | {"audit": AUDIT})


@pytest.fixture
def memaudit(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run the command in this process."""

    def _memaudit(*arguments: str) -> Result:
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        print(captured.out, captured.err)
        assert "--debug" in arguments or "Traceback" not in captured.err
        return Result(code, captured.out, captured.err)

    return _memaudit


@pytest.fixture
def run(memaudit: Callable[..., Result]) -> Callable[..., Result]:
    """``memaudit run`` without a bar."""

    def _run(*arguments: str) -> Result:
        return memaudit("run", *arguments, "--no-progress")

    return _run


@pytest.fixture
def train(capsys: pytest.CaptureFixture[str]) -> Callable[..., OutcomeStore]:
    """What ``memaudit run`` does before its report, which takes a second; it must not have anything to say."""

    def _train(*arguments: str) -> OutcomeStore:
        capsys.readouterr()
        store = AuditConfig(list(arguments)).audit().train(progress=False)
        assert capsys.readouterr().err == ""
        return store

    return _train


@pytest.fixture(scope="session")
def trained(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the configuration above, trained once."""

    def _train(folder: Path) -> None:
        (folder / "all.yaml").write_text(yaml.safe_dump(BASE | {"audit": AUDIT | {"store": str(folder / "store")}}))
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(project))
            AuditConfig(["--config", str(folder / "all.yaml")]).audit().train(progress=False)

    return once(tmp_path_factory, "configured", _train) / "store"


@pytest.fixture
def expected(trained: Path) -> dict[str, str]:
    """The digests of that store."""
    return OutcomeStore(trained).manifest.digests


@pytest.fixture
def base() -> dict[str, Any]:
    return dict(BASE)


@pytest.fixture
def audit() -> dict[str, Any]:
    return dict(AUDIT)

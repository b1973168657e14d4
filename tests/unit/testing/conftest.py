from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything

from lightning_memaudit.data.datamodule import SubsetDataModule
from lightning_memaudit.outcomes.scoring import Multiclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_memaudit.data.plan import SubsetPlan


def fit_one(module: LightningModule, datamodule: LightningDataModule, **options: object) -> LightningModule:
    settings = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    Trainer(**(settings | options)).fit(module, datamodule)
    return module


def train_population(
    make_module: Callable[[], LightningModule], datamodule: LightningDataModule, plan: SubsetPlan, n_models: int
) -> np.ndarray:
    """bool[M, n]: which training examples each model gets right, by a real Trainer."""
    correct = []
    for model_id in range(n_models):
        seed_everything(plan.model_seed(model_id), verbose=False)
        module = fit_one(make_module(), SubsetDataModule(datamodule, plan, model_id)).eval()
        correct.append(Multiclass()(module, datamodule.train_dataset.tensors).correct.numpy())
    return np.stack(correct)


@pytest.fixture
def fit() -> Callable[..., LightningModule]:
    """Train one module by a quiet Trainer."""
    return fit_one


@pytest.fixture
def population() -> Callable[..., np.ndarray]:
    """Train one model per id of a plan and score each on all training examples."""
    return train_population


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "unit/testing" in item.path.as_posix():  # torch 2.13 deprecates a call inside Lightning 2.6
            item.add_marker(pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"))

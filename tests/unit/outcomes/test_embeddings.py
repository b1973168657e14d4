import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from lightning_memaudit.exceptions import ArgumentError, UnsupportedDataError
from lightning_memaudit.outcomes.embeddings import embed
from tests.helpers import zoo


class Deep(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(zoo.examples()[0].shape[1], 7), nn.Dropout(0.5), nn.ReLU())
        self.head = nn.Linear(7, 3)
        self.unused = nn.Linear(2, 2)
        self.memory = nn.GRU(zoo.examples()[0].shape[1], 4, batch_first=True)

    def forward(self, x):
        self.memory(x[:, None])
        return self.head(self.body(x))


class NoLinear(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Flatten()

    def forward(self, x):
        return self.flat(x)


def test_the_penultimate_layer_of_every_example_in_order() -> None:
    module = Deep().train()
    found = embed(module, zoo.Data())
    x, _ = zoo.examples()
    with torch.no_grad():
        expected = module.eval().body(x)
    assert set(found) == {"train", "test"}
    np.testing.assert_allclose(found["train"], expected[: len(found["train"])].numpy(), rtol=1e-6)
    assert found["train"].dtype == np.float32


def test_a_named_layer_and_nothing_left_behind() -> None:
    module = Deep().train()
    found = embed(module, zoo.Data(), layer="body.0")["train"]
    with torch.no_grad():
        np.testing.assert_allclose(found, module.body[0](zoo.examples()[0])[: len(found)].numpy(), rtol=1e-6)
    assert module.training
    assert module.body[1].training
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_the_first_of_several_outputs() -> None:
    assert embed(Deep(), zoo.Data(), layer="memory")["train"].shape[1] == 4


def test_what_cannot_be_found_is_listed() -> None:
    with pytest.raises(ArgumentError, match=r"layer='neck': the module has no such layer; there is body, body.0"):
        embed(Deep(), zoo.Data(), layer="neck")
    with pytest.raises(ArgumentError, match=r"layer=None: the module has no linear layer; name one of flat"):
        embed(NoLinear(), zoo.Data())
    with pytest.raises(UnsupportedDataError, match="forward does not call it"):
        embed(Deep(), zoo.Data(), layer="unused")

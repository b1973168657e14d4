import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.treatments import Quantize


class Net(LightningModule):
    def __init__(self, layer=None) -> None:
        super().__init__()
        self.net = layer or nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x):
        return self.net(x)


def test_a_quantized_copy_is_close():
    torch.manual_seed(0)
    module, inputs = Net(), torch.randn(32, 64)
    quantized = Quantize().transform(module)
    with torch.no_grad():
        exact, coarse = module(inputs), quantized(inputs)
    gap = (exact - coarse).abs().max() / exact.abs().max()
    assert 0 < gap < 0.05


def test_what_cannot_be_quantized():
    with pytest.raises(ArgumentError, match="bits=4"):
        Quantize(bits=4)
    with pytest.raises(ConfigurationError, match="Net has no Linear layer"):
        Quantize().transform(Net(nn.Conv2d(1, 1, 3)))

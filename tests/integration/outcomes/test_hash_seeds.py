"""What a store holds of settings and samples does not depend on the seed of a process's hashes."""

import subprocess
import sys

from tests.helpers.forked import finished

HPARAMS = """
import functools, json
import torch
from lightning.pytorch import LightningModule
from lightning_memaudit.outcomes.identity import canonical, describe_model
class Thing: pass
class Odd(torch.nn.Module):
    def extra_repr(self): return f"act={max.__call__}, {Thing()}"
class Net(LightningModule):
    def __init__(self, **anything):
        super().__init__()
        self.save_hyperparameters()
        self.odd = Odd()
thing = Thing()
net = Net(f=lambda x: thing, p=functools.partial(print, thing, end=Thing()), t=thing, s={"b", "a", "c"}, c=Thing,
          d={Thing: 1, thing: 2}, l=[thing, max], m=torch.nn.ReLU(), fs=frozenset({thing, "z"}), _instantiator="cli")
text = json.dumps(describe_model(net))
assert " 0x" not in text and "_instantiator" not in text, text
print(text)
"""

SAMPLES = """
from dataclasses import dataclass
import numpy as np, torch
from lightning_memaudit.outcomes.examples import fingerprint
class Thing: pass
@dataclass
class Graph:
    x: torch.Tensor
    tags: frozenset
samples = [
    torch.eye(3).to_sparse(), torch.ones(2, dtype=torch.bfloat16), torch.tensor([1j]).conj(),
    np.array([Thing(), None]), Thing(), None, b"x", "y",
    {"b": 1, "a": [np.float32(2), (3, Thing())]}, Graph(torch.ones(1), frozenset()), np.datetime64("2020-01-01"), True,
]
print(fingerprint(samples, None, split="train")["inputs"])
"""


def test_descriptions_and_fingerprints_know_no_address_and_no_order_of_hashes():
    both = f"{HPARAMS}\n{SAMPLES}"  # one process: its imports take six seconds
    seeded = subprocess.run(
        [sys.executable, "-c", both], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}
    )
    assert seeded.stdout == finished(both)  # whose hashes have another seed
    assert len(seeded.stdout.splitlines()) == 2
    assert "random" not in seeded.stdout.splitlines()

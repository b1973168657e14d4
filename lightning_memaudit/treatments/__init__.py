"""What is done to a model whose harm is measured.

A treatment has a ``name``, says with which callbacks its models are trained, and what happens to a trained module. Any
object that answers as ``Treatment`` says is one.
"""

from __future__ import annotations

from lightning_memaudit.treatments.base import Regime, Treatment, Tunable
from lightning_memaudit.treatments.baseline import Baseline
from lightning_memaudit.treatments.private import DPSGD, ClipOnly
from lightning_memaudit.treatments.prune import Prune
from lightning_memaudit.treatments.quantize import Quantize

__all__ = ["DPSGD", "Baseline", "ClipOnly", "Prune", "Quantize", "Regime", "Treatment", "Tunable"]

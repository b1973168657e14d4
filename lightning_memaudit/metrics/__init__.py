"""Accuracy by group as ``torchmetrics.Metric``: logs from a LightningModule, right under DDP."""

from __future__ import annotations

from lightning_memaudit.metrics.subgroup_accuracy import SubgroupAccuracy
from lightning_memaudit.metrics.subgroup_gap import SubgroupGap
from lightning_memaudit.metrics.worst_group_accuracy import WorstGroupAccuracy

__all__ = ["SubgroupAccuracy", "SubgroupGap", "WorstGroupAccuracy"]

"""The record as sections and gates read it: every shard once, by field and by block of examples.

``Record(store)`` is the way in; ``arm`` holds what was read of an arm, ``pairs`` sets a treated arm beside its base,
``estimates`` writes and restores what bounds need, ``levels`` is the home of every threshold.
"""

from lightning_memaudit.record.arm import ArmOutcomes, ArmRecord
from lightning_memaudit.record.block import Block, Consumer, Reads, Reduction, Wanted
from lightning_memaudit.record.record import Record

__all__ = ["ArmOutcomes", "ArmRecord", "Block", "Consumer", "Reads", "Record", "Reduction", "Wanted"]

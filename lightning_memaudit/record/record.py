"""``Record(store)``: what sections and gates read from, every shard once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.outcomes.arms import BASELINE
from lightning_memaudit.outcomes.shard_files import ids_on_disk
from lightning_memaudit.record.arm import ArmOutcomes, ArmRecord, Wish, base_arm, read_arm
from lightning_memaudit.record.block import Block, Consumer, Reads, Reduction
from lightning_memaudit.record.scratch import MEMORY_LIMIT, Scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.arms import Arm
    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.outcomes.manifest import Manifest
    from lightning_memaudit.outcomes.store import OutcomeStore

__all__ = ["BLOCK_BYTES", "Record"]

#: Bytes of one field of all models that a block has at most.
BLOCK_BYTES = 2**25
_CELL_BYTES = 8

Made = TypeVar("Made")


class Record:
    """The content of a store, read arm by arm, each shard once, when it is first asked for.

    ``correct`` of every model is held as packed bits and unpacked for whoever asks. The other fields are kept only as
    far as ``read`` was told, in memory up to a limit and in files beyond it. Whoever can, takes them by blocks of
    examples in one pass (``Consumer``); the rest is read as a whole.

    Args:
        store: The store.
        memory_limit: Bytes of fields other than ``correct`` in memory.
        block_examples: Examples in a block; None takes as many as ``BLOCK_BYTES`` allow.

    Example:
        ``record = Record(store); record.outcomes("baseline", "test").correct.mean()``
    """

    def __init__(
        self, store: OutcomeStore, *, memory_limit: int = MEMORY_LIMIT, block_examples: int | None = None
    ) -> None:
        self.store = store
        self.scratch = Scratch(memory_limit)
        self._block_examples = block_examples
        self._arms: dict[str, ArmRecord] = {}
        self._examples: dict[str, Examples] = {}
        self._results: dict[Consumer, Any] = {}
        self._made: dict[Hashable, Any] = {}

    @property
    def url(self) -> str:
        """Where the store is."""
        return self.store.url

    @property
    def manifest(self) -> Manifest:
        """What the store was made for."""
        return self.store.manifest

    @property
    def plan(self) -> SubsetPlan:
        """The subset plan of the population."""
        return self.store.plan

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """The arms that have at least one shard, ``baseline`` first."""
        return tuple(self.store.treatments())

    @property
    def splits(self) -> tuple[str, ...]:
        """The recorded splits."""
        return self.store.splits()

    @cached_property
    def stopping(self) -> dict[str, Any] | None:
        """The record of adaptive stopping, if there was any."""
        return self.store.stopping()

    def examples(self, split: str = "train") -> Examples:
        """The examples of a split, read once."""
        if split not in self._examples:
            self._examples[split] = self.store.examples(split)
        return self._examples[split]

    def treatment(self, arm: str) -> Arm | None:
        """What was done to the models of an arm, or None where nothing is on record."""
        return self.once(("treatment", arm), lambda: self.store.arm(arm))

    def listed(self, arm: str) -> list[int]:
        """The models of an arm that have a shard, damaged or not; none is read."""
        return ids_on_disk(self.store.storage, arm)

    def arm(self, name: str) -> ArmRecord:
        """One arm; without models where it has none, or only damaged ones."""
        if name not in self._arms:
            self._arms[name] = read_arm(self.store, name, {}, self.scratch)
        return self._arms[name]

    def model_ids(self, arm: str = BASELINE) -> list[int]:
        """The models of an arm with a valid shard."""
        ids: list[int] = self.arm(arm).model_ids.tolist()
        return ids

    def outcomes(self, arm: str = BASELINE, split: str = "train") -> ArmOutcomes:
        """Whether the models of an arm are right on a split, unpacked.

        Raises:
            MissingDataError: The arm has no model, or there is no such split.
        """
        known = self.arm(arm)
        if not known.n_models:
            raise MissingDataError(
                f"store={self.url!r} has no model of arm {arm!r}; it has {', '.join(self.arms) or 'none'}"
            )
        if split not in self.splits:
            raise MissingDataError(f"store={self.url!r} has no split {split!r}; it has {', '.join(self.splits)}")
        labels = self.examples(split).labels
        return ArmOutcomes(known.model_ids, known.mask(), known.correct(split), labels, known.blocks)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Something that several sections need, made when it is first asked for."""
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    def read(self, *reads: Reads) -> None:
        """Read what sections declare, each shard once, and go through the blocks once.

        Whatever is there already is not read again. An arm that was read without a field that is wanted now is read
        a second time, so that all sections of a report or of a gate are declared in one call.

        Args:
            reads: What each of them reads.
        """
        self._hold(reads)
        fresh = [consumer for part in reads for consumer in part.consumers if consumer not in self._results]
        begun: dict[Consumer, Reduction] = {}
        for consumer in dict.fromkeys(fresh):
            try:
                begun[consumer] = consumer.start(self)
            except MissingDataError as missing:
                self._results[consumer] = missing
        for split in dict.fromkeys(consumer.split for consumer in begun):
            taking_part = [reduction for consumer, reduction in begun.items() if consumer.split == split]
            for block in self._blocks(split):
                for reduction in taking_part:
                    reduction.consume(block)
        self._results |= {consumer: reduction.finish() for consumer, reduction in begun.items()}

    def result(self, consumer: Consumer) -> Any:
        """What a consumer made of the blocks.

        Raises:
            MissingDataError: As its ``start``.
        """
        if consumer not in self._results:
            self.read(Reads((consumer,)))
        found = self._results[consumer]
        if isinstance(found, MissingDataError):
            raise found
        return found

    def _hold(self, reads: Sequence[Reads]) -> None:
        """Read the arms whose fields are wanted, those first whose base is known only from their shards."""
        wanted = list(dict.fromkeys(wanted for part in reads for wanted in part.wanted()))
        wishes: dict[str, Wish] = {}
        for want in wanted:
            for name in want.fields:
                wishes.setdefault(want.arm, {})[want.split, name] = None
        paired = list(dict.fromkeys(want.arm for want in wanted if want.with_base))
        for arm in paired:
            self._read(arm, wishes.pop(arm))
        for want in (want for want in wanted if want.with_base):
            treated = self.arm(want.arm)
            for model_id, source in zip(treated.model_ids.tolist(), treated.made_from, strict=True):
                wish = wishes.setdefault(base_arm(want.arm, source), {})
                for name in want.fields:
                    ids = wish.setdefault((want.split, name), set())
                    if ids is not None:
                        ids.add(model_id)  # type: ignore[attr-defined]
        for arm, wish in wishes.items():
            self._read(arm, wish)

    def _read(self, arm: str, wish: Wish) -> None:
        known = self._arms.get(arm)
        if known is None or not _covers(known.wish, wish):
            self._arms[arm] = read_arm(
                self.store, arm, _joined({} if known is None else known.wish, wish), self.scratch
            )

    def _blocks(self, split: str) -> Iterator[Block]:
        n_examples = int(self.manifest.identity.data[split]["n_examples"])
        most = max((arm.n_models for arm in self._arms.values()), default=1)
        size = self._block_examples or max(BLOCK_BYTES // (_CELL_BYTES * max(most, 1)), 8)
        for start in range(0, n_examples, size):
            yield Block(split, slice(start, min(start + size, n_examples)), self._arms)


def _covers(known: Wish, wish: Wish) -> bool:
    return all(
        key in known and (known[key] is None or (ids is not None and set(ids) <= set(known[key] or ())))
        for key, ids in wish.items()
    )


def _joined(known: Wish, wish: Wish) -> Wish:
    joined = dict(known)
    for key, ids in wish.items():
        before = joined.get(key, ())
        joined[key] = None if ids is None or before is None else {*before, *ids}
    return joined

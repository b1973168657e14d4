"""How the models of a run are trained: every executor leaves the same store.

An executor is whatever has a ``name`` and ``train(run, model_ids, engine)``: see ``Executor``. Those that come with the
package are registered in ``EXECUTORS``, and nowhere else; ``tests/integration/test_executors.py`` holds all of them to
the same table. An executor of your own is passed to ``Audit(executor=...)`` as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Protocol, runtime_checkable

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.training.executors.auto import Auto
from lightning_memaudit.training.executors.process import Process
from lightning_memaudit.training.executors.ray import Ray
from lightning_memaudit.training.executors.sequential import Ensemble, PlainTrainer, Sequential

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lightning_memaudit.training.engines.choice import ChosenEngine
    from lightning_memaudit.training.run import Run

__all__ = [
    "EXECUTORS",
    "Auto",
    "Ensemble",
    "Executor",
    "PlainTrainer",
    "Process",
    "Ray",
    "Sequential",
    "find_executor",
]


@runtime_checkable
class Executor(Protocol):
    """Trains models and writes their shards.

    Attributes:
        name: Stands in the manifest.
    """

    name: ClassVar[str]

    def train(self, run: Run, model_ids: Sequence[int], engine: ChosenEngine) -> Iterator[int]:
        """Train models of a run; nothing is done before the iterator is asked for the first of them.

        When the iterator is closed, or an exception or Ctrl-C comes out of it, every finished model is in the store,
        and processes that were started have ended.

        Args:
            run: Population, plan, store and notes, with what the probe said.
            model_ids: The models that the store lacks, or whose shards are damaged; may be empty.
            engine: What earlier calls decided for these models; an executor that decides keeps it there.

        Yields:
            The number of each model as its shard is in the store, in any order.

        Raises:
            ConfigurationError: The executor cannot train here, or cannot reach the store.
            TrainingError: The user's code failed; the message names the model.
        """
        ...  # pragma: no cover


EXECUTORS: Final[Mapping[str, type[Executor]]] = {
    kind.name: kind for kind in (Auto, PlainTrainer, Sequential, Ensemble, Process, Ray)
}


def find_executor(executor: Executor | str) -> Executor:
    """The executor of a name, or the executor itself.

    Raises:
        ArgumentError: No executor of that name.
    """
    if isinstance(executor, str) and executor in EXECUTORS:
        return EXECUTORS[executor]()
    if isinstance(executor, Executor) and not isinstance(executor, type):
        return executor
    raise ArgumentError(
        f"executor={executor!r}: one of {', '.join(EXECUTORS)} is needed, or an executor such as "
        "training.executors.Process(n_workers=4)"
    )

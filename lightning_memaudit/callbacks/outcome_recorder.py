"""The callback that scores a trained model on every example and records it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_memaudit.callbacks.recording import Recorder, Recording

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.examples import Groups
    from lightning_memaudit.outcomes.store import OutcomeStore

__all__ = ["OutcomeRecorder"]


class OutcomeRecorder(Recorder):
    """Scores the model at the end of ``fit`` on every example of every split, and writes its shard.

    Before the first step the run is compared with the store: another plan, data set, model or optimisation is refused.

    Args:
        store: An ``OutcomeStore``, a folder, or an fsspec URL.
        plan: The subset plan; None takes it from the ``SubsetDataModule`` of the Trainer.
        model_id: The number of this model; None takes it from the ``SubsetDataModule``.
        score_fn: ``"multiclass"``, ``"binary"``, ``"sequence"``, a score object, or
            ``f(pl_module, batch) -> ExampleScores``.
        splits: Splits to score; None takes every one there is.
        groups: Groupings by name: ``{"digit": "label", "race": "race"}``.

    Raises:
        ArgumentError: No plan or model number is known, or the training data are not the plan's subset.
        ConfigurationError: A sharded strategy, or a fit that trained nothing.
        MismatchError: The store belongs to something else.

    Example:
        One run of a user's own script, of which a job array runs as many as there are models::

            plan = SubsetPlan(n_examples=50_000, seed=0)
            seed_everything(plan.model_seed(k))
            trainer = Trainer(max_epochs=20, callbacks=[OutcomeRecorder("audits/cifar")])
            trainer.fit(LitNet(), datamodule=SubsetDataModule(CifarData(), plan, model_id=k))

    Note:
        Training is over when the model is scored, so weights are those at the end of ``fit`` (after weight averaging
        callbacks), not those of a best checkpoint.
    """

    def __init__(
        self,
        store: OutcomeStore | str | os.PathLike[str],
        plan: SubsetPlan | None = None,
        model_id: int | None = None,
        score_fn: Any = "multiclass",
        splits: Sequence[str] | None = None,
        *,
        groups: Groups | None = None,
    ) -> None:
        super().__init__(Recording(store, plan, model_id, score_fn, splits, groups=groups))

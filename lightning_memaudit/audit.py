"""The facade: train the population, then report on it."""

from __future__ import annotations

import logging
import operator
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from lightning_memaudit.data.groups import MISSING, column_of, grouping
from lightning_memaudit.data.plan import Design, SubsetPlan
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.checks import as_positive_int
from lightning_memaudit.functional.memorization import Reliable, Settled, StoppingLook, reached
from lightning_memaudit.outcomes.arms import FULL
from lightning_memaudit.outcomes.scoring import find_score_function
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.training.arms.arms import Arms, ReadyArm, checked_treatments, with_kept_weights
from lightning_memaudit.training.arms.learning_rate import n_models_to_search, with_searched_rates
from lightning_memaudit.training.engines.choice import ChosenEngine
from lightning_memaudit.training.estimate import Estimate, estimate
from lightning_memaudit.training.executors import find_executor
from lightning_memaudit.training.factories import Init, data_factory, model_factory, trainer_recipe
from lightning_memaudit.training.population import Recipe, prepare_population
from lightning_memaudit.training.probe import probe
from lightning_memaudit.training.progress import Progress, interrupts_noticed
from lightning_memaudit.training.run import Run

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Sequence

    import numpy as np
    import numpy.typing as npt
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer
    from torch.utils.data import DataLoader, Dataset

    from lightning_memaudit.outcomes.examples import Groups
    from lightning_memaudit.report.audit_report import AuditReport
    from lightning_memaudit.training.executors import Executor
    from lightning_memaudit.training.population import Population
    from lightning_memaudit.treatments import Treatment

__all__ = ["Audit"]

ImpactOn = Literal["subset", "full"]

_log = logging.getLogger(__name__)
_LEAST_MODELS_TO_LOOK = 4


class Audit:
    """Trains many models on known subsets of the data and reports what they memorize.

    Args:
        model: A callable that returns a fresh LightningModule (a class is one), or an instance together with ``init``.
        data: A LightningDataModule, or a callable that returns one.
        init: For an instance: ``"rebuild"`` anew from its ``hparams``, or ``"copy"`` its present weights (fine-tuning).
        trainer: Trainer arguments as a mapping, or a callable that returns a Trainer. From a mapping, loggers,
            checkpoints and bars are left out, ``devices`` is 1, callbacks are copied for each model, and the report
            says what was left out.
        n_models: Size of the population; it may grow later.
        subset_fraction: Share of the examples (or units) that each model trains on.
        design: ``"fixed_size"``, ``"bernoulli"``, ``"paired"``, ``"stratified"`` or ``"canaries"``; see ``SubsetPlan``.
        seed: Seed of the plan, from which everything else follows.
        units: int[n], or the name of a column or attribute of the training data set: rows of the same value (one
            person, one patient) are in or out together.
        strata: int[n], for ``"stratified"``; None takes the labels.
        canaries: Row numbers, for ``"canaries"``.
        store: A folder or fsspec URL for the record. An existing store is resumed if it belongs to this audit.
        groups: Groupings by name: ``{"race": "race", "digit": "label"}``.
        treatments: What is done to models whose harm is measured: ``[DPSGD(target_epsilon=3.0), Prune(0.9)]``. One that
            is added later trains only its own arm.
        n_treated_models: Models of each treatment; they have the subsets and seeds of the first baseline models.
        impact_on: ``"subset"``: treated models train on the subsets of the baseline; ``"full"``: all arms, the baseline
            included, train on all data.
        score_fn: ``"multiclass"``, ``"binary"``, ``"sequence"``, a score object, or ``f(pl_module, batch) ->
            ExampleScores``.
        executor: ``"auto"`` takes the fastest that is right for the model, by a short trial; ``"trainer"``,
            ``"sequential"``, ``"ensemble"``, ``"process"``, ``"ray"``, or one of ``training.executors`` with options.
        splits: Splits to score; None takes every one there is.
        eval_dataset: Training examples without random transforms, or a callable that takes the data module.
        train_loader_factory: ``f(dataset) -> DataLoader`` for training loaders that cannot be rebuilt.
        keep_weights: Keep the weights of trained baseline models in the store, so that a treatment of trained models
            that is added later need not train them again.

    Raises:
        ArgumentError: An argument is out of range; it is named.
        ConfigurationError: The model cannot be rebuilt.

    Example:
        >>> from lightning_memaudit.testing import LookupProblem
        >>> problem = LookupProblem.random(n_points=8, n_examples=24, n_classes=2, seed=0)
        >>> audit = Audit(problem.module, problem.datamodule, n_models=20, store="memory://audit-example",
        ...               trainer={"max_epochs": 1, "accelerator": "cpu"})
        >>> report = audit.run(progress=False)
        >>> report.memorization.score.shape
        (24,)
    """

    def __init__(
        self,
        model: LightningModule | Callable[[], LightningModule],
        data: LightningDataModule | Callable[[], LightningDataModule],
        *,
        init: Init | None = None,
        trainer: Mapping[str, Any] | Callable[[], Trainer] | None = None,
        n_models: int = 100,
        subset_fraction: float = 0.7,
        design: Design = "fixed_size",
        seed: int = 0,
        units: npt.ArrayLike | str | None = None,
        strata: npt.ArrayLike | None = None,
        canaries: npt.ArrayLike | None = None,
        store: OutcomeStore | str | os.PathLike[str] = "memaudit",
        treatments: Sequence[Treatment] = (),
        n_treated_models: int = 10,
        impact_on: ImpactOn = "subset",
        groups: Groups | None = None,
        score_fn: Any = "multiclass",
        executor: Executor | str = "auto",
        splits: Sequence[str] | None = None,
        eval_dataset: Dataset[Any] | Callable[[LightningDataModule], Dataset[Any]] | None = None,
        train_loader_factory: Callable[[Dataset[Any]], DataLoader[Any]] | None = None,
        keep_weights: bool = False,
    ) -> None:
        self.n_models = _checked_count(n_models)
        self.treatments = checked_treatments(treatments)
        self.n_treated_models = as_positive_int(n_treated_models, name="n_treated_models")
        if self.treatments and impact_on == "subset" and n_treated_models > self.n_models:
            _log.warning(
                "n_treated_models=%d: only the %d baseline models there are can be treated",
                n_treated_models,
                self.n_models,
            )
        if impact_on not in get_args(ImpactOn):
            raise ArgumentError(f"impact_on={impact_on!r}: 'subset' or 'full' is needed")
        self._impact_on = impact_on
        self._keep_weights = keep_weights
        self.store = store if isinstance(store, OutcomeStore) else OutcomeStore(store)
        self._executor = find_executor(executor)
        find_score_function(score_fn)
        if groups is not None and not isinstance(groups, Mapping):
            raise ArgumentError(
                f"groups={groups!r}: a mapping from names to columns is needed, such as {{'race': 'race'}}"
            )
        if splits is not None and "train" not in splits:
            raise ArgumentError(f"splits={splits!r}: 'train' must be among them, since memorization is read off it")
        self._recipe = Recipe(
            model=model_factory(model, init),
            data=data_factory(data),
            trainer=trainer_recipe(trainer),
            score_fn=score_fn,
            splits=splits,
            groups=groups,
            eval_dataset=eval_dataset,
            train_loader_factory=train_loader_factory,
            executor=self._executor.name,
        )
        self._design: dict[str, Any] = {
            "subset_fraction": subset_fraction,
            "design": design,
            "seed": seed,
            "units": units,
            "strata": strata,
            "canaries": canaries,
        }
        _check_design(self._design)
        self._run: Run | None = None
        self._engine = ChosenEngine()

    @property
    def plan(self) -> SubsetPlan:
        """The subset plan; the data are set up to know how many examples there are."""
        return self.prepared.plan

    @property
    def prepared(self) -> Run:
        """Population, plan and store of the baseline models; the data are set up when this is first asked for."""
        if self._run is None:
            population = prepare_population(self._recipe, int(self._design["seed"]))
            plan = _plan_for(population, self._design)
            self._run = Run(population, plan, self.store, self._recipe.trainer.notes)
        return self._run

    def train(
        self,
        n_models: int | None = None,
        *,
        until: Settled | Reliable | None = None,
        shard: tuple[int, int] | None = None,
        progress: bool = True,
    ) -> OutcomeStore:
        """Train the models that the store lacks.

        Args:
            n_models: Grow (or look at) the population of this size; None takes that of the audit.
            until: Stop early, at pre-declared numbers of models, when the rule is met.
            shard: ``(i, n)`` trains only the models whose number is i modulo n, i from 0 to n - 1: the part of one of n
                runs that share a store, at once or one after the other.
            progress: Show one bar over models, with the time left.

        Returns:
            The store.

        Raises:
            ArgumentError: ``shard`` is out of range, or goes together with ``until``.
            MismatchError: The store belongs to something else.
            CorruptShardError: The first model that was stored, of the population or an arm, cannot be read back.
            TrainingError: The user's code failed; what is stored is kept.
            KeyboardInterrupt: Ctrl-C; every finished model is stored.
        """
        total = self.n_models if n_models is None else _checked_count(n_models)
        rule = None if until is None else _declared(until, total)
        own, of = (0, 1) if shard is None else _checked_shard(shard)
        if rule is not None and of > 1:
            raise ArgumentError(
                f"shard=({own}, {of}): one shard cannot tell when until= is met; train all shards without it"
            )
        run = self._opened()
        ids = [k for k in self._model_ids(total) if k % of == own]
        arms = self._arms(run, [k for k in self._treated_ids(total) if k % of == own], progress=progress)
        ready = arms.prepare(run)
        missing = set(self.store.missing(ids))
        seen_before = len(missing) < len(ids)
        looks: list[StoppingLook] = []
        whose = f" of shard {own}/{of}" if of > 1 else ""
        with Progress(self.store, ids, missing, whose, shown=progress) as bar, interrupts_noticed() as check:
            for stage in [total] if rule is None else rule.looks:
                todo = [k for k in ids if k < stage and k in missing]
                with closing(self._trained(run, todo, arms)) as trained:  # workers end before anything else is done
                    for index, model_id in enumerate(trained):
                        if index == 0:  # what cannot be read back is found out before the others are trained
                            self.store.check(model_id)
                        missing.discard(model_id)
                        bar.advance()
                        check()
                if rule is not None:
                    looks.append(self._look(rule, len(looks), [k for k in ids if k < stage]))
                    if looks[-1].stop:
                        break
        if rule is not None:
            self._record_stopping(rule, looks, seen_before=seen_before)
        if ready:
            if looks and not arms.on_full_data:  # those that were never trained have nothing to be compared with
                arms = replace(arms, model_ids=tuple(k for k in arms.model_ids if k < looks[-1].n_models))
            self._treat(arms, ready, progress=progress)
        return self.store

    def _treat(self, arms: Arms, ready: Sequence[ReadyArm], *, progress: bool) -> None:
        """Train the arms of the treatments."""
        from tqdm.auto import tqdm

        total = arms.n_to_train(ready)
        with (
            tqdm(desc="treated models", total=total, unit="model", disable=not progress, dynamic_ncols=True) as bar,
            interrupts_noticed() as check,
            closing(arms.train(ready, self._executor)) as trained,
        ):
            checked: set[str] = set()
            for arm, model_id in trained:
                if arm not in checked:
                    self.store.check(model_id, arm)
                    checked.add(arm)
                bar.set_postfix_str(arm, refresh=False)
                bar.update()
                check()

    def _arms(self, run: Run, model_ids: Sequence[int], *, progress: bool) -> Arms:
        from tqdm.auto import tqdm

        on_full_data = self._impact_on == "full"
        n_searched = n_models_to_search(self.treatments)
        with tqdm(desc="learning rates", total=n_searched, disable=not (progress and n_searched), leave=False) as bar:
            prefix = FULL if on_full_data else ""
            treatments = with_searched_rates(run, self.treatments, prefix=prefix, on_model=bar.update)
        return Arms(treatments, tuple(model_ids), on_full_data, self._keep_weights)

    def _treated_ids(self, total: int) -> list[int]:
        if self._impact_on == "full":
            return list(range(self.n_treated_models))
        return self._model_ids(min(self.n_treated_models, total))  # others have no baseline to be compared with

    def missing(self, n_models: int | None = None) -> list[int]:
        """The models of the population that the store lacks.

        Args:
            n_models: Size of the population; None takes that of the audit.
        """
        total = self.n_models if n_models is None else _checked_count(n_models)
        return self.store.missing(self._model_ids(total))

    def run(
        self, n_models: int | None = None, *, until: Settled | Reliable | None = None, progress: bool = True
    ) -> AuditReport:
        """``train``, then ``report``."""
        self.train(n_models, until=until, progress=progress)
        return self.report()

    def report(self) -> AuditReport:
        """The report on what the store holds."""
        from lightning_memaudit.report.audit_report import AuditReport

        return AuditReport.from_store(self.store)

    def estimate(self, n_models: int | None = None) -> Estimate:
        """What the audit will take, from a few timed training steps and one scoring pass; nothing is recorded."""
        total = self.n_models if n_models is None else _checked_count(n_models)
        return estimate(self.prepared, total)

    def _opened(self) -> Run:
        """The run of the baseline, tried on one batch, with what is known of its examples on record."""
        run = self.prepared
        self.store.remove_stale_partial_writes()
        run = replace(run, probe=probe(run))
        for split, examples in run.population.examples(run.plan.units).items():
            if not self.store.has_examples(split) or self._recipe.groups is not None:
                self.store.write_examples(split, examples)
        return run

    def _model_ids(self, total: int) -> list[int]:
        return [k for k in range(total) if self.plan.mask(k).any()]  # few coins may leave a subset empty

    def _trained(self, run: Run, model_ids: Sequence[int], arms: Arms) -> Generator[int]:
        engine = self._engine
        if self.treatments or self._keep_weights:
            run, engine = with_kept_weights(run, arms, model_ids), ChosenEngine()  # whose memory goes before arms train
        yield from self._executor.train(run, model_ids, engine)

    def _look(self, rule: Settled | Reliable, index: int, model_ids: list[int]) -> StoppingLook:
        outcomes = self.store.load(model_ids=model_ids, fields=("correct",))
        return reached(rule, outcomes.correct, outcomes.mask, index, blocks=outcomes.blocks)

    def _record_stopping(self, rule: Settled | Reliable, looks: list[StoppingLook], *, seen_before: bool) -> None:
        described = {"name": type(rule).__name__, **asdict(rule), "looks": list(rule.looks)}
        earlier = self.store.stopping()
        declared = not seen_before
        if earlier is not None and earlier["rule"] == described:
            declared = bool(earlier["declared_beforehand"])
        self.store.write_stopping(
            {
                "rule": described,
                "declared_beforehand": declared,
                "looks": [asdict(look) for look in looks],
                "n_models": looks[-1].n_models,
                "n_models_planned": rule.looks[-1],
                "models_saved": rule.looks[-1] - looks[-1].n_models,
                "level": looks[-1].level,
            }
        )


def _plan_for(population: Population, design: Mapping[str, Any]) -> SubsetPlan:
    arguments = dict(design)
    if isinstance(arguments["units"], str):
        arguments["units"] = _unit_codes(population, arguments["units"])
    if arguments["design"] == "stratified" and arguments["strata"] is None:
        arguments["strata"] = population.examples()["train"].labels
    return SubsetPlan(population.source.n_examples(), **arguments)


def _unit_codes(population: Population, column: str) -> npt.NDArray[np.int64]:
    dataset = population.source.train_dataset()
    values = column_of(dataset, column)
    if values is None:
        raise ArgumentError(
            f"units={column!r}: the training data set ({type(dataset).__name__}) has no such attribute or column; "
            f"pass int[n]"
        )
    units = grouping(values, name=column, n_examples=population.source.n_examples())
    if MISSING in units.names:
        n_missing = int((units.codes == units.names.index(MISSING)).sum())
        raise ArgumentError(
            f"units={column!r}: {n_missing} rows have no value, and would be one unit; give each row a unit of its own"
        )
    return units.codes


def _checked_count(n_models: Any) -> int:
    try:
        count = 0 if isinstance(n_models, bool) else operator.index(n_models)
    except TypeError:
        count = 0
    if count < 2:
        raise ArgumentError(
            f"n_models={n_models!r}: an integer of at least 2 is needed, to have an example in one model and out of "
            f"another"
        )
    return count


def _checked_shard(shard: Any) -> tuple[int, int]:
    try:
        own, of = (operator.index(number) for number in shard if not isinstance(number, bool))
    except (TypeError, ValueError):
        own, of = 0, 0
    if not 0 <= own < of:
        raise ArgumentError(
            f"shard={shard!r}: two integers (i, n) are needed, with i from 0 to n - 1: (0, 4) to (3, 4) for four shards"
        )
    return own, of


def _declared(until: Settled | Reliable, total: int) -> Settled | Reliable:
    """The rule with the looks that this audit can reach, the last one at ``total``."""
    if not isinstance(until, Settled | Reliable):
        raise ArgumentError(
            f"until={until!r}: a rule of functional.memorization is needed, Settled(...) or Reliable(...)"
        )
    rule = replace(until, looks=(*(look for look in until.looks if look < total), total))
    if rule.looks[0] < _LEAST_MODELS_TO_LOOK:
        raise ArgumentError(
            f"looks={rule.looks!r}: the first look needs {_LEAST_MODELS_TO_LOOK} models or more, since fewer can "
            "decide nothing"
        )
    return rule


def _check_design(design: Mapping[str, Any]) -> None:
    """Say at once what the plan would only say when the data are there."""
    probe_size = 1000
    arguments = {name: value for name, value in design.items() if name not in ("units", "strata", "canaries")}
    if arguments["design"] == "stratified":
        arguments["strata"] = [0] * probe_size
    if arguments["design"] == "canaries":
        if design["canaries"] is None:
            raise ArgumentError("canaries=None: design='canaries' needs the rows that are fair coins")
        arguments["canaries"] = [0]
    SubsetPlan(probe_size, **arguments)

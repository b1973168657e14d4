"""Score functions, and the pass that scores one model on every example of a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch

from lightning_memaudit.exceptions import UnsupportedDataError
from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.outcomes.fields import find_input, find_target
from lightning_memaudit.outcomes.shard import FIELDS, SplitScores

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from lightning.pytorch import LightningModule
    from torch.utils.data import DataLoader

__all__ = [
    "Binary",
    "ExampleScores",
    "Multiclass",
    "ScoreColumns",
    "ScoreFunction",
    "Sequence",
    "find_score_function",
    "score_split",
]

_ROWS_THAT_TELL = 4  # fewer rows of logits sum to one by chance

Outputs = Literal["logits", "probabilities"]
ScoreFunctionName = Literal["multiclass", "binary", "sequence"]


@dataclass(frozen=True, slots=True, eq=False)
class ExampleScores:
    """What a model did on the examples of one batch.

    Attributes:
        correct: bool[B], or the share of correct tokens in [0, 1].
        margin: float[B], the logit-scaled confidence log p_y − log Σ_{c≠y} p_c.
        loss: float[B].
        prediction: int[B]; −1 where an example has no single prediction.
        confidence: float[B], the probability of the prediction; None where the score function does not say.
    """

    correct: torch.Tensor
    margin: torch.Tensor
    loss: torch.Tensor
    prediction: torch.Tensor
    confidence: torch.Tensor | None = None


@runtime_checkable
class ScoreFunction(Protocol):
    """Anything that scores a batch example by example."""

    def __call__(self, pl_module: LightningModule, batch: Any) -> ExampleScores:
        """Score one batch that is on the module's device."""
        ...  # pragma: no cover


@dataclass(frozen=True, slots=True)
class Multiclass:
    """One class out of several: ``pl_module(inputs)`` gives logits[B, C], targets are class numbers[B].

    Args:
        inputs: Key or position of the inputs in a batch; None looks for the usual names.
        target: Key or position of the targets; None looks for the usual names.
        outputs: ``"logits"`` (log-probabilities are logits too), or ``"probabilities"`` of a module that ends in
            softmax; None takes logits and refuses what looks like probabilities.
    """

    inputs: str | int | None = None
    target: str | int | None = None
    outputs: Outputs | None = None

    def __call__(self, pl_module: LightningModule, batch: Any) -> ExampleScores:
        """Score one batch."""
        logits = _logits(pl_module, batch, self.inputs)
        target = _one_each(find_target(batch, self.target)).to(logits.device)
        if logits.ndim != 2 or logits.shape[1] < 2 or target.shape != logits.shape[:1]:
            raise UnsupportedDataError(
                f"score_fn='multiclass' needs logits[B, C] and targets[B], and forward gave {_shape(logits)} for "
                f"targets {_shape(target)}; try score_fn='binary' or 'sequence', or pass your own function"
            )
        return multiclass_scores(_as_logits(logits, self.outputs, "Multiclass"), target)


@dataclass(frozen=True, slots=True)
class Binary:
    """Two classes: ``pl_module(inputs)`` gives one logit ([B] or [B, 1]) or two ([B, 2]); targets are 0 or 1.

    Args:
        inputs: Key or position of the inputs in a batch; None looks for the usual names.
        target: Key or position of the targets; None looks for the usual names.
        outputs: ``"logits"``, or ``"probabilities"`` of a module that ends in sigmoid (or softmax over two); None takes
            logits and refuses what looks like probabilities.
    """

    inputs: str | int | None = None
    target: str | int | None = None
    outputs: Outputs | None = None

    def __call__(self, pl_module: LightningModule, batch: Any) -> ExampleScores:
        """Score one batch."""
        outputs = _logits(pl_module, batch, self.inputs)
        target = _one_each(find_target(batch, self.target)).to(outputs.device)
        if target.ndim != 1 or outputs.shape not in ((), (len(target),), (len(target), 1), (len(target), 2)):
            raise UnsupportedDataError(
                f"score_fn='binary' needs one or two logits and one target an example, and forward gave "
                f"{_shape(outputs)} for targets {_shape(target)}"
            )
        if bool(((target != 0) & (target != 1)).any()):
            raise UnsupportedDataError(
                f"score_fn='binary' needs targets 0 and 1, and there is {sorted(set(target.tolist()))[:5]}; soft or "
                "−1/+1 targets need your own score function"
            )
        logits = _as_logits(outputs.reshape(len(target), -1), self.outputs, "Binary")
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return multiclass_scores(logits, target)


@dataclass(frozen=True, slots=True)
class Sequence:
    """One class per token: ``pl_module(inputs)`` gives logits[B, T, C], targets are [B, T], less ``ignore_index``.

    ``correct`` is the share of right tokens, ``margin`` and ``loss`` are means over tokens, and a sequence without a
    token is NaN. Targets are taken as they are: a language model's shift by one is the module's business.

    Args:
        inputs: Key or position of the inputs in a batch; None looks for the usual names.
        target: Key or position of the targets; None looks for the usual names.
        ignore_index: The label of tokens that do not count.
    """

    inputs: str | int | None = None
    target: str | int | None = None
    ignore_index: int = -100

    def __call__(self, pl_module: LightningModule, batch: Any) -> ExampleScores:
        """Score one batch."""
        logits = _logits(pl_module, batch, self.inputs)
        target = find_target(batch, self.target).to(logits.device)
        if logits.ndim != 3 or target.shape != logits.shape[:2]:
            raise UnsupportedDataError(
                f"score_fn='sequence' needs logits[B, T, C] and targets[B, T], and forward gave {_shape(logits)} for "
                f"targets {_shape(target)}"
            )
        logits = _float64(logits)
        target = target.to(logits.device)
        counted = target != self.ignore_index
        tokens = multiclass_scores(logits.flatten(0, 1), torch.where(counted, target, 0).flatten())
        weights = counted.double()
        total = weights.sum(1)

        def mean(values: torch.Tensor) -> torch.Tensor:
            kept = torch.where(counted, values.double().reshape(target.shape), 0.0)
            return kept.sum(1) / total

        return ExampleScores(
            correct=mean(tokens.correct),
            margin=mean(tokens.margin),
            loss=mean(tokens.loss),
            prediction=torch.full((len(target),), -1, device=logits.device),
        )


def find_score_function(score_fn: ScoreFunctionName | ScoreFunction) -> ScoreFunction:
    """The score function of a name, or the callable itself.

    Raises:
        ArgumentError: No such name, and not callable.
    """
    named: dict[str, ScoreFunction] = {"multiclass": Multiclass(), "binary": Binary(), "sequence": Sequence()}
    if isinstance(score_fn, str) and score_fn in named:
        return named[score_fn]
    if callable(score_fn):
        return score_fn
    raise argument_error(
        "score_fn",
        score_fn,
        f"one of {', '.join(named)}, or a callable f(pl_module, batch) -> ExampleScores, is needed",
    )


def multiclass_scores(logits: torch.Tensor, target: torch.Tensor) -> ExampleScores:
    """Scores from logits[B, C] and class numbers[B], in float64.

    The margin is log p_y − log Σ_{c≠y} p_c (Carlini et al. 2022, stable form): z_y − logsumexp of the other logits. An
    example whose logits hold NaN or +inf (or −inf alone) is wrong: ``prediction`` −1, NaN margin and loss.

    Raises:
        UnsupportedDataError: A target is no class number.

    Example:
        >>> scores = multiclass_scores(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
        >>> scores.correct.tolist(), scores.margin.tolist()
        ([True, False], [2.0, -1.0])
    """
    logits = _float64(logits)
    n_classes = logits.shape[1]
    if target.is_floating_point() and not torch.equal(target, target.round()):
        raise UnsupportedDataError(
            f"targets such as {_odd(target)} are no class numbers; soft labels and regression need your own score "
            "function, score_fn=f with f(pl_module, batch) -> ExampleScores"
        )
    target = target.to(logits.device).long()
    if len(target) and not 0 <= int(target.min()) <= int(target.max()) < n_classes:
        raise UnsupportedDataError(
            f"targets range over {int(target.min())}..{int(target.max())} and forward gives {n_classes} classes "
            f"(0..{n_classes - 1})"
        )
    finite = logits.amax(1).isfinite()
    chosen = logits.gather(1, target[:, None]).squeeze(1)
    others = logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)
    nan = torch.full_like(chosen, torch.nan)
    whole = logits.logsumexp(1)
    largest, likeliest = logits.max(1)
    prediction = torch.where(finite, likeliest, -1)
    return ExampleScores(
        correct=prediction == target,
        margin=torch.where(finite, chosen - others, nan),
        loss=torch.where(finite, whole - chosen, nan),
        prediction=prediction,
        confidence=torch.where(finite, (largest - whole).exp(), nan),
    )


def score_split(
    pl_module: LightningModule,
    loader: DataLoader[Any],
    score_fn: ScoreFunction,
    *,
    transfer: Callable[[Any], Any],
    split: str,
) -> SplitScores:
    """Score one model on every example, in evaluation mode and the order of the data set.

    Args:
        pl_module: The trained module.
        loader: A sequential loader over the split.
        score_fn: Scores one batch.
        transfer: Moves a batch to the module's device, through the user's hooks.
        split: The name of the split, for messages.

    Raises:
        UnsupportedDataError: A collate dropped or added samples, or the score function returned something else.
    """
    n_examples, batch_size = len(loader.dataset), loader.batch_size or 1  # type: ignore[arg-type]
    columns = ScoreColumns(split)
    modes = [(module, module.training) for module in pl_module.modules()]
    pl_module.eval()
    try:
        with torch.no_grad():
            for i, batch in enumerate(loader):
                columns.add(score_fn(pl_module, transfer(batch)), min(batch_size, n_examples - i * batch_size))
    finally:
        for module, mode in modes:
            module.training = mode
    return columns.finish(whole_numbers=not isinstance(score_fn, Sequence))


class ScoreColumns:
    """Gathers the scores of one model on a split, batch by batch.

    Args:
        split: The name of the split, for messages.
    """

    def __init__(self, split: str) -> None:
        self._split = split
        self._parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in FIELDS}

    def add(self, scores: ExampleScores, expected: int) -> None:
        """Add a batch of ``expected`` examples.

        Raises:
            UnsupportedDataError: A collate dropped or added samples, or the score function returned something else.
        """
        for name, values in _checked(scores, expected, self._split).items():
            self._parts[name].append(values)

    def finish(self, *, whole_numbers: bool) -> SplitScores:
        """All of them; ``correct`` is boolean where it is 0 or 1 everywhere and ``whole_numbers`` allows it."""
        whole = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in self._parts.items()}
        correct = whole["correct"]
        if correct.dtype != bool and whole_numbers and bool(np.isin(correct, (0, 1)).all()):
            correct = correct.astype(bool)
        with np.errstate(over="ignore"):  # a diverged model: infinite is what it is
            return SplitScores(
                correct=correct if correct.dtype == bool else correct.astype(np.float32),
                margin=whole["margin"].astype(np.float32),
                loss=whole["loss"].astype(np.float32),
                prediction=whole["prediction"].astype(np.int32),
                confidence=whole["confidence"].astype(np.float32),
            )


def _checked(scores: ExampleScores, expected: int, split: str) -> dict[str, npt.NDArray[Any]]:
    if not isinstance(scores, ExampleScores):
        raise UnsupportedDataError(f"score_fn returned a {type(scores).__name__}; it must return scoring.ExampleScores")
    columns = {}
    for name in FIELDS:
        given = getattr(scores, name)
        values = torch.full((expected,), torch.nan) if given is None else torch.as_tensor(given).detach().cpu()
        if values.shape != (expected,):
            raise UnsupportedDataError(
                f"a batch of {expected} examples of split {split!r} gave {name} of shape {_shape(values)}; the "
                "collate_fn must keep every sample, and score_fn must return one value an example"
            )
        columns[name] = (values.double() if values.is_floating_point() else values).numpy()
    if columns["correct"].dtype != bool and bool(((columns["correct"] < 0) | (columns["correct"] > 1)).any()):
        raise UnsupportedDataError("score_fn gave 'correct' outside [0, 1]; it is 0/1 or the share of right tokens")
    return columns


def _logits(pl_module: LightningModule, batch: Any, key: str | int | None) -> torch.Tensor:
    output = pl_module(find_input(batch, key))
    if isinstance(output, Mapping) and "logits" in output:
        output = output["logits"]
    output = getattr(output, "logits", output)
    if not isinstance(output, torch.Tensor):
        raise UnsupportedDataError(
            f"forward returned a {type(output).__name__} and logits are needed; pass score_fn=f with "
            "f(pl_module, batch) -> ExampleScores"
        )
    return output


def _as_logits(outputs: torch.Tensor, kind: Outputs | None, name: str) -> torch.Tensor:
    """What forward gave, [B, 1] or [B, C], as logits in float64."""
    outputs = _float64(outputs)
    if kind == "probabilities":
        tiny = torch.finfo(torch.float32).tiny
        logits = outputs.clamp_min(tiny).log()
        return logits - (1 - outputs).clamp_min(tiny).log() if outputs.shape[1] == 1 else logits
    if kind is None and _look_like_probabilities(outputs):
        raise UnsupportedDataError(
            "forward returned what looks like probabilities, whose margins would be wrong as logits; pass "
            f"score_fn=scoring.{name}(outputs='probabilities'), or outputs='logits' if they are logits after all"
        )
    return outputs


def _look_like_probabilities(outputs: torch.Tensor) -> bool:
    if len(outputs) < _ROWS_THAT_TELL or not bool(((outputs >= 0) & (outputs <= 1)).all()):
        return False
    if outputs.shape[1] == 1:  # of a sigmoid: in [0, 1], on both sides of one half
        return bool((outputs < 0.5).any() and (outputs > 0.5).any())
    return bool(((outputs.sum(1) - 1).abs() < 1e-2).all())


def _one_each(target: torch.Tensor) -> torch.Tensor:
    return target.squeeze(1) if target.ndim == 2 else target


def _float64(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()  # Apple's devices have no float64


def _odd(target: torch.Tensor) -> float:
    return float(target[target != target.round()][0])


def _shape(tensor: torch.Tensor) -> str:
    return "[" + ", ".join(map(str, tensor.shape)) + "]"

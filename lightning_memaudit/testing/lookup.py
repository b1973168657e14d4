"""A problem on discrete points, and a learner on it whose every probability can be enumerated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import LightningModule
from scipy import stats
from torch.utils.data import TensorDataset

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.testing.checks import check_n_classes, int_vector
from lightning_memaudit.testing.datamodule import ToyDataModule
from lightning_memaudit.testing.law import ExactDesign, SubsetLaw, zipf_weights

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from lightning_memaudit.functional.checks import FloatArray, IntArray

__all__ = ["LookupProblem", "LookupTable"]

_GUESS_LOGIT = 5.0
_POINT_LIMIT = 2**24  # the inputs are float32


class LookupTable(LightningModule):
    """The table of label counts per point, learned by one pass of gradient descent.

    The loss is minus the sum of the logits of the labels and the learning rate is 1, so that every example adds 1 to
    the cell of its point and label: the order, the batch size and the number of epochs do not change what is predicted.
    The answer is the most frequent label of a point; ties, and points never seen, go to the smallest class.

    Args:
        n_points: Number of points ``P``.
        n_classes: Number of classes ``C``, at least 2.
        noise: Probability, for each point, that the model answers a class drawn uniformly instead of what it saw. The
            draw is made once, when the model is built, from torch's global random state.

    Example:
        >>> table = LookupTable(n_points=3, n_classes=2)
        >>> table(torch.tensor([[0.0], [2.0]])).argmax(1)
        tensor([0, 0])
    """

    guess: torch.Tensor
    tie_break: torch.Tensor

    def __init__(self, n_points: int, n_classes: int, noise: float = 0.0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.counts = torch.nn.Parameter(torch.zeros(n_points, n_classes))
        guess = torch.randint(n_classes, (n_points,))
        self.register_buffer("guess", torch.where(torch.rand(n_points) < noise, guess, -1))
        step = 0.125 / 2 ** (n_classes - 1).bit_length()  # a power of two: exact in float32, and all steps sum to < 1/8
        self.register_buffer("tie_break", step * torch.arange(n_classes), persistent=False)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Logits[B, C] at points[B] or points[B, 1], of any numeric type: the counts, less a tie-break below 1/8."""
        rows = points.reshape(len(points)).long()
        guess = self.guess[rows]
        guessed = _GUESS_LOGIT * torch.nn.functional.one_hot(guess.clamp_min(0), self.counts.shape[1])
        return torch.where(guess[:, None] >= 0, guessed, self._seen(rows))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        """Minus the sum of the logits of the labels, whose gradient counts."""
        points, labels = batch
        logits = self._seen(points.reshape(len(points)).long())
        return -logits.gather(1, labels[:, None]).sum()

    def configure_optimizers(self) -> Optimizer:
        """Plain gradient descent with steps of 1."""
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def _seen(self, rows: torch.Tensor) -> torch.Tensor:
        return self.counts[rows] - self.tie_break


@dataclass(frozen=True, eq=False)
class LookupProblem:
    """Examples at discrete points, for a learner that answers the most frequent label it saw at a point.

    With that learner (``LookupTable``) the probability that a model is right on an example, given that it trained on
    the example or did not, is a finite sum: ``exact_arms`` adds it up, so that estimates can be held against it.

    Args:
        points: int[n], the point of each training example, in [0, P).
        labels: int[n], the label of each training example, in [0, n_classes).
        n_classes: Number of classes ``C``, at least 2.
        point_labels: int[P], the true label of each point, for the test examples (one a point). None: the most frequent
            training label of each point up to the largest in ``points``, the smallest among equals, 0 without any.
        noise: Probability that a model answers a uniformly drawn class at a point, whatever it saw. It moves both arms
            strictly between 0 and 1. Examples at the same point share the draw within a model; models are independent.

    Attributes:
        points: int64[n].
        labels: int64[n].
        point_labels: int64[P], never None.

    Raises:
        ArgumentError: Shapes differ, or a point, label or probability is out of range.

    Example:
        >>> problem = LookupProblem([0, 0, 0, 1], [1, 1, 0, 1], n_classes=2)
        >>> problem.exact_memorization(subset_fraction=0.5).round(3).tolist()  # flipped and lone examples are memorized
        [0.333, 0.333, 1.0, 1.0]
    """

    points: IntArray
    labels: IntArray
    n_classes: int
    point_labels: IntArray | None = field(default=None, kw_only=True)
    noise: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        check_n_classes(self.n_classes)
        if not 0 <= self.noise <= 1:
            raise argument_error("noise", self.noise, "a probability in [0, 1] is needed")
        points = int_vector(self.points, "points", limit=_POINT_LIMIT)
        labels = int_vector(self.labels, "labels", limit=self.n_classes, length=len(points))
        if len(points) < 2:
            raise argument_error("points", points, "at least 2 training examples are needed")
        if self.point_labels is None:
            truth = _count_table(points, labels, int(points.max()) + 1, self.n_classes).argmax(axis=1)
        else:
            truth = int_vector(self.point_labels, "point_labels", limit=self.n_classes)
        if points.max() >= len(truth):
            raise argument_error(
                "point_labels", truth, f"labels of all points are needed, which go up to {points.max()}"
            )
        for name, value in (("points", points), ("labels", labels), ("point_labels", truth)):
            object.__setattr__(self, name, value)

    @classmethod
    def random(
        cls,
        *,
        n_points: int,
        n_examples: int,
        n_classes: int,
        seed: int,
        exponent: float = 1.0,
        label_noise: float = 0.1,
        noise: float = 0.0,
    ) -> LookupProblem:
        """A long-tailed problem: points by Zipf's law, true labels uniform, training labels redrawn now and then.

        Args:
            n_points: Number of points.
            n_examples: Number of training examples.
            n_classes: Number of classes.
            seed: Seed of the draw.
            exponent: Point k (from 1) has frequency in proportion to k ** −exponent; 0 is uniform.
            label_noise: Probability that the label of a training example is drawn anew, uniformly.
            noise: As in ``LookupProblem``.

        Returns:
            The problem; the same arguments give the same one under the same numpy version.

        Raises:
            ArgumentError: A number is out of range.

        Example:
            >>> LookupProblem.random(n_points=5, n_examples=20, n_classes=3, seed=0).point_labels.shape
            (5,)
        """
        weights = zipf_weights(n_points, exponent)
        if n_examples < 2 or n_classes < 2 or not 0 <= label_noise <= 1:
            raise ArgumentError(
                f"n_examples={n_examples}, n_classes={n_classes}, label_noise={label_noise}: at least 2, at least 2 "
                "and a probability are needed"
            )
        rng = np.random.default_rng(seed)
        truth = rng.integers(n_classes, size=n_points)
        points = rng.choice(n_points, size=n_examples, p=weights)
        anew = rng.random(n_examples) < label_noise
        labels = np.where(anew, rng.integers(n_classes, size=n_examples), truth[points])
        return cls(points, labels, n_classes, point_labels=truth, noise=noise)

    @property
    def n_examples(self) -> int:
        """Number of training examples ``n``."""
        return len(self.points)

    @property
    def n_points(self) -> int:
        """Number of points ``P``."""
        assert self.point_labels is not None  # noqa: S101 - __post_init__ saw to it
        return len(self.point_labels)

    def module(self) -> LookupTable:
        """A fresh learner; pass ``problem.module`` itself where a model factory is asked for."""
        return LookupTable(self.n_points, int(self.n_classes), float(self.noise))

    def datamodule(self, *, batch_size: int = 32) -> ToyDataModule:
        """A fresh data module: inputs float32[n, 1], labels int64[n], and one test example a point.

        Args:
            batch_size: Examples a batch; it does not change what is learned.
        """
        return ToyDataModule(
            _dataset(self.points, self.labels),
            _dataset(np.arange(self.n_points), self.point_labels),  # type: ignore[arg-type]
            batch_size=batch_size,
        )

    def exact_arms(
        self, *, subset_fraction: float, design: ExactDesign = "fixed_size"
    ) -> tuple[FloatArray, FloatArray]:
        """The probability that a model is right on each training example, given that it is in or out of the subset.

        A label y wins at a point when smaller labels were seen fewer times and larger ones no more often. The sum runs
        over how often y was seen among the OTHER examples of the point, whose counts are multivariate hypergeometric
        (``"fixed_size"``) or independent binomials (``"bernoulli"``). Rounding errors stay below 1e-12.

        Args:
            subset_fraction: As in ``SubsetPlan``.
            design: As in ``SubsetPlan``; two designs can be enumerated.

        Returns:
            ``(in_accuracy, out_accuracy)``, float64[n] each.

        Raises:
            ArgumentError: The plan does not exist, or its design cannot be enumerated.

        Example:
            >>> problem = LookupProblem([0, 0], [1, 1], n_classes=2)
            >>> [arm.tolist() for arm in problem.exact_arms(subset_fraction=0.5)]  # one of the two is always seen
            [[1.0, 1.0], [1.0, 1.0]]
            >>> [arm.tolist() for arm in problem.exact_arms(subset_fraction=0.5, design="bernoulli")]
            [[1.0, 1.0], [0.5, 0.5]]
        """
        law = SubsetLaw(self.n_examples, subset_fraction=subset_fraction, design=design)
        table = _count_table(self.points, self.labels, self.n_points, int(self.n_classes))
        arms = np.empty((2, self.n_examples))
        for point, label in np.unique(np.stack([self.points, self.labels], axis=1), axis=0):
            others = table[point].copy()
            others[label] -= 1
            rows = (self.points == point) & (self.labels == label)
            arms[0, rows] = _win_probability(others, int(label), 1, law)
            arms[1, rows] = _win_probability(others, int(label), 0, law)
        arms = (1 - self.noise) * arms + self.noise / self.n_classes
        return arms[0], arms[1]

    def exact_memorization(self, *, subset_fraction: float, design: ExactDesign = "fixed_size") -> FloatArray:
        """The memorization that infinitely many models would show: the in arm less the out arm, float64[n].

        Source: mem(A, S, i) of Feldman and Zhang (2020), section 2, with the subset drawn by the plan.

        Args:
            subset_fraction: As in ``SubsetPlan``.
            design: As in ``SubsetPlan``; two designs can be enumerated.

        Raises:
            ArgumentError: The plan does not exist, or its design cannot be enumerated.

        Example:
            >>> LookupProblem([0, 1], [1, 1], n_classes=2).exact_memorization(subset_fraction=0.5).tolist()
            [1.0, 1.0]
        """
        in_accuracy, out_accuracy = self.exact_arms(subset_fraction=subset_fraction, design=design)
        return in_accuracy - out_accuracy


def _win_probability(others: IntArray, label: int, itself: int, law: SubsetLaw) -> float:
    """The probability that ``label`` wins at a point with ``others`` (int[C], who else is there)."""
    rate = law.rate(itself)
    pmfs = [stats.binom.pmf(np.arange(size + 1), size, rate) for size in others]
    weights = law.weights(int(others.sum()), itself)
    total = 0.0
    for seen in range(int(others[label]) + 1):
        votes = seen + itself
        drawn = np.ones(1)  # drawn[t]: probability that t others with another label are in, none of them in the way
        for other, pmf in enumerate(pmfs):
            allowed = votes if other < label else votes + 1  # how many counts of the other label let this one win
            if other != label:
                drawn = np.convolve(drawn, pmf[:allowed]) if allowed else np.zeros(1)
        total += float(pmfs[label][seen] * (drawn @ weights[seen : seen + len(drawn)]))
    return min(total, 1.0)


def _count_table(points: IntArray, labels: IntArray, n_points: int, n_classes: int) -> IntArray:
    return np.bincount(points * n_classes + labels, minlength=n_points * n_classes).reshape(n_points, n_classes)


def _dataset(points: IntArray, labels: IntArray) -> TensorDataset:
    inputs = torch.as_tensor(points, dtype=torch.float32)[:, None]
    return TensorDataset(inputs, torch.as_tensor(labels, dtype=torch.long))

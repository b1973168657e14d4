"""A long tail of Gaussian subpopulations, and the nearest neighbour, whose every probability can be enumerated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch.utils.data import TensorDataset

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.checks import FloatArray, IntArray, argument_error, as_array
from lightning_memaudit.testing.checks import check_n_classes, int_vector
from lightning_memaudit.testing.datamodule import ToyDataModule
from lightning_memaudit.testing.law import ExactDesign, SubsetLaw, zipf_weights

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch.optim import Optimizer

__all__ = ["LongTailedGaussians", "NearestNeighbor"]


class NearestNeighbor(LightningModule):
    """Answers the label of the nearest training example: it stores what it sees in the first epoch.

    There is nothing to optimise. The scale of the logits is a parameter only because Trainers count optimiser steps;
    its gradient is zero. The memory grows during training and is part of the state dict. One process only.

    Args:
        n_features: Length ``d`` of an input.
        n_classes: Number of classes ``C``, at least 2.

    Example:
        >>> model = NearestNeighbor(n_features=1, n_classes=3)
        >>> _ = model.training_step((torch.tensor([[0.0], [4.0]]), torch.tensor([2, 1])), 0)
        >>> model(torch.tensor([[1.0], [9.0]])).argmax(1)
        tensor([2, 1])
    """

    inputs: torch.Tensor
    targets: torch.Tensor

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.n_classes = n_classes
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.register_buffer("inputs", torch.zeros(0, n_features))
        self.register_buffer("targets", torch.zeros(0, dtype=torch.long))
        self.register_load_state_dict_pre_hook(_take_size)  # type: ignore[no-untyped-call]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits float64[B, C] of inputs[B, d]: minus the distance to the nearest stored example of each class.

        A class never seen counts as farther than all that was seen; before any training all logits are 0.
        """
        if not len(self.targets):
            return inputs.new_zeros((len(inputs), self.n_classes), dtype=torch.float64)
        distances = _distances(inputs, self.inputs)
        farther = 2 * distances.amax(1, keepdim=True) + 1
        columns = self.targets.expand(len(inputs), -1)
        nearest = farther.repeat(1, self.n_classes).scatter_reduce(1, columns, distances, "amin")
        return -self.scale * nearest

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        """Store the batch in the first epoch; the loss is a constant 0."""
        if self.current_epoch == 0:
            inputs, targets = batch
            self.inputs = torch.cat([self.inputs, inputs.detach()])
            self.targets = torch.cat([self.targets, targets.detach()])
        return 0.0 * self.scale

    def configure_optimizers(self) -> Optimizer:
        """An optimiser of the scale, which never moves."""
        return torch.optim.SGD(self.parameters(), lr=1.0)


def _take_size(module: NearestNeighbor, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Make room for a memory of another size before it is loaded."""
    for name in ("inputs", "targets"):
        if (stored := state_dict.get(prefix + name)) is not None:
            setattr(module, name, torch.empty_like(stored, device=module.scale.device))


@dataclass(frozen=True, eq=False)
class LongTailedGaussians:
    """Examples from Gaussian subpopulations of long-tailed frequencies, for the nearest neighbour.

    Subpopulations are numbered by falling frequency. An example of a frequent one is right without itself, because
    another of its kind was seen; a lone example of a rare one is right only when it was memorized (or by luck). For the
    nearest neighbour both probabilities are finite sums, whatever the distances: see ``exact_arms``.

    Args:
        inputs: float32[n, d], distinct rows.
        labels: int[n], the training labels, in [0, n_classes).
        subpopulations: int[n], the subpopulation of each training example, in [0, S).
        n_classes: Number of classes ``C``, at least 2.
        frequencies: float[S], the probability of each subpopulation, falling; they sum to 1.
        test_inputs: float32[S, d], one test example a subpopulation.
        test_labels: int[S], their labels.

    Raises:
        ArgumentError: Shapes do not agree, a number is out of range, or two inputs are equal.

    Example:
        >>> problem = LongTailedGaussians.random(n_subpopulations=20, n_examples=40, n_classes=4, seed=0)
        >>> memorization = problem.exact_memorization(subset_fraction=0.7)
        >>> [round(float(memorization[problem.groups == group].mean()), 2) for group in range(3)]
        [0.0, 0.15, 0.61]
    """

    group_names: ClassVar[tuple[str, str, str]] = ("head", "torso", "tail")

    inputs: npt.NDArray[np.float32]
    labels: IntArray
    subpopulations: IntArray
    n_classes: int
    frequencies: FloatArray = field(kw_only=True)
    test_inputs: npt.NDArray[np.float32] = field(kw_only=True)
    test_labels: IntArray = field(kw_only=True)

    def __post_init__(self) -> None:
        check_n_classes(self.n_classes)
        inputs = as_array(self.inputs, name="inputs", ndim=2, dtype=np.float32).copy()
        test_inputs = as_array(self.test_inputs, name="test_inputs", ndim=2, dtype=np.float32).copy()
        frequencies = as_array(self.frequencies, name="frequencies", ndim=1).copy()
        n, size = len(inputs), len(frequencies)
        if n < 2 or len(np.unique(inputs, axis=0)) < n:
            raise argument_error("inputs", inputs, "at least 2 rows, and no two equal ones, are needed")
        if test_inputs.shape != (size, inputs.shape[1]):
            raise argument_error("test_inputs", test_inputs, f"shape [{size}, {inputs.shape[1]}] is needed")
        if not size or (np.diff(frequencies) > 0).any() or frequencies[-1] < 0 or abs(frequencies.sum() - 1) > 1e-6:
            raise argument_error("frequencies", frequencies, "numbers of at least 0 that fall and sum to 1 are needed")
        columns = {
            "inputs": inputs,
            "test_inputs": test_inputs,
            "frequencies": frequencies,
            "labels": int_vector(self.labels, "labels", limit=self.n_classes, length=n),
            "subpopulations": int_vector(self.subpopulations, "subpopulations", limit=size, length=n),
            "test_labels": int_vector(self.test_labels, "test_labels", limit=self.n_classes, length=size),
        }
        for name, value in columns.items():
            object.__setattr__(self, name, value)

    @classmethod
    def random(
        cls,
        *,
        n_subpopulations: int,
        n_examples: int,
        n_classes: int,
        seed: int,
        n_features: int = 8,
        separation: float = 20.0,
        exponent: float = 1.0,
        label_noise: float = 0.0,
    ) -> LongTailedGaussians:
        """Draw a problem: Zipf frequencies, Gaussian centres, one uniformly drawn label a subpopulation.

        Args:
            n_subpopulations: Number of subpopulations ``S``.
            n_examples: Number of training examples.
            n_classes: Number of classes.
            seed: Seed of the draw.
            n_features: Length of an input.
            separation: Standard deviation of the centres in units of that within a subpopulation.
            exponent: Subpopulation k (from 1) has frequency in proportion to k ** −exponent; 0 is uniform.
            label_noise: Probability that the label of a training example is drawn anew, uniformly.

        Returns:
            The problem; the same arguments give the same one under the same numpy version.

        Raises:
            ArgumentError: A number is out of range.

        Example:
            >>> LongTailedGaussians.random(n_subpopulations=5, n_examples=9, n_classes=2, seed=0).inputs.shape
            (9, 8)
        """
        frequencies = zipf_weights(n_subpopulations, exponent)
        for name, value, least in (
            ("n_examples", n_examples, 2),
            ("n_classes", n_classes, 2),
            ("n_features", n_features, 1),
        ):
            if value < least:
                raise argument_error(name, value, f"at least {least} is needed")
        if not 0 <= label_noise <= 1 or not 0 <= separation < np.inf:
            raise ArgumentError(
                f"label_noise={label_noise}, separation={separation}: a probability and a number of at least 0 are "
                "needed"
            )
        rng = np.random.default_rng(seed)
        centres = separation * rng.standard_normal((n_subpopulations, n_features))
        truth = rng.integers(n_classes, size=n_subpopulations)
        subpopulations = rng.choice(n_subpopulations, size=n_examples, p=frequencies)
        anew = rng.random(n_examples) < label_noise
        labels = np.where(anew, rng.integers(n_classes, size=n_examples), truth[subpopulations])
        inputs = centres[subpopulations] + rng.standard_normal((n_examples, n_features))
        test_inputs = centres + rng.standard_normal(centres.shape)
        return cls(
            inputs.astype(np.float32),
            labels,
            subpopulations,
            n_classes,
            frequencies=frequencies,
            test_inputs=test_inputs.astype(np.float32),
            test_labels=truth,
        )

    @property
    def n_examples(self) -> int:
        """Number of training examples ``n``."""
        return len(self.inputs)

    @property
    def groups(self) -> IntArray:
        """int[n]: 0 head, 1 torso, 2 tail, by the third of the probability mass in which a subpopulation begins."""
        more_frequent = np.cumsum(self.frequencies) - self.frequencies
        return np.minimum(3 * more_frequent + 1e-9, 2).astype(np.int64)[self.subpopulations]

    def module(self) -> NearestNeighbor:
        """A fresh learner; pass ``problem.module`` itself where a model factory is asked for."""
        return NearestNeighbor(self.inputs.shape[1], int(self.n_classes))

    def datamodule(self, *, batch_size: int = 32) -> ToyDataModule:
        """A fresh data module: inputs float32[n, d], labels int64[n], and one test example a subpopulation.

        Args:
            batch_size: Examples a batch; it does not change what is learned.
        """
        train = TensorDataset(torch.tensor(self.inputs), torch.tensor(self.labels))
        test = TensorDataset(torch.tensor(self.test_inputs), torch.tensor(self.test_labels))
        return ToyDataModule(train, test, batch_size=batch_size)

    def exact_arms(
        self, *, subset_fraction: float, design: ExactDesign = "fixed_size"
    ) -> tuple[FloatArray, FloatArray]:
        """The probability that a model is right on each training example, given that it is in or out of the subset.

        In, the nearest example is the example itself. Out, order the others by their distance; the one ranked j answers
        when it is in and the j − 1 nearer ones are not. So this holds for the data as they are, not only in the limit
        of far-apart centres. A model that saw nothing (``"bernoulli"``) answers class 0.

        Args:
            subset_fraction: As in ``SubsetPlan``.
            design: As in ``SubsetPlan``; two designs can be enumerated.

        Returns:
            ``(in_accuracy, out_accuracy)``, float64[n] each.

        Raises:
            ArgumentError: The plan does not exist, or its design cannot be enumerated.

        Example:
            >>> problem = LongTailedGaussians(
            ...     [[0.0], [1.0], [9.0]],
            ...     [1, 1, 0],
            ...     [0, 0, 1],
            ...     2,
            ...     frequencies=[0.7, 0.3],
            ...     test_inputs=[[0.0], [9.0]],
            ...     test_labels=[1, 0],
            ... )
            >>> [arm.tolist() for arm in problem.exact_arms(subset_fraction=0.34)]  # one example of three is in
            [[1.0, 1.0, 1.0], [0.5, 0.5, 0.0]]
        """
        law = SubsetLaw(self.n_examples, subset_fraction=subset_fraction, design=design)
        none_nearer = law.none_in(self.n_examples - 1, itself=0)
        inputs = torch.tensor(self.inputs)
        distances = _distances(inputs, inputs).numpy()
        np.fill_diagonal(distances, -1.0)  # itself first, wherever float32 rounding puts it
        ranked = np.argsort(distances, axis=1, kind="stable")[:, 1:]
        agrees = self.labels[ranked] == self.labels[:, None]
        out_accuracy = agrees @ (none_nearer[:-1] - none_nearer[1:]) + none_nearer[-1] * (self.labels == 0)
        return np.ones(self.n_examples), np.minimum(out_accuracy, 1.0)

    def exact_memorization(self, *, subset_fraction: float, design: ExactDesign = "fixed_size") -> FloatArray:
        """The memorization that infinitely many models would show: the in arm less the out arm, float64[n].

        Source: mem(A, S, i) of Feldman and Zhang (2020), section 2, with the subset drawn by the plan; the problem is a
        mixture of subpopulations as in Feldman (2019), section 1.

        Args:
            subset_fraction: As in ``SubsetPlan``.
            design: As in ``SubsetPlan``; two designs can be enumerated.

        Raises:
            ArgumentError: The plan does not exist, or its design cannot be enumerated.

        Example:
            >>> problem = LongTailedGaussians.random(n_subpopulations=9, n_examples=30, n_classes=3, seed=0)
            >>> problem.exact_memorization(subset_fraction=0.5).shape
            (30,)
        """
        in_accuracy, out_accuracy = self.exact_arms(subset_fraction=subset_fraction, design=design)
        return in_accuracy - out_accuracy


def _distances(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """float64[a, b], each pair by itself, so that training order and batches cannot change which is nearer."""
    return torch.cdist(left.double(), right.double(), compute_mode="donot_use_mm_for_euclid_dist")

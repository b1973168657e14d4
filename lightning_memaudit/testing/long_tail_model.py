"""The model of Feldman (2019), simulated: what learners lose on rare points, beside what the theory says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lightning_memaudit.functional.checks import argument_error, as_number, as_positive_int, as_samples
from lightning_memaudit.functional.long_tail import DirichletPrior, MarginalMode, Prior, marginal, tau

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray, IntArray

__all__ = [
    "CopyingLearner",
    "FitAll",
    "Learner",
    "LimitedMemorization",
    "LongTailModel",
    "RandomizedResponse",
    "Sample",
    "Simulation",
    "SkipRare",
    "simulate",
    "simulate_subpopulations",
]

_MOST_CELLS = 10_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One draw of the model.

    Attributes:
        frequencies: D(x), float64[N].
        labels: The true label of each point, int64[N].
        votes: How often each point was seen with each label, int64[N, m].
    """

    frequencies: FloatArray
    labels: IntArray
    votes: IntArray


@dataclass(frozen=True)
class LongTailModel:
    """N points with frequencies from a prior and uniform labels, and n samples of them (Feldman 2019, section 2).

    Args:
        prior: From ``zipf``, ``uniform``, ``two_level``, ``from_frequencies`` or ``dirichlet``.
        n_samples: n.
        n_classes: m, at least 2.
        mode: How a list gives the frequencies, see ``marginal``.
        label_noise: Probability that the label of a sample is drawn anew, uniformly.

    Raises:
        ArgumentError: A number is out of range, or N m exceeds 10 000 000.

    Example:
        >>> from lightning_memaudit.functional.long_tail import zipf
        >>> sample = LongTailModel(zipf(5), 20, 3).draw(np.random.default_rng(0))
        >>> int(sample.votes.sum()), sample.votes.shape
        (20, (5, 3))
    """

    prior: Prior | DirichletPrior
    n_samples: int
    n_classes: int
    mode: MarginalMode = field(default="list", kw_only=True)
    label_noise: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        as_samples(self.n_samples)
        as_number(self.label_noise, name="label_noise", most=1.0)
        if self.prior.n_points * as_positive_int(self.n_classes, name="n_classes", minimum=2) > _MOST_CELLS:
            raise argument_error("prior", self.prior, f"at most {_MOST_CELLS} points times classes are needed")

    def draw(self, rng: np.random.Generator) -> Sample:
        """Draw frequencies, labels and a sample."""
        frequencies = self._frequencies(rng)
        labels = rng.integers(self.n_classes, size=len(frequencies))
        chances = np.full((len(labels), self.n_classes), self.label_noise / self.n_classes)
        chances[np.arange(len(labels)), labels] += 1 - self.label_noise
        return Sample(frequencies, labels, rng.multinomial(rng.multinomial(self.n_samples, frequencies), chances))

    def tau(self, largest: int) -> FloatArray:
        """τ_0, ..., τ_``largest`` of the prior, float64[largest + 1]."""
        return tau(marginal(self.prior, mode=self.mode), self.n_samples, np.arange(largest + 1))

    def _frequencies(self, rng: np.random.Generator) -> FloatArray:
        prior = self.prior
        if isinstance(prior, DirichletPrior):
            return rng.dirichlet(np.full(prior.n_points, prior.concentration))
        listed = np.repeat(prior.frequencies, prior.multiplicity.astype(np.int64))
        if self.mode == "list":
            return rng.permutation(listed)
        while not (drawn := rng.choice(listed, size=prior.n_points)).any():
            pass
        return np.asarray(drawn / drawn.sum())


class Learner(Protocol):
    """A learner that answers at each point; it may look at the labels seen at that point."""

    def answers(self, votes: IntArray, best: IntArray, rng: np.random.Generator) -> IntArray:
        """Answers int64[N], given the votes int64[N, m] and the optimal answers, which guess where nothing was seen."""


@dataclass(frozen=True, slots=True)
class FitAll:
    """Answers the label seen most often: optimal."""

    def answers(self, votes: IntArray, best: IntArray, rng: np.random.Generator) -> IntArray:  # noqa: ARG002
        """See ``Learner``."""
        return best


@dataclass(frozen=True, slots=True)
class SkipRare:
    """Guesses at points seen at most ``max_count`` times."""

    max_count: int = 1

    def answers(self, votes: IntArray, best: IntArray, rng: np.random.Generator) -> IntArray:
        """See ``Learner``."""
        counts = votes.sum(axis=1)
        skipped = (counts > 0) & (counts <= self.max_count)
        return np.where(skipped, rng.integers(votes.shape[1], size=len(best)), best)


@dataclass(frozen=True, slots=True)
class LimitedMemorization:
    """Gives the best answer at a point seen ℓ times with probability min(1/m + ℓγ, 1): no example adds more than γ."""

    gamma: float

    def answers(self, votes: IntArray, best: IntArray, rng: np.random.Generator) -> IntArray:
        """See ``Learner``."""
        counts, m = votes.sum(axis=1), votes.shape[1]
        given_up = (rng.random(len(best)) > 1 / m + counts * self.gamma) & (counts > 0)
        return np.where(given_up, (best + rng.integers(1, m, size=len(best))) % m, best)


@dataclass(frozen=True, slots=True)
class RandomizedResponse:
    """Takes the majority of labels each of which was first replaced by m-ary randomised response: ε-label-private."""

    epsilon: float

    def answers(self, votes: IntArray, best: IntArray, rng: np.random.Generator) -> IntArray:
        """See ``Learner``."""
        m = votes.shape[1]
        chances = np.full((m, m), 1.0) + (np.exp(self.epsilon) - 1) * np.eye(m)
        reported = rng.multinomial(votes, chances / chances.sum(axis=1, keepdims=True)).sum(axis=1)
        return np.where(votes.any(axis=1), _majority(reported, rng), best)


@dataclass(frozen=True, slots=True)
class CopyingLearner:
    """A learner of subpopulations.

    It is wrong on each training example of a subpopulation with at most ``max_count`` of them with probability
    ``misfit``. At a fresh member it copies its answer to a seen one with probability λ, and is right otherwise.

    Attributes:
        misfit: Probability of a wrong answer at a training example.
        max_count: Largest ℓ that is misfitted.
        coupling: λ.
    """

    misfit: float
    max_count: int = 1
    coupling: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """Excess error measured and predicted, over R draws of frequencies, labels, sample and learner.

    Attributes:
        excess: Error of the learner less that of the optimal one on the same draw, float64[R].
        predicted: Σ_ℓ τ_ℓ errn(ℓ), by the form of the learner's unit, float64[R].
        errn: Misfits by ℓ, float64[R, L + 1], each times the posterior margin of its label where labels are noisy.
    """

    excess: FloatArray
    predicted: FloatArray
    errn: FloatArray

    @property
    def z(self) -> float:
        """Mean of excess less predicted, in standard errors; 0 when they agree in every draw."""
        gap = self.excess - self.predicted
        spread = float(gap.std(ddof=1)) / len(gap) ** 0.5
        return float(gap.mean()) / spread if spread else 0.0 if not gap.any() else float("inf")


def simulate(model: LongTailModel, learner: Learner, *, repeats: int, seed: int = 0) -> Simulation:
    """Measure the excess error of a learner of points, beside Σ_ℓ τ_ℓ errn(ℓ).

    The two agree in expectation for learners that miss a point by its own count, as all learners here. Others agree
    approximately; see ``functional.long_tail``.

    Args:
        model: The prior, n, m and the noise.
        learner: What to measure.
        repeats: R, at least 2.
        seed: Seed of all draws.

    Returns:
        Excess and prediction of each draw.

    Raises:
        ArgumentError: ``repeats`` is below 2.

    Example:
        >>> from lightning_memaudit.functional.long_tail import zipf
        >>> found = simulate(LongTailModel(zipf(50), 50, 10), SkipRare(), repeats=500)
        >>> abs(found.z) < 4
        True
    """
    rng = np.random.default_rng(seed)
    excess, misfits = [], []
    for _ in range(as_positive_int(repeats, name="repeats", minimum=2)):
        sample = model.draw(rng)
        best = _majority(sample.votes, rng)
        answers = learner.answers(sample.votes, best, rng)
        gain = (answers != sample.labels).astype(np.float64) - (best != sample.labels)
        excess.append(float(sample.frequencies @ gain))
        margins = _margins(sample.votes, best, answers, model.label_noise)
        misfits.append(np.bincount(sample.votes.sum(axis=1), weights=margins, minlength=model.n_samples + 1))
    errn = _trim(np.array(misfits))
    return Simulation(np.array(excess), _predict(model, errn, np.ones(errn.shape[1])), errn)


def simulate_subpopulations(
    model: LongTailModel, learner: CopyingLearner, *, repeats: int, seed: int = 0
) -> Simulation:
    """Measure the excess error of a learner of subpopulations, beside Σ_ℓ λ τ_ℓ errn(ℓ) / ℓ.

    Points are subpopulations now, and ``errn`` counts missed training examples. Labels are free of noise.

    Args:
        model: The prior and n; its classes and noise play no part.
        learner: What to measure.
        repeats: R, at least 2.
        seed: Seed of all draws.

    Returns:
        Excess and prediction of each draw.

    Raises:
        ArgumentError: ``repeats`` is below 2.

    Example:
        >>> from lightning_memaudit.functional.long_tail import zipf
        >>> learner = CopyingLearner(misfit=0.7, max_count=3, coupling=0.5)
        >>> abs(simulate_subpopulations(LongTailModel(zipf(50), 50, 10), learner, repeats=500).z) < 4
        True
    """
    rng = np.random.default_rng(seed)
    excess, misfits = [], []
    for _ in range(as_positive_int(repeats, name="repeats", minimum=2)):
        sample = model.draw(rng)
        counts = sample.votes.sum(axis=1)
        wrong = np.where(counts <= learner.max_count, rng.binomial(counts, learner.misfit), 0)
        copied_wrong = rng.random(len(counts)) < learner.coupling * wrong / np.maximum(counts, 1)
        excess.append(float(sample.frequencies @ copied_wrong))
        misfits.append(np.bincount(counts, weights=wrong, minlength=model.n_samples + 1))
    errn = _trim(np.array(misfits))
    scale = learner.coupling / np.maximum(np.arange(errn.shape[1]), 1)
    return Simulation(np.array(excess), _predict(model, errn, scale), errn)


def _majority(votes: IntArray, rng: np.random.Generator) -> IntArray:
    """The label with most votes, ties (and points without votes) at random."""
    return np.asarray((votes + rng.random(votes.shape)).argmax(axis=1))


def _margins(votes: IntArray, best: IntArray, answers: IntArray, label_noise: float) -> FloatArray:
    """Posterior probability of the best answer less that of the given one; 0 or 1 without noise."""
    m, points = votes.shape[1], np.arange(len(best))
    if not label_noise:
        return np.asarray((answers != best) & votes.any(axis=1), dtype=np.float64)
    odds = (m * (1 - label_noise) / label_noise + 1) ** (votes - votes.max(axis=1, keepdims=True))
    posterior = odds / odds.sum(axis=1, keepdims=True)
    return np.asarray(posterior[points, best] - posterior[points, answers])


def _trim(misfits: FloatArray) -> FloatArray:
    """Leave out the counts above the largest with a misfit."""
    there = np.flatnonzero(misfits.any(axis=0))
    return np.asarray(misfits[:, : there.max(initial=0) + 1])


def _predict(model: LongTailModel, errn: FloatArray, scale: FloatArray) -> FloatArray:
    """Σ_ℓ scale_ℓ τ_ℓ errn(ℓ) of each draw, not cut at 1, which would bias the mean."""
    return np.asarray(errn @ (scale * np.where(errn.any(axis=0), model.tau(errn.shape[1] - 1), 0.0)))

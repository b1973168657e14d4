"""Arms of random models on random examples with a known drop, many repetitions at once, and how an interval fares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from lightning_memaudit.functional.uncertainty import TwoWay, two_way

LEVEL = 0.95
TAIL = 0.05


@dataclass(frozen=True)
class Law:
    """A probit law: right where ``sqrt(examples) e_i + sqrt(models) m_k + rest < quantile(accuracy)``.

    ``agreement`` is the correlation of e_i between the arms. Models of paired arms share .8 of m_k and of the rest.
    """

    name: str
    examples: float
    models: float
    agreement: float


NOISE = Law("noise", 0.0, 0.0, 1.0)
MIXED = Law("mixed", 0.3, 0.003, 1.0)
SEEDS = Law("seeds", 0.6, 0.02, 0.95)
HARD = Law("hard", 0.9, 0.005, 0.9)
LAWS = (NOISE, MIXED, SEEDS, HARD)


@dataclass(frozen=True)
class Cell:
    law: Law
    accuracy: float
    drop: float
    n_models: tuple[int, int]
    n: int
    paired: bool = False

    def __str__(self) -> str:
        k0, k1 = self.n_models
        paired = " paired" if self.paired else ""
        return f"{self.law.name} acc={self.accuracy} drop={self.drop} K={k0}/{k1} n={self.n}{paired}"


@dataclass(frozen=True)
class Fared:
    """Share of intervals that cover, of one-sided bounds that miss, and mean widths.

    ``reach`` is the mean width of the intervals lengthened to the truth where they miss it, which is what
    ``tests.helpers.width`` bounds; ``score`` is the share of intervals in the score form.
    """

    coverage: float
    missed_above: float
    missed_below: float
    width: float
    reach: float
    score: float
    repeats: int

    @property
    def slack(self) -> float:
        """Three standard errors of a share of about .05."""
        return 3 * float(np.sqrt(0.05 * 0.95 / self.repeats))


def draw(cell: Cell, repeats: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes [K0, repeats * n] and [K1, repeats * n]: repetition r is group r."""
    f = np.float32
    law, (k0, k1), shape = cell.law, cell.n_models, (repeats, cell.n)

    def normal(*size: int) -> np.ndarray:
        return rng.standard_normal(size, dtype=f)

    def alike(x: np.ndarray, correlation: float) -> np.ndarray:
        return f(correlation) * x + f(np.sqrt(1 - correlation**2)) * normal(*x.shape)

    e0 = normal(*shape)
    e1 = alike(e0, law.agreement)
    m0, r0 = normal(k0, repeats, 1), normal(k0, *shape)
    if cell.paired:
        m1, r1 = alike(m0, 0.8), alike(r0, 0.8)
    else:
        m1, r1 = normal(k1, repeats, 1), normal(k1, *shape)
    a, b, c = (f(np.sqrt(x)) for x in (law.examples, law.models, 1 - law.examples - law.models))
    cuts = (f(stats.norm.ppf(p)) for p in (cell.accuracy, cell.accuracy - cell.drop))
    arms = [a * e + b * m + c * r < cut for e, m, r, cut in zip((e0, e1), (m0, m1), (r0, r1), cuts, strict=True)]
    return arms[0].reshape(k0, -1), arms[1].reshape(k1, -1)


def fare(cell: Cell, repeats: int, *, seed: int = 0, form: str = "auto", outcomes: float = 4e6) -> Fared:
    """Simulate one cell in chunks of about ``outcomes`` outcomes."""
    rng = np.random.default_rng([seed, *cell.n_models, cell.n])
    chunk = max(1, int(outcomes / (sum(cell.n_models) * cell.n)))
    parts = []
    for start in range(0, repeats, chunk):
        found = estimate(cell, min(chunk, repeats - start), rng, form)
        parts.append([*found.interval(LEVEL), *found.interval(1 - 2 * TAIL), found.score])
    low, high, floor, ceiling, score = (np.concatenate(x) for x in zip(*parts, strict=True))
    truth, tiny = cell.drop, 1e-9
    return Fared(
        coverage=float(((low <= truth + tiny) & (high >= truth - tiny)).mean()),
        missed_above=float((ceiling < truth - tiny).mean()),
        missed_below=float((floor > truth + tiny).mean()),
        width=float((high - low).mean()),
        reach=float((np.maximum(high, truth) - np.minimum(low, truth)).mean()),
        score=float(score.mean()),
        repeats=repeats,
    )


def estimate(cell: Cell, repeats: int, rng: np.random.Generator, form: str = "auto") -> TwoWay:
    base, treated = draw(cell, repeats, rng)
    codes = np.repeat(np.arange(repeats), cell.n)
    return two_way([base, treated], (1.0, -1.0), codes, n_groups=repeats, paired=cell.paired, form=form)

"""Toy problems whose memorization is known exactly, to hold an audit against.

Modules:
    gaussians: long-tailed Gaussian subpopulations and the nearest neighbour.
    long_tail_model: the model of Feldman (2019), simulated.
    lookup: discrete points and a table of label counts.
    unfit: a learner that does not fit.
"""

from lightning_memaudit.testing.gaussians import LongTailedGaussians, NearestNeighbor
from lightning_memaudit.testing.lookup import LookupProblem, LookupTable
from lightning_memaudit.testing.unfit import ConstantLearner

__all__ = ["ConstantLearner", "LongTailedGaussians", "LookupProblem", "LookupTable", "NearestNeighbor"]

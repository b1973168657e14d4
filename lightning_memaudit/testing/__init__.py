"""Toy problems whose memorization is known exactly, to hold an audit against."""

from lightning_memaudit.testing.lookup import LookupProblem, LookupTable

__all__ = ["LookupProblem", "LookupTable"]

"""Every error that a user can cause, as one tree.

    MemauditError                  exit code
    ├── ArgumentError (ValueError)      2     an argument is of the wrong type, shape or range
    ├── ConfigurationError              2     a configuration file, or a model or Trainer that cannot be audited as it
    stands
    ├── UnsupportedDataError            2     data whose examples cannot be numbered, subset or scored
    ├── TrainingError                   2     the user's own code failed while training or scoring a model
    └── StoreError                      4     the record cannot be read or written
        ├── MissingDataError            4     something that was asked for is not in the store
        ├── MismatchError               4     the store belongs to another plan, data set, model or optimisation
        └── CorruptShardError           4     a shard is truncated, altered, or holds a pickle

The command line ends with ``exit_code`` and prints the message alone.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ArgumentError",
    "ConfigurationError",
    "CorruptShardError",
    "MemauditError",
    "MismatchError",
    "MissingDataError",
    "StoreError",
    "TrainingError",
    "UnsupportedDataError",
]


class MemauditError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code: ClassVar[int] = 2


class ArgumentError(MemauditError, ValueError):
    """An argument is of the wrong type, shape or range; the message names it and its value."""


class ConfigurationError(MemauditError):
    """A configuration, model or Trainer cannot be audited as it stands."""


class UnsupportedDataError(MemauditError):
    """The examples of a data set cannot be numbered, subset or scored."""


class TrainingError(MemauditError):
    """The user's code failed while one model was trained or scored."""


class StoreError(MemauditError):
    """The record cannot be read or written."""

    exit_code: ClassVar[int] = 4


class MissingDataError(StoreError):
    """Something that was asked for is not in the store."""


class MismatchError(StoreError):
    """The store belongs to another plan, data set, model or optimisation."""


class CorruptShardError(StoreError):
    """A shard is truncated, altered, or holds a pickle."""

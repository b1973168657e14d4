"""What was done to the models of an arm."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from lightning_memaudit.exceptions import CorruptShardError, MismatchError
from lightning_memaudit.functional.checks import argument_error

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BASELINE", "FULL", "REBUILT", "Arm", "check_arm_name"]

BASELINE = "baseline"
REBUILT = "rebuilt"  # baseline models, trained again from their seeds because their weights were not kept
FULL = "full/"  # prefix of arms whose models train on all data
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")


@dataclass(frozen=True, slots=True)
class Arm:
    """The file ``outcomes/<name>/arm.json``.

    Attributes:
        name: The arm's name, with ``full/`` in front where its models train on all data.
        treatment: Class and arguments of the treatment.
        trains: Whether its models were trained anew, on the subset and from the seed of the baseline model of the same
            number, or trained on from there (a shard says what it was made from); if not, they were made from trained
            baseline models.
        regime: Examples, batch size, steps per epoch and epochs of the models as the treatment was told them.
        privacy: ε, δ, noise multiplier, sample rate and steps of one model; None where none is promised.
        lr_search: How the learning rate was searched; None where it was given. It is no part of what the arm is.
    """

    name: str
    treatment: dict[str, Any]
    trains: bool
    regime: dict[str, Any] = field(default_factory=dict)
    privacy: dict[str, Any] | None = None
    lr_search: dict[str, Any] | None = None

    @property
    def data(self) -> Literal["subset", "full"]:
        """Whether its models saw a subset of the training data or all of them."""
        return "full" if self.name.startswith(FULL) else "subset"

    def to_json(self) -> bytes:
        """The content of the file."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes, *, path: str) -> Arm:
        """Read the file.

        Raises:
            CorruptShardError: It is not the record of an arm.
        """
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise CorruptShardError(f"{path} cannot be read ({error}); remove it and run the audit again") from error

    def check(self, other: Arm, *, url: str) -> None:
        """Refuse ``other``, which is about to add models to this arm, unless it is the same treatment.

        Raises:
            MismatchError: It is another one; the message names what differs.
        """
        ours, theirs = (_flat(asdict(replace(arm, lr_search=None))) for arm in (self, other))
        changes = [
            f"{key}: {ours.get(key)!r} there, {theirs.get(key)!r} here"
            for key in sorted({*ours, *theirs}, key=lambda key: (not key.startswith("treatment."), key))
            if not _are_same(ours.get(key), theirs.get(key))
        ]
        if changes:
            raise MismatchError(
                f"store={url!r} has an arm {self.name!r} of another treatment ({'; '.join(changes[:4])}). Nothing was "
                "mixed. Give the treatment another name=, or use a new store (--store NEW)"
            )


def check_arm_name(name: str) -> None:
    """Refuse names that cannot be a folder, or that mean something else.

    Raises:
        ArgumentError: Characters other than letters, digits and ``. _ + -``, or a reserved name.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise argument_error(
            "treatments: name", name, "letters, digits and . _ + - are possible, 80 at most, a letter or digit first"
        )
    if name in (BASELINE, REBUILT, FULL.rstrip("/")):
        raise argument_error("treatments: name", name, "another name is needed; this one is taken")


def _are_same(ours: Any, theirs: Any) -> bool:
    """Equal, or floats that differ as those of two machines do."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-6)
    return bool(ours == theirs)


def _flat(state: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in state.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return flat

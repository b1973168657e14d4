"""Whether a library still has a private name, and what is said where it does not."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lightning_memaudit.exceptions import ConfigurationError

__all__ = ["absent", "has", "require"]


def has(owner: Any, name: str) -> bool:
    """Whether a module, class or instance has an attribute; every check in ``compat`` is this one."""
    return hasattr(owner, name)


def absent(library: str, owner: Any, *names: str) -> str | None:
    """The first name that a library does not have, with its version; None where all are there.

    Args:
        library: The name that it is imported by.
        owner: The module, class or instance that should have them.
        names: Attributes.

    Example:
        >>> import torch
        >>> absent("torch", torch, "add") is None
        True
        >>> absent("torch", torch, "_nothing").split(", ")[1]
        'which has no _nothing in torch'
    """
    holder = getattr(owner, "__name__", type(owner).__name__)
    missing = next((name for name in names if not has(owner, name)), None)
    return None if missing is None else f"{library} {_version(library)}, which has no {missing} in {holder}"


def require(library: str, owner: Any, *names: str, purpose: str) -> None:
    """Refuse what cannot be done without a name.

    Args:
        library: The name that it is imported by.
        owner: The module, class or instance that should have it.
        names: Attributes.
        purpose: What they are needed for, as the subject of a sentence.

    Raises:
        ConfigurationError: One is missing; library, version and name are said.
    """
    if reason := absent(library, owner, *names):
        raise ConfigurationError(
            f"{purpose} does not go with {reason}; install a version of {library} that has it, such as the one in "
            "constraints.txt"
        )


def _version(library: str) -> str:
    return str(getattr(import_module(library), "__version__", "of unknown version"))

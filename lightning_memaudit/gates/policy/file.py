"""Reading of policies, from TOML or a mapping."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, get_args

from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.gates.policy.policy import Looks, OnInconclusive, Policy, Rule, Waiver
from lightning_memaudit.gates.policy.values import (
    as_choice,
    as_count,
    as_date,
    as_flag,
    as_list,
    as_names,
    as_number,
    as_table,
    as_text,
    check_keys,
)
from lightning_memaudit.gates.rules import KINDS

__all__ = ["SCHEMA", "find_policy", "has_policy", "policy_of"]

SCHEMA = 1
_FILE, _PROJECT, _TABLE = "memaudit.toml", "pyproject.toml", "memaudit"


def policy_of(given: Any) -> Policy:
    """Read a policy.

    Args:
        given: A ``Policy``, a mapping, or the path of a TOML file; a ``pyproject.toml`` holds it in
            ``[tool.memaudit]``.

    Raises:
        ConfigurationError: Anything wrong; the message names the file, the key, the value and what to do.

    Example:
        >>> rules = {"mild": {"kind": "drop", "margin": 0.05}}
        >>> policy_of({"schema": 1, "rules": rules}).rules[0].margin
        0.05
    """
    if isinstance(given, Policy):
        return given
    if isinstance(given, Mapping):
        return _policy(given, "policy")
    if not isinstance(given, str | os.PathLike):
        raise ConfigurationError(f"policy={given!r:.80}: a path or a mapping is needed")
    path = Path(given)
    text, content = _content(path)
    if path.name == _PROJECT:
        if not has_policy(path):
            raise ConfigurationError(f"policy={str(path)!r}: there is no table [tool.{_TABLE}]; add one")
        content = content["tool"][_TABLE]
    read = _policy(content, str(path))
    return replace(read, path=str(path), lines=_lines(text, [rule.name for rule in read.rules]))


def find_policy(folder: str | os.PathLike[str] = ".") -> str:
    """The policy of a folder: ``memaudit.toml``, else a ``pyproject.toml`` with a table ``[tool.memaudit]``.

    Raises:
        ConfigurationError: There is neither.
    """
    for path in (Path(folder) / _FILE, Path(folder) / _PROJECT):
        if path.is_file() and has_policy(path):
            return str(path)
    raise ConfigurationError(
        f"--policy: there is no {_FILE} in {Path(folder).resolve()} and no [tool.{_TABLE}] in a {_PROJECT}; name a "
        f"file, or start one with memaudit gate --init REPORT > {_FILE}"
    )


def has_policy(path: Path) -> bool:
    """Whether a file is meant to hold a policy: any but a ``pyproject.toml`` without the table.

    Raises:
        ConfigurationError: It cannot be read.
    """
    return path.name != _PROJECT or isinstance(_content(path)[1].get("tool", {}).get(_TABLE), dict)


def _content(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(
            f"policy={str(path)!r}: the file cannot be read ({error.strerror}); memaudit gate --init REPORT prints one "
            "to start from"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"policy={str(path)!r} is not TOML: {error}") from error


_TOP = ("schema", "alpha", "on_inconclusive", "looks", "rules")
_COMMON = (
    "kind", "margin", "treatments", "groups", "exclude", "min_n", "on_inconclusive", "informational", "reason",
    "cross_fitted", "waivers",
)  # fmt: skip


def _policy(content: Mapping[str, Any], where: str) -> Policy:
    check_keys(content, _TOP, where)
    schema = content.get("schema")
    if schema != SCHEMA:
        raise ConfigurationError(
            f"{where}: schema = {schema!r}; this version reads schema = {SCHEMA}, say so at the top"
        )
    alpha = as_number(content.get("alpha", 0.05), f"{where}: alpha")
    if not 0 < alpha < 0.5:
        raise ConfigurationError(f"{where}: alpha = {alpha!r}; a number between 0 and 0.5 is needed, such as 0.05")
    default = as_choice(content.get("on_inconclusive", "warn"), get_args(OnInconclusive), f"{where}: on_inconclusive")
    rules = content.get("rules")
    if not isinstance(rules, Mapping) or not rules:
        raise ConfigurationError(f"{where}: there are no rules; add a table [rules.NAME] with kind and margin")
    return Policy(
        rules=tuple(_rule(name, rule, f"{where}: rules.{name}", default) for name, rule in rules.items()),
        alpha=alpha,
        looks=_looks(content.get("looks"), f"{where}: looks"),
    )


def _looks(given: Any, where: str) -> Looks | None:
    if given is None:
        return None
    table = as_table(given, where)
    check_keys(table, ("planned", "rho"), where)
    if "planned" not in table:
        raise ConfigurationError(f"{where}: planned is missing; say how many looks at the test set are planned")
    rho = as_number(table.get("rho", 1.0), f"{where}.rho")
    if not rho > 0:
        raise ConfigurationError(f"{where}.rho = {rho!r}; a number above 0 is needed")
    return Looks(as_count(table["planned"], f"{where}.planned", least=1), rho)


def _rule(name: str, given: Any, where: str, on_inconclusive: str) -> Rule:
    table = as_table(given, where)
    kind_name = as_choice(table.get("kind"), tuple(KINDS), f"{where}.kind")
    kind = KINDS[kind_name]
    options = {option.name: option for option in fields(kind)}  # type: ignore[arg-type]
    check_keys(table, (*_COMMON, *options), where)
    for idle in kind.ignores:
        if idle in table:
            raise ConfigurationError(f"{where}.{idle}: a rule of kind {kind_name!r} has no use for it; remove it")
    if "margin" not in table:
        raise ConfigurationError(f"{where}: margin is missing; add margin = x, {kind.margin_means}")
    for option in options.values():
        if option.default is MISSING and option.default_factory is MISSING and option.name not in table:
            raise ConfigurationError(f"{where}: {option.name} is missing; a rule of kind {kind_name!r} needs it")
    try:
        made = kind(**{option: _frozen(table[option]) for option in options if option in table})
    except ArgumentError as error:
        raise ConfigurationError(f"{where}.{error}") from error
    return Rule(
        name=name,
        kind=made,
        margin=as_number(table["margin"], f"{where}.margin"),
        treatments=as_names(table, "treatments", kind.default_treatments, where),
        groups=as_names(table, "groups", kind.default_groups, where),
        exclude=as_names(table, "exclude", (), where),
        min_n=as_count(table.get("min_n", 1), f"{where}.min_n", least=1),
        on_inconclusive=as_choice(  # type: ignore[arg-type]
            table.get("on_inconclusive", on_inconclusive), get_args(OnInconclusive), f"{where}.on_inconclusive"
        ),
        informational=as_flag(table.get("informational", False), f"{where}.informational"),
        reason=as_text(table.get("reason", ""), f"{where}.reason"),
        cross_fitted=as_flag(table.get("cross_fitted", False), f"{where}.cross_fitted"),
        waivers=tuple(
            _waiver(waiver, f"{where}.waivers[{i}]")
            for i, waiver in enumerate(as_list(table.get("waivers", []), f"{where}.waivers"))
        ),
    )


def _waiver(given: Any, where: str) -> Waiver:
    table = as_table(given, where)
    check_keys(table, ("reason", "expires", "groups", "treatments"), where)
    for key in ("reason", "expires"):
        if key not in table:
            raise ConfigurationError(f"{where}: {key} is missing; a waiver says why it may stand, and until when")
    reason = as_text(table["reason"], f"{where}.reason")
    if not reason.strip():
        raise ConfigurationError(f"{where}.reason is empty; say why the finding may stand")
    return Waiver(
        reason=reason,
        expires=as_date(table["expires"], f"{where}.expires"),
        groups=as_names(table, "groups", ("*",), where),
        treatments=as_names(table, "treatments", ("*",), where),
    )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _lines(text: str, rules: list[str]) -> dict[str, int]:
    """Line of each rule's header; rules written otherwise (inline) are at line 1."""
    found = dict.fromkeys(rules, 1)
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.lstrip().startswith("[") or line.lstrip().startswith("[["):
            continue
        try:
            header = tomllib.loads(line)
        except tomllib.TOMLDecodeError:
            continue
        header = header.get("tool", {}).get(_TABLE, header)
        for name in header.get("rules", {}) if isinstance(header.get("rules"), dict) else ():
            if found.get(name) == 1:
                found[name] = number
    return found

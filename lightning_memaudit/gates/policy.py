"""Policies: what a build is held to, read from TOML or a mapping."""

from __future__ import annotations

import datetime as dt
import difflib
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.gates.rules import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lightning_memaudit.gates.rules.base import RuleKind

__all__ = ["SCHEMA", "Looks", "OnInconclusive", "Policy", "Rule", "Waiver", "find_policy", "has_policy", "policy_of"]

SCHEMA = 1
OnInconclusive = Literal["pass", "warn", "fail"]
_FILE, _PROJECT, _TABLE = "memaudit.toml", "pyproject.toml", "memaudit"


@dataclass(frozen=True, slots=True)
class Waiver:
    """A finding that somebody answers for until a date.

    Attributes:
        reason: Why it may stand.
        expires: The last day on which it holds.
        groups: Groups that it is about.
        treatments: Arms that it is about.
    """

    reason: str
    expires: dt.date
    groups: tuple[str, ...] = ("*",)
    treatments: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a policy.

    Attributes:
        name: Its name.
        kind: What is judged, with the options of its kind.
        margin: What is allowed; any finite number.
        treatments: Arms, by name or pattern; empty where the kind found none to choose.
        groups: Groups, by ``grouping=name``, pattern, ``overall`` or ``memorization=…``.
        exclude: Groups that are left out.
        min_n: Groups with fewer examples are inconclusive, whatever their figures.
        on_inconclusive: What an undecided row does to the build.
        informational: Whether the rule is shown and changes no exit code.
        reason: Why the rule exists.
        cross_fitted: Whether groups made from memorization scores are from other models than those judged.
        waivers: Findings that somebody answers for.
    """

    name: str
    kind: RuleKind
    margin: float
    treatments: tuple[str, ...]
    groups: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    min_n: int = 1
    on_inconclusive: OnInconclusive = "warn"
    informational: bool = False
    reason: str = ""
    cross_fitted: bool = False
    waivers: tuple[Waiver, ...] = ()


@dataclass(frozen=True, slots=True)
class Looks:
    """How α is shared among repeated looks at one test set.

    Look k of K planned ones spends ``α ((k / K)^ρ − ((k − 1) / K)^ρ)`` (Kim and DeMets 1987, power family), so that all
    looks together err with probability α at most (union bound).

    Attributes:
        planned: K.
        rho: ρ; 1 shares evenly, more leaves more for late looks.
    """

    planned: int
    rho: float = 1.0

    def alpha(self, alpha: float, look: int) -> float:
        """What look number ``look`` (from 1) may spend; 0 beyond the plan.

        Example:
            >>> [round(Looks(4).alpha(0.05, look), 4) for look in (1, 4, 5)]
            [0.0125, 0.0125, 0.0]
        """
        if look > self.planned:
            return 0.0
        shares = [(count / self.planned) ** self.rho for count in (look - 1, look)]
        return float(alpha * (shares[1] - shares[0]))


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules, and what holds for all.

    Attributes:
        rules: The rules, in the order of the file.
        alpha: One-sided error of bounds, and probability that any fail of a gate is wrong.
        looks: How α is shared among looks; None does not.
        path: The file; None for a mapping.
        lines: Line of each rule in the file.
    """

    rules: tuple[Rule, ...]
    alpha: float = 0.05
    looks: Looks | None = None
    path: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict)


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
    _known(content, _TOP, where)
    schema = content.get("schema")
    if schema != SCHEMA:
        raise ConfigurationError(
            f"{where}: schema = {schema!r}; this version reads schema = {SCHEMA}, say so at the top"
        )
    alpha = _number(content.get("alpha", 0.05), f"{where}: alpha")
    if not 0 < alpha < 0.5:
        raise ConfigurationError(f"{where}: alpha = {alpha!r}; a number between 0 and 0.5 is needed, such as 0.05")
    default = _choice(content.get("on_inconclusive", "warn"), get_args(OnInconclusive), f"{where}: on_inconclusive")
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
    table = _table(given, where)
    _known(table, ("planned", "rho"), where)
    if "planned" not in table:
        raise ConfigurationError(f"{where}: planned is missing; say how many looks at the test set are planned")
    rho = _number(table.get("rho", 1.0), f"{where}.rho")
    if not rho > 0:
        raise ConfigurationError(f"{where}.rho = {rho!r}; a number above 0 is needed")
    return Looks(_count(table["planned"], f"{where}.planned", least=1), rho)


def _rule(name: str, given: Any, where: str, on_inconclusive: str) -> Rule:
    table = _table(given, where)
    kind_name = _choice(table.get("kind"), tuple(KINDS), f"{where}.kind")
    kind = KINDS[kind_name]
    options = {option.name: option for option in fields(kind)}  # type: ignore[arg-type]
    _known(table, (*_COMMON, *options), where)
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
        margin=_number(table["margin"], f"{where}.margin"),
        treatments=_names(table, "treatments", kind.default_treatments, where),
        groups=_names(table, "groups", kind.default_groups, where),
        exclude=_names(table, "exclude", (), where),
        min_n=_count(table.get("min_n", 1), f"{where}.min_n", least=1),
        on_inconclusive=_choice(  # type: ignore[arg-type]
            table.get("on_inconclusive", on_inconclusive), get_args(OnInconclusive), f"{where}.on_inconclusive"
        ),
        informational=_flag(table.get("informational", False), f"{where}.informational"),
        reason=_text(table.get("reason", ""), f"{where}.reason"),
        cross_fitted=_flag(table.get("cross_fitted", False), f"{where}.cross_fitted"),
        waivers=tuple(
            _waiver(waiver, f"{where}.waivers[{i}]")
            for i, waiver in enumerate(_list(table.get("waivers", []), f"{where}.waivers"))
        ),
    )


def _waiver(given: Any, where: str) -> Waiver:
    table = _table(given, where)
    _known(table, ("reason", "expires", "groups", "treatments"), where)
    for key in ("reason", "expires"):
        if key not in table:
            raise ConfigurationError(f"{where}: {key} is missing; a waiver says why it may stand, and until when")
    reason = _text(table["reason"], f"{where}.reason")
    if not reason.strip():
        raise ConfigurationError(f"{where}.reason is empty; say why the finding may stand")
    return Waiver(
        reason=reason,
        expires=_date(table["expires"], f"{where}.expires"),
        groups=_names(table, "groups", ("*",), where),
        treatments=_names(table, "treatments", ("*",), where),
    )


def _known(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    names = list(known)
    for key in table:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigurationError(f"{where}: unknown key {key!r}; {meant}possible are {', '.join(names)}")


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where} = {value!r:.80}; a table is needed")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigurationError(f"{where} = {value!r:.80}; a finite number is needed")
    return float(value)


def _count(value: Any, where: str, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{where} = {value!r:.80}; a whole number of at least {least} is needed")
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{where} = {value!r:.80}; true or false is needed")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{where} = {value!r:.80}; a text is needed")
    return value


def _choice(value: Any, known: tuple[str, ...], where: str) -> str:
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigurationError(f"{where} = {value!r:.80}; {meant}possible are {', '.join(known)}")
    return str(value)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ConfigurationError(f"{where} = {value!r:.80}; a list is needed")
    return list(value)


def _names(table: Mapping[str, Any], key: str, default: tuple[str, ...], where: str) -> tuple[str, ...]:
    if key not in table:
        return default
    value = table[key]
    names = [value] if isinstance(value, str) else _list(value, f"{where}.{key}")
    if not all(isinstance(name, str) and name for name in names) or not (names or key == "exclude"):
        raise ConfigurationError(f"{where}.{key} = {value!r:.80}; a list of names or patterns is needed")
    return tuple(names)


def _date(value: Any, where: str) -> dt.date:
    if isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, dt.date):
        return value
    try:
        return dt.date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{where} = {value!r:.80}; a date is needed, such as 2027-06-30") from error


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

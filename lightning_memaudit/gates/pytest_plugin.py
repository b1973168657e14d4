"""pytest plugin: the fixture ``memaudit_gate``, by which a test is one item for each rule of a policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lightning_memaudit.exceptions import MemauditError

if TYPE_CHECKING:
    from lightning_memaudit.gates.verdicts import GateResult, Row

__all__ = ["RuleVerdicts", "memaudit_gate"]

_FIXTURE = "memaudit_gate"
_WHAT = {
    "report": "report.json, folder with one, or store to judge",
    "policy": "TOML file of the policy; by default memaudit.toml or pyproject.toml of the root directory",
    "baseline": "what to compare with: a baseline file, a report or a store",
}
_RESULTS = pytest.StashKey["dict[_Sources, GateResult]"]()


@dataclass(frozen=True, slots=True)
class _Sources:
    report: str
    policy: str
    baseline: str | None


@dataclass(frozen=True, slots=True)
class RuleVerdicts:
    """What one rule of a policy says; the value of the fixture ``memaudit_gate``.

    Attributes:
        name: The rule.
        rows: Its verdicts, one for each treatment and group.
        result: Those of all rules.

    Example:
        ``def test_gate(memaudit_gate): memaudit_gate.check()``
    """

    name: str
    rows: tuple[Row, ...]
    result: GateResult

    def check(self) -> None:
        """Fail the test where the rule stops the build; skip it where it is undecided or only tells."""
        stops = [row for row in self.rows if row.effect in ("error", "fail", "inconclusive")]
        if stops:
            pytest.fail(_said(stops), pytrace=False)
        undecided = [row for row in self.rows if row.effect == "warn" or row.verdict.value == "inconclusive"]
        if undecided:
            pytest.skip(_said(undecided))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and settings, one of each name."""
    group = parser.getgroup("memaudit", "memorization gates")
    for name, what in _WHAT.items():
        group.addoption(f"--memaudit-{name}", default=None, help=what)
        parser.addini(f"memaudit_{name}", what, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Make room for results, and declare the marker."""
    config.stash[_RESULTS] = {}
    config.addinivalue_line("markers", f"memaudit({', '.join(_WHAT)}): what the fixture {_FIXTURE} judges, and by what")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One item for each rule; the report is read when the first of them runs."""
    if _FIXTURE not in metafunc.fixturenames:
        return
    from lightning_memaudit.gates.policy.file import policy_of

    try:
        sources = _sources(metafunc.config, metafunc.definition.get_closest_marker("memaudit"))
        names = [rule.name for rule in policy_of(sources.policy).rules]
    except MemauditError as error:
        raise pytest.UsageError(f"{_FIXTURE}: {error}") from error
    metafunc.parametrize(_FIXTURE, [(sources, name) for name in names], ids=names, indirect=True)


@pytest.fixture
def memaudit_gate(request: pytest.FixtureRequest) -> RuleVerdicts:
    """The verdicts of one rule."""
    sources, name = request.param
    results = request.config.stash[_RESULTS]
    if sources not in results:
        from lightning_memaudit.gates.evaluate import evaluate_gate

        try:
            results[sources] = evaluate_gate(sources.report, sources.policy, baseline=sources.baseline)
        except MemauditError as error:
            pytest.fail(f"{_FIXTURE}: {error}", pytrace=False)
    result = results[sources]
    return RuleVerdicts(name, result.by_rule()[name], result)


def _sources(config: pytest.Config, marker: pytest.Mark | None) -> _Sources:
    """From the command line, else the test's marker, else the settings; paths are from the root directory."""
    from lightning_memaudit.exceptions import ConfigurationError
    from lightning_memaudit.gates.policy.file import find_policy

    marked: dict[str, Any] = dict(marker.kwargs) if marker is not None else {}
    if marker is not None and (marker.args or not set(marked) <= set(_WHAT)):
        unknown = ", ".join([*map(repr, marker.args), *sorted(set(marked) - set(_WHAT))])
        raise ConfigurationError(f"@pytest.mark.memaudit takes {', '.join(f'{x}=' for x in _WHAT)}, and not {unknown}")
    found = {}
    for name in _WHAT:
        given = config.getoption(f"--memaudit-{name}") or marked.get(name) or config.getini(f"memaudit_{name}")
        found[name] = None if not given else _from_root(config, str(given))
    if found["report"] is None:
        raise ConfigurationError("there is nothing to judge; pass --memaudit-report REPORT, or set memaudit_report")
    return _Sources(found["report"], found["policy"] or find_policy(config.rootpath), found["baseline"])


def _from_root(config: pytest.Config, path: str) -> str:
    return path if "://" in path else str(config.rootpath / Path(path))


def _said(rows: list[Row]) -> str:
    return "\n".join(f"{row.verdict.value}: {row.place}: {row.message}" for row in rows)

"""SARIF 2.1.0, anchored at the policy file, for code scanning."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from lightning_memaudit.gates.output.text import headline
from lightning_memaudit.gates.verdicts import Verdict
from lightning_memaudit.outcomes.manifest import library_versions

if TYPE_CHECKING:
    from lightning_memaudit.gates.policy.policy import Rule
    from lightning_memaudit.gates.verdicts import GateResult, Row

__all__ = ["sarif"]

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_KINDS = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.INCONCLUSIVE: "review",
    Verdict.ERROR: "open",
    Verdict.WAIVED: "fail",
}
_LEVELS = {"error": "error", "fail": "error", "inconclusive": "error", "warn": "warning", "none": "note"}
_NO_FILE = "memaudit.toml"


def sarif(result: GateResult) -> str:
    """The result as SARIF: one result for each row that is not passed."""
    rules = {rule.name: rule for rule in result.policy.rules}
    numbers = {name: number for number, name in enumerate(rules)}
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "memaudit gate",
                        "semanticVersion": library_versions()["lightning-memaudit"],
                        "rules": [_descriptor(rule) for rule in rules.values()],
                    }
                },
                "invocations": [{"executionSuccessful": result.exit_code != 4, "exitCode": result.exit_code}],
                "properties": {"headline": headline(result), "counts": result.counts},
                "results": [_result(result, row, numbers) for row in result.rows if row.verdict is not Verdict.PASS],
            }
        ],
    }
    return json.dumps(log, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _descriptor(rule: Rule) -> dict[str, Any]:
    about = inspect.getdoc(type(rule.kind)) or rule.kind.name
    return {
        "id": rule.name,
        "name": rule.kind.name,
        "shortDescription": {"text": about.split("\n")[0]},
        "fullDescription": {"text": about},
        "help": {"text": rule.reason or about},
        "defaultConfiguration": {"level": "warning" if rule.informational else "error"},
    }


def _result(result: GateResult, row: Row, numbers: dict[str, int]) -> dict[str, Any]:
    key = "\0".join((row.rule.name, row.treatment or "", row.group or ""))
    kind = _KINDS[row.verdict]
    found: dict[str, Any] = {
        "ruleId": row.rule.name,
        "ruleIndex": numbers[row.rule.name],
        # Every kind but "fail" has the level "none", by the standard.
        "kind": "fail" if row.effect != "none" else kind,
        "level": _LEVELS[row.effect] if row.effect != "none" or kind == "fail" else "none",
        "message": {"text": f"{row.verdict.value}: {row.place}: {row.message}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(result.policy.path)},
                    "region": {"startLine": result.policy.lines.get(row.rule.name, 1)},
                }
            }
        ],
        "partialFingerprints": {"memauditRow/v1": hashlib.sha256(key.encode("utf-8", "backslashreplace")).hexdigest()},
        "properties": {"verdict": row.verdict.value, "effect": row.effect},
    }
    if row.verdict is Verdict.WAIVED and row.waiver is not None:
        found["suppressions"] = [{"kind": "external", "status": "accepted", "justification": row.waiver.reason}]
    return found


def _uri(path: str | None) -> str:
    from urllib.parse import quote

    return quote(PurePath(path or _NO_FILE).as_posix())

"""JUnit XML: a suite for each rule, a test case for each treatment and group."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from lightning_memaudit.gates.verdicts import Row, Verdict, counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_memaudit.gates.verdicts import GateResult

__all__ = ["junit"]

# What XML 1.0 cannot hold, escaped or not.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME = "memaudit gate"


def junit(result: GateResult) -> str:
    """The result as JUnit XML.

    Fails are failures and errors errors, except for informational rules; what is undecided, and what informational
    rules object to, is skipped with the message. So there are failures or errors exactly where the exit code is 1 or 4;
    exit code 3 is a property of every suite, as all exit codes are.
    """
    suites = ET.Element("testsuites")
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    for number, (name, rows) in enumerate(result.by_rule().items()):
        suites.append(_suite(name, rows, number, now, result))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _suite(name: str, rows: Sequence[Row], number: int, now: str, result: GateResult) -> ET.Element:
    outcomes = [_outcome(row) for row in rows]
    suite = ET.Element(
        "testsuite",
        {
            "name": _clean(name),
            "package": _NAME,
            "id": str(number),
            "timestamp": now,
            "hostname": "localhost",
            "tests": str(len(rows)),
            "failures": str(outcomes.count("failure")),
            "errors": str(outcomes.count("error")),
            "skipped": str(outcomes.count("skipped")),
            "time": "0",
        },
    )
    properties = ET.SubElement(suite, "properties")
    facts = {
        "memaudit.exit_code": result.exit_code,
        "memaudit.source": result.source,
        **{f"memaudit.{verdict}": count for verdict, count in counts(rows).items()},
    }
    for key, fact in facts.items():
        ET.SubElement(properties, "property", name=key, value=_clean(str(fact)))
    for row, outcome in zip(rows, outcomes, strict=True):
        case = ET.SubElement(suite, "testcase", name=_clean(row.place), classname=_clean(f"memaudit.{name}"), time="0")
        if outcome != "passed":
            said = f"{row.verdict.value}: {row.message}"
            kind = {} if outcome == "skipped" else {"type": f"memaudit.{row.verdict.value}"}
            ET.SubElement(case, outcome, {"message": _clean(said), **kind}).text = _clean(said)
    ET.SubElement(suite, "system-out")
    ET.SubElement(suite, "system-err")
    return suite


def _outcome(row: Row) -> str:
    if row.verdict in (Verdict.PASS, Verdict.WAIVED):
        return "passed"
    return {"fail": "failure", "error": "error"}.get(row.effect, "skipped")


def _clean(text: str) -> str:
    """One line without characters that XML cannot hold."""
    return " ".join(_FORBIDDEN.sub("\ufffd", text).split())

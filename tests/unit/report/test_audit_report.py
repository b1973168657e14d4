import json
import re

import pytest

from lightning_memaudit import AuditReport
from lightning_memaudit.exceptions import CorruptShardError, MismatchError, MissingDataError
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.report.markdown import plain_name, render_markdown


@pytest.fixture(scope="module")
def report(lookup_store: OutcomeStore) -> AuditReport:
    return AuditReport.from_store(lookup_store)


def test_saved_files_are_read_back(report: AuditReport, tmp_path) -> None:
    report.save(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figures", "report.json", "report.md"]
    loaded = AuditReport.load(tmp_path / "out/report.json")
    assert loaded.content == report.content
    assert loaded.to_markdown() == (tmp_path / "out/report.md").read_text()
    with pytest.raises(MissingDataError, match=r"AuditReport\.from_store"):
        _ = loaded.memorization


def test_rendering_again_gives_the_same_bytes(report: AuditReport, tmp_path) -> None:
    for name in ("a", "b"):
        report.save(tmp_path / name)
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path


def numbers_in(value) -> set[float]:
    if isinstance(value, dict):
        return set().union(*map(numbers_in, value.values()), *map(numbers_in, value)) if value else set()
    if isinstance(value, list):
        return set().union(*map(numbers_in, value)) if value else set()
    if isinstance(value, str):
        return {float(text) for text in re.findall(r"\d+(?:\.\d+)?", value)}
    return set() if value is None or isinstance(value, bool) else {float(value)}


def test_every_number_in_markdown_is_in_the_json(report: AuditReport) -> None:
    known = numbers_in(report.content)
    rounded = {round(number, digits) for number in known for digits in range(5)}
    rounded |= {round(100 * number, digits) for number in known for digits in range(3)}
    constants = {0.15, 0.25, 80.0, 90.0, 95.0, 2008.0, 2013.0, 2020.0}
    text = report.to_markdown().replace("−", "-")
    for line in text.splitlines():
        for found in re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"`[^`]*`|\d{4}-\d\d-\d\dT\S*", "", line)):
            assert abs(float(found)) in {abs(number) for number in rounded | constants}, (found, line)


def test_hostile_names_are_text(report: AuditReport) -> None:
    content = json.loads(report.to_json())
    hostile = "<script>alert(1)</script>|a\n# b `c` [x](http://y) " + "é" * 10_000
    content["memorization"]["by_group"] = {hostile: content["memorization"]["by_group"]["kind"]}
    content["memorization"]["by_group"][hostile][0]["group"] = hostile
    text = render_markdown(content)
    assert "<script>" not in text
    assert "](http" not in text
    assert max(map(len, text.splitlines())) < 1000
    tables = [line for line in text.splitlines() if "script" in line and line.startswith("|")]
    assert len(tables) == 1
    assert len(re.findall(r"(?<!\\)\|", tables[0])) == 9


def test_names_keep_what_people_write() -> None:
    assert plain_name("Ångström 🙂 שלום") == "Ångström 🙂 שלום"
    assert plain_name("") == ""


def test_other_files_are_refused(tmp_path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(MissingDataError, match="no such file"):
        AuditReport.load(path)
    path.write_text("{")
    with pytest.raises(CorruptShardError, match="not a report"):
        AuditReport.load(path)
    path.write_text("[]")
    with pytest.raises(CorruptShardError, match="not a report"):
        AuditReport.load(path)
    path.write_text('{"schema": 99}')
    with pytest.raises(MismatchError, match="schema 99"):
        AuditReport.load(path)


def test_reports_go_to_any_file_system(report: AuditReport) -> None:
    report.save("memory://report-test/out")
    from lightning_memaudit.outcomes.storage import Storage

    assert json.loads(Storage("memory://report-test/out").read("report.json")) == report.content

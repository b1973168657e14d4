import json
import re
from pathlib import Path

import numpy as np
import pytest

from lightning_memaudit import AuditReport, SubsetPlan
from lightning_memaudit.exceptions import ArgumentError, CorruptShardError, MismatchError, MissingDataError
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.report.document import render_markdown
from lightning_memaudit.sections.text import escaped_name
from tests.helpers.treated import TreatedStore


@pytest.fixture(scope="module")
def plain_report(lookup_store: OutcomeStore) -> AuditReport:
    return AuditReport.from_store(lookup_store)


@pytest.fixture(scope="module")
def treated_report(tmp_path_factory) -> AuditReport:
    """A private arm with its clip-only arm, and a pruned one whose base was rebuilt, on two classes."""
    rng = np.random.default_rng(0)
    labels = {"train": np.arange(90) % 2, "test": np.arange(150) % 2}
    groups = {
        name: {split: np.array(values)[np.arange(len(y)) % len(values)].tolist() for split, y in labels.items()}
        for name, values in {"race": ["a", "b", "c"], "many": [f"g{i}" for i in range(30)], "one": ["x"]}.items()
    }
    known = TreatedStore(tmp_path_factory.mktemp("treated"), labels, groups, n_classes=2)
    mask = known.plan.masks(range(40))
    base = {"train": mask | (rng.random((40, 90)) < 0.8), "test": rng.random((40, 150)) < 0.9}
    known.fill("baseline", base)
    private = {split: value[:8] & (rng.random(value[:8].shape) < 0.8) for split, value in base.items()}
    settings = {"max_grad_norm": 1.0, "lr": None, "max_epochs": None}
    regime = {"n_examples": 63}
    for name, kind, privacy in (
        ("dpsgd-eps3", "DPSGD", {"epsilon": 2.99, "delta": 1e-5, "noise_multiplier": 1.2}),
        ("clip-only", "ClipOnly", None),
    ):
        treatment = {"class": f"lightning_memaudit.treatments.private.{kind}", **settings}
        record = {"treatment": treatment, "trains": True, "regime": regime, "privacy": privacy}
        known.fill(name, private, record=record)
    known.fill("rebuilt", {split: value[:3] ^ (rng.random(value[:3].shape) < 0.02) for split, value in base.items()})
    known.fill("prune-0.9", {split: value[:3] for split, value in private.items()}, made_from="rebuilt")
    known.fill("full/quantize-int8", {"test": base["test"][:2]}, made_from="full/baseline")
    return AuditReport.from_store(known.store)


@pytest.fixture(params=["plain", "treated"], scope="module")
def report(request) -> AuditReport:
    return request.getfixturevalue(f"{request.param}_report")


@pytest.fixture(scope="module")
def saved(report: AuditReport, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "out"
    report.save(folder)
    return folder


def test_saved_files_are_read_back_and_rendered_again_to_the_same_bytes(report: AuditReport, saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["figures", "report.html", "report.json", "report.md"]
    loaded = AuditReport.load(saved / "report.json")
    assert loaded.content == report.content
    assert loaded.to_markdown() == (saved / "report.md").read_text()
    assert loaded.to_html() == (saved / "report.html").read_text()
    assert loaded.figures() == {path.name: path.read_bytes() for path in (saved / "figures").iterdir()}
    assert sorted(path.name for path in (saved / "figures").iterdir()) == sorted(report.content["figures"])
    with pytest.raises(MissingDataError, match=r"AuditReport\.from_store"):
        _ = loaded.memorization


CONSTANTS = {0.0001, 0.15, 0.25, 0.9, 0.95, 80.0, 90.0, 95.0, 2008.0, 2013.0, 2019.0, 2020.0}  # of the sentences


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
    rounded = {round(number, digits) for number in known for digits in range(7)}
    rounded |= {round(100 * number, digits) for number in known for digits in range(3)}
    known = {abs(number) for number in rounded | CONSTANTS}
    text = report.to_markdown().replace("−", "-")
    for line in text.splitlines():
        for found in re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"`[^`]*`|\d{4}-\d\d-\d\dT\S*", "", line)):
            assert abs(float(found)) in known, (found, line)


def test_hostile_names_are_text(plain_report: AuditReport) -> None:
    content = json.loads(plain_report.to_json())
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


def test_treatments_are_told_with_who_pays(treated_report: AuditReport) -> None:
    impact = treated_report.content["impact"]
    text = treated_report.to_markdown()
    figures = [name for name in treated_report.content["figures"] if name.startswith("impact_")]
    assert figures == [
        f"impact_{arm}.{kind}" for arm in ("clip-only", "dpsgd-eps3", "prune-0.9") for kind in ("png", "svg")
    ]
    for arm in ("clip-only", "dpsgd-eps3", "prune-0.9"):
        sentence = impact["arms"][arm]["who_pays"]["sentence"]
        assert sentence in text
        assert sentence in treated_report.summary()
        assert f"](figures/impact_{arm}.png)" in text
    assert "| full/quantize-int8 | all data | – | – | – | – | – | unavailable: none of the 2 models" in text
    assert "3 baseline models were not kept, and they were trained again from their seeds" in text
    assert "Drop split into clipping (arm clip-only)" in text
    assert "the size of a subset and not of all the data" in text
    assert "The extremes of 30 groups are shown; report.json has all." in text
    assert "Calibration: confidence minus accuracy" in text
    assert "There is one value only, so that this is the overall drop." in text


def test_a_loaded_report_still_has_its_impact(treated_report: AuditReport, tmp_path) -> None:
    treated_report.save(tmp_path, formats=["json"])
    loaded = AuditReport.load(tmp_path / "report.json")
    assert loaded.impact.arms == ("clip-only", "dpsgd-eps3", "prune-0.9")
    assert len(loaded.impact.to_frame()["drop"]) == len(treated_report.impact.to_frame()["drop"]) == 3 * (1 + 2 + 34)


def test_without_treatments_impact_says_what_to_pass(plain_report: AuditReport) -> None:
    with pytest.raises(MissingDataError, match=r"impact: .*pass treatments="):
        _ = plain_report.impact
    assert "## What treatments cost, and who pays\n\nUnavailable: " in plain_report.to_markdown()


def test_hostile_groups_are_text_in_sentences_and_tables(treated_report: AuditReport) -> None:
    content = json.loads(treated_report.to_json())
    arm = content["impact"]["arms"]["dpsgd-eps3"]
    hostile = "<script>alert(1)</script>|a\n# b `c` [x](http://y)"
    arm["by_group"]["race"]["rows"][0]["group"] = hostile
    arm["who_pays"]["sentence"] = f"{hostile} pays most"
    text = render_markdown(content)
    assert "<script>" not in text
    assert not re.search(r"(?<!\\)\]\(http", text)
    tables = [line for line in text.splitlines() if "script" in line and line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in tables] == [14]


def test_names_keep_what_people_write() -> None:
    assert escaped_name("Ångström 🙂 שלום") == "Ångström 🙂 שלום"
    assert escaped_name("") == ""


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


def test_reports_go_to_any_file_system(plain_report: AuditReport) -> None:
    report = plain_report
    report.save("memory://report-test/out", formats=["json"])
    from lightning_memaudit.outcomes.storage import Storage

    assert json.loads(Storage("memory://report-test/out").read("report.json")) == report.content


def test_a_report_holds_the_plan(plain_report: AuditReport, lookup_store: OutcomeStore) -> None:
    plan = SubsetPlan.from_dict(plain_report.content["plan"])
    assert plan.digest == lookup_store.plan.digest == plain_report.content["digests"]["plan"]


def test_a_damaged_report_is_said_to_be_one(treated_report: AuditReport, tmp_path) -> None:
    for damage in (lambda c: c["memorization"].pop("mean_score"), lambda c: c.update(memorization=5)):
        content = json.loads(treated_report.to_json())
        damage(content)
        with pytest.raises(CorruptShardError, match=r"is damaged, or another version wrote it .*memaudit report STORE"):
            AuditReport(content).to_html()
    content = json.loads(treated_report.to_json())
    del content["impact"]
    with pytest.raises(MissingDataError, match="impact: the report has no such section"):
        _ = AuditReport(content).impact
    (tmp_path / "nan.json").write_text(
        treated_report.to_json().replace('"mean_score": 0', '"mean_score": NaN, "x": 0', 1)
    )
    assert AuditReport.load(tmp_path / "nan.json").content["memorization"]["mean_score"] is None


def test_nothing_is_no_choice_of_sections(lookup_store: OutcomeStore) -> None:
    with pytest.raises(ArgumentError, match=r"sections=\[\]: name at least one of memorization"):
        AuditReport.from_store(lookup_store, sections=[])

"""What is compared with what, what is refused, and how looks are counted."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import numpy as np
import pytest

from lightning_memaudit import evaluate_gate
from lightning_memaudit.exceptions import CorruptShardError, MismatchError, MissingDataError
from lightning_memaudit.functional.impact import accuracy_drop
from lightning_memaudit.functional.uncertainty import OneSided
from lightning_memaudit.gates.judged_report import subject_of
from lightning_memaudit.gates.reference.looks import looks_after
from lightning_memaudit.gates.reference.report import data_key, reference_of, write_baseline, write_looks
from tests.helpers.gates import content, outcomes, policy, report, rule
from tests.helpers.treated import TreatedStore

N = 300
GROUPINGS = {"half": (np.repeat([0, 1], N // 2), ["a", "b"])}


@pytest.fixture(scope="module")
def made():
    return report()


def with_accuracy(accuracy, *, seed=0):
    correct = outcomes(8, N, accuracy, seed=seed)
    return content({"prune": (np.ones_like(correct), correct)}, GROUPINGS)


def judged(new, old, **more):
    given = policy(r={**rule("regression", 0.1, groups=["overall"]), **more})
    return evaluate_gate(new, given, baseline=old)


def test_worse_than_the_baseline_fails_and_as_good_passes() -> None:
    old = with_accuracy(0.9)
    assert judged(with_accuracy(0.9, seed=1), old).rows[0].verdict.value == "pass"
    assert judged(with_accuracy(0.6, seed=1), old).rows[0].verdict.value == "fail"
    assert judged(with_accuracy(0.99, seed=1), old, margin=0.0).rows[0].verdict.value == "pass"
    assert judged(with_accuracy(0.8, seed=1), old).rows[0].verdict.value == "inconclusive"


@pytest.mark.parametrize("metric", ["accuracy", "drop", "memorization"])
def test_every_metric_is_compared(made, metric) -> None:
    groups = ["label=1"] if metric == "memorization" else ["half=b"]
    result = judged(made, copy.deepcopy(made), metric=metric, groups=groups)
    assert {row.verdict.value for row in result.rows} == {"pass"}
    assert all(row.value == 0 for row in result.rows)
    strict = judged(made, copy.deepcopy(made), metric=metric, groups=groups, margin=-0.3)
    assert {row.verdict.value for row in strict.rows} == {"fail"}


def test_two_reports_are_compared_by_square_and_add() -> None:
    rows = [judged(with_accuracy(0.8, seed=1), with_accuracy(0.9)).rows[0]]
    plain = [evaluate_gate(with_accuracy(a, seed=s), policy(r=rule("accuracy", 0.5, groups=["overall"]))).rows[0]
             for a, s in ((0.8, 1), (0.9, 0))]  # fmt: skip
    new, old = plain
    assert rows[0].value == pytest.approx(old.value - new.value)
    assert rows[0].upper - rows[0].value == pytest.approx(np.hypot(new.value - new.lower, old.upper - old.value))


CHANGES = {
    "numbers of examples": lambda made: made["data"]["test"].update(n_examples=7),
    "labels of split": lambda made: made["data"]["test"].update(labels="other"),
    "inputs of split": lambda made: made["data"]["test"].update(inputs="other"),
    "no fingerprint": lambda made: made["data"].pop("test"),
    "'val'": lambda made: made["accuracy"].update(split={"name": "val"}),
    "written by": lambda made: made["versions"].update({"lightning-memaudit": "9.0.0"}),
    "groups of 'half' differ": lambda made: made["accuracy"]["arms"]["mild"]["by_group"]["half"]["rows"][0].update(n=5),
    "label map": lambda made: made["accuracy"]["arms"]["mild"]["by_group"]["label"]["rows"][2].update(group="9"),
}


@pytest.mark.parametrize("words", CHANGES)
def test_what_does_not_go_together_is_an_error_and_never_compared(made, words) -> None:
    for side in (0, 1):
        sides = [made, copy.deepcopy(made)]
        changed = copy.deepcopy(made)
        CHANGES[words](changed)
        sides[side] = changed
        result = judged(*sides, margin=0.9)
        assert [row.verdict.value for row in result.rows] == ["error"]
        assert result.exit_code == 4
        assert words in result.rows[0].message


def test_other_rules_are_judged_all_the_same(made) -> None:
    other = copy.deepcopy(made)
    other["data"]["test"]["labels"] = "other"
    rules = policy(r=rule("regression", 0.1), s=rule("drop", 0.5, groups=["half=b"]))
    result = evaluate_gate(made, rules, baseline=other)
    assert [row.verdict.value for row in result.rows] == ["error", "pass", "pass"]


def test_arms_and_groups_that_the_baseline_lacks_are_errors(made) -> None:
    other = copy.deepcopy(made)
    del other["accuracy"]["arms"]["harsh"]
    result = judged(made, other, treatments=["harsh"])
    assert "the baseline has no such arm" in result.rows[0].message
    del other["accuracy"]["arms"]["mild"]["by_group"]["half"]
    result = judged(made, other, treatments=["mild"], groups=["half=a"])
    assert "baseline: it has no such grouping" in result.rows[0].message
    assert result.exit_code == 4


def test_arms_and_groupings_that_the_report_has_lost_are_errors(made) -> None:
    less = copy.deepcopy(made)
    del less["accuracy"]["arms"]["harsh"]
    result = judged(less, made)
    assert [row.message for row in result.rows if row.treatment == "harsh"] == [
        "the baseline has this arm and the report has lost it"
    ]
    assert result.exit_code == 4
    assert judged(less, made, treatments=["mild"]).exit_code != 4
    for arm in less["accuracy"]["arms"].values():
        del arm["by_group"]["half"]
    result = judged(less, made, treatments=["mild"], groups=["*"])
    assert any("the baseline has this grouping and the report has lost it" in row.message for row in result.rows)
    assert result.exit_code == 4


def test_other_versions_of_libraries_are_said(made) -> None:
    other = copy.deepcopy(made)
    other["versions"]["torch"] = "1.0"
    result = judged(made, other, groups=["half=a"])
    assert any("torch 1.0 there" in warning for warning in result.warnings)
    assert result.exit_code == 0


def test_a_baseline_that_no_rule_uses_is_said(made) -> None:
    result = evaluate_gate(made, policy(r=rule("drop", 0.9, groups=["half=a"])), baseline=made)
    assert any("no rule compares" in warning for warning in result.warnings)


def filled(folder, accuracy, *, seed=0, design="fixed_size", n_models=8):
    labels = {"train": np.arange(20) % 2, "test": np.arange(N) % 2}
    groups = {"half": {"train": ["a"] * 20, "test": ["a"] * (N // 2) + ["b"] * (N // 2)}}
    known = TreatedStore(folder, labels, groups, n_classes=2, design=design)
    base = np.ones((n_models, N), dtype=bool)
    correct = outcomes(n_models, N, accuracy, seed=seed)
    return known.fill("baseline", {"test": base}).fill("prune", {"test": correct}, made_from="baseline"), correct


def test_two_stores_are_compared_example_by_example(tmp_path) -> None:
    (new, later), (old, earlier) = filled(tmp_path / "new", 0.8, seed=1), filled(tmp_path / "old", 0.9)
    rules = policy(r=rule("regression", 0.2, treatments=["prune"], groups=["overall", "half=b"]))
    row, half = evaluate_gate(new.store, rules, baseline=old.store).rows
    found = accuracy_drop(earlier, later, np.zeros(N, dtype=int), paired=True)
    _, up = OneSided(found.two_way).half_widths(np.asarray(0.05))
    assert (row.value, row.upper) == (pytest.approx(found.drop[0]), pytest.approx(found.drop[0] + up[0]))
    assert (row.n, half.n, half.group) == (N, N // 2, "half=b")
    # the same from folders; from reports the bounds are farther apart, and the estimate is the same
    assert evaluate_gate(tmp_path / "new", rules, baseline=str(tmp_path / "old")).rows[0].upper == row.upper
    other, _ = filled(tmp_path / "other", 0.9, design="paired")
    independent = evaluate_gate(new.store, rules, baseline=other.store).rows[0]
    unpaired = accuracy_drop(earlier, later, np.zeros(N, dtype=int))
    assert independent.upper == pytest.approx(
        unpaired.drop[0] + OneSided(unpaired.two_way).half_widths(np.asarray(0.05))[1][0]
    )


def test_from_a_store_and_from_its_report_the_verdicts_are_the_same(tmp_path) -> None:
    from lightning_memaudit import AuditReport

    known, _ = filled(tmp_path / "store", 0.8)
    AuditReport.from_store(known.store).save(tmp_path / "report")
    rules = policy(
        d=rule("drop", 0.2, groups=["*", "overall"]),
        e=rule("excess_drop", 0.1, groups=["half=*"]),
        a=rule("accuracy", 0.7, groups=["half=*", "label=*"]),
        g=rule("gap", 0.1, groups=["half=*"]),
        m=rule("memorization", 0.5, groups=["overall", "label=*"]),
        p=rule("memorization_prevalence", 0.5),
    )
    of_store, of_report = (evaluate_gate(place, rules) for place in (known.store, tmp_path / "report"))
    assert [row.to_dict() for row in of_store.rows] == [row.to_dict() for row in of_report.rows]
    assert of_store.counts["error"] == 0
    at_half = policy(p=rule("memorization_prevalence", 0.5, threshold=0.5))
    assert evaluate_gate(known.store, at_half).counts["error"] == 0
    other = evaluate_gate(tmp_path / "report", at_half)
    assert other.exit_code == 4
    assert "judge the store itself" in other.rows[0].message


def test_a_baseline_file_holds_what_rules_compare(made, tmp_path) -> None:
    file = tmp_path / "baseline.json"
    write_baseline(subject_of(made), str(file), looks={"x": 3})
    rules = policy(
        r=rule("regression", 0.1, groups=["half=a", "overall"]),
        s=rule("regression", 0.1, groups=["label=1"], metric="memorization"),
        t=rule("regression", 0.1, groups=["half=b"], metric="drop"),
    )
    direct = evaluate_gate(made, rules, baseline=copy.deepcopy(made))
    through = evaluate_gate(made, rules, baseline=file)
    assert [row.to_dict() for row in through.rows] == [row.to_dict() for row in direct.rows]
    assert reference_of(file).looks == {"x": 3}
    assert file.stat().st_size < len(json.dumps(made, indent=1))


def test_files_that_are_no_baseline(tmp_path, made) -> None:
    file = tmp_path / "b.json"
    for text, error, words in (
        ("{", CorruptShardError, "not JSON"),
        ("[]", CorruptShardError, "no report"),
        ('{"kind": "memaudit-baseline", "schema": 9}', MismatchError, "schema 9"),
        ('{"kind": "memaudit-baseline", "schema": 1, "report": {}}', CorruptShardError, "looks"),
        ('{"kind": "memaudit-baseline", "schema": 1, "report": {}, "looks": {"a": -1}}', CorruptShardError, "looks"),
    ):
        file.write_text(text)
        with pytest.raises(error, match=words) as caught:
            reference_of(file)
        assert caught.value.exit_code == 4
    with pytest.raises(MissingDataError):
        reference_of(tmp_path / "none.json")
    file.write_text(json.dumps(made))
    with pytest.raises(MismatchError, match="--record-look"):
        write_looks(str(file), {})


def test_looks_are_counted_and_warned_of(made, tmp_path) -> None:
    file = tmp_path / "baseline.json"
    rules = policy(r=rule("drop", 0.9, groups=["half=a"]))
    write_baseline(subject_of(made), str(file), looks={})
    for look in (1, 2, 3):
        baseline = reference_of(file)
        result = evaluate_gate(made, rules, baseline=baseline)
        assert (result.look, result.alpha) == (look, 0.05)
        warned = [warning for warning in result.warnings if "look" in warning]
        assert len(warned) == (look > 1)
        if warned:
            assert f"this is look {look}" in warned[0]
            assert f"up to {5 * look} %" in warned[0]
        write_looks(str(file), looks_after(subject_of(made), baseline))
    fresh = copy.deepcopy(made)
    fresh["data"]["test"]["labels"] = "fresh"
    assert evaluate_gate(fresh, rules, baseline=file).look == 1
    assert data_key(fresh) != data_key(made)
    retrained = copy.deepcopy(made)
    retrained["data"]["train"]["labels"] = "new"
    assert data_key(retrained) == data_key(made)


def test_alpha_is_shared_among_looks(made, tmp_path) -> None:
    file = tmp_path / "baseline.json"
    rules = {**policy(r=rule("drop", 0.9, groups=["half=a"])), "looks": {"planned": 2}}
    with pytest.raises(MissingDataError, match="no baseline file counts them"):
        evaluate_gate(made, rules)
    for look, code in ((0, None), (1, None), (2, 4)):
        write_baseline(subject_of(made), str(file), looks={data_key(made): look})
        if code is None:
            result = evaluate_gate(made, rules, baseline=file)
            assert (result.alpha, result.look) == (0.025, look + 1)
            assert all(row.alpha == 0.025 for row in result.rows)
            wide = evaluate_gate(made, policy(r=rule("drop", 0.9, groups=["half=a"])), baseline=file)
            assert all(one.upper > other.upper for one, other in zip(result.rows, wide.rows, strict=True))
        else:
            with pytest.raises(MissingDataError, match="no α left") as caught:
                evaluate_gate(made, rules, baseline=file)
            assert caught.value.exit_code == code


def test_a_downloaded_artifact_is_a_folder_with_a_report(made, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "memorization-audit-digits:v3"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(made))
    assert judged(made, folder, groups=["half=a"]).exit_code == 0
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    with pytest.raises(MissingDataError, match="--baseline DIR"):
        reference_of("wandb://team/project/memaudit-digits:latest")


def test_gates_at_once_lose_no_look(made, tmp_path) -> None:
    """Three processes, ten gates each, from the same moment on."""
    (tmp_path / "report.json").write_text(json.dumps(made), encoding="utf-8")
    (tmp_path / "memaudit.toml").write_text(
        'schema = 1\n[rules.r]\nkind = "drop"\nmargin = 0.9\ngroups = ["overall"]\n'
    )
    write_baseline(subject_of(made), str(tmp_path / "baseline.json"), looks={})
    gate = ["report.json", "--policy", "memaudit.toml", "--baseline", "baseline.json", "--record-look"]
    code = f"""
import sys, warnings
from lightning_memaudit.cli.gate import main
print("ready", flush=True)
sys.stdin.readline()
assert [main({gate!r}) for _ in range(10)] == [0] * 10
"""
    pipe = subprocess.PIPE
    gates = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for _ in range(3)
    ]
    for process in gates:
        assert process.stdout.readline() == "ready\n"
    for process in gates:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate() for process in gates]
    assert [process.returncode for process in gates] == [0] * 3, said
    assert reference_of(tmp_path / "baseline.json").looks == {data_key(made): 30}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["baseline.json", "memaudit.toml", "report.json"]

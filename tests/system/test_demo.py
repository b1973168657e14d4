"""``memaudit demo`` as far as the gates of its report."""

import json
from dataclasses import replace

from lightning_memaudit import OutcomeStore
from lightning_memaudit.data.groups import grouping


def test_demo_and_its_gates(memaudit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    size = ("--n-models", "4", "--n-treated-models", "2", "--max-epochs", "2")
    result = memaudit("demo", *size, "--out", "demo", "--no-progress")
    assert (result.code, result.err) == (0, "")
    assert "report written to demo" in result.out
    content = json.loads((tmp_path / "demo/report.json").read_text())
    assert content["memorization"]["status"] == "ok"
    assert (tmp_path / "demo/report.md").is_file()
    assert (tmp_path / "demo/figures/memorization.png").stat().st_size > 1000
    store = OutcomeStore(tmp_path / "demo/store")
    assert len(store.model_ids()) == 4
    assert set(store.examples("train").groups) == {"frequency", "annotation"}
    assert memaudit("demo", "--n-models", "1", "--out", "none").code == 2
    assert_gates_of_the_demo(memaudit, tmp_path, store)


def assert_gates_of_the_demo(memaudit, place, store):
    """A lenient policy passes, a strict one fails, and of a group of four nothing can be said."""
    examples = store.examples("test")
    names = ["few"] * 4 + ["many"] * (examples.n_examples - 4)
    few = grouping(names, name="size", n_examples=examples.n_examples)
    store.write_examples("test", replace(examples, groups={**examples.groups, "size": few}))
    policy = 'schema = 1\non_inconclusive = "fail"\n[rules.r]\nkind = "accuracy"\ntreatments = ["baseline"]\n'
    for margin, groups, code in ((0.01, "label=0", 0), (0.999, "label=[358]", 1), (0.9, "size=few", 3)):
        (place / "gate.toml").write_text(f'{policy}margin = {margin}\ngroups = ["{groups}"]\n')
        judged = memaudit("gate", "demo/store", "--policy", "gate.toml", "--format", "json")
        rows = json.loads(judged.out)["rows"]
        assert (judged.code, rows[0]["kind"]) == (code, "accuracy")
    assert (rows[0]["n"], rows[0]["verdict"]) == (4, "inconclusive")
    assert rows[0]["lower"] < 0.9 < rows[0]["upper"]
    assert "would decide" in rows[0]["message"]

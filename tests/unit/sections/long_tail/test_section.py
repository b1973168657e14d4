import numpy as np
import pytest

from lightning_memaudit.data.groups import Columns, Frequency, Grouping, by_cluster, by_memorization, resolve
from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.long_tail import good_turing_tau, tail_cost
from lightning_memaudit.outcomes.examples import Examples
from lightning_memaudit.record import Record
from lightning_memaudit.report.audit_report import AuditReport
from lightning_memaudit.sections.long_tail import choose_subpopulations, long_tail_section
from tests.helpers.treated import TreatedStore

ATOMS = np.concatenate([np.repeat(np.arange(10), [30, 20, 12, 8, 6, 5, 4, 3, 3, 2]), np.arange(10, 25)])
N = len(ATOMS)
NAMES = [f"kind {atom}" for atom in ATOMS]
LABELS = {"train": ATOMS % 4, "test": ATOMS % 4}
GROUPS = {"kind": {"train": NAMES, "test": NAMES}}


def treated(tmp_path, *, groups=GROUPS, labels=LABELS, n_models=4, seed=0, arm="prune-0.9"):
    """Base models fit what they saw; treated ones miss kinds that are rare in their subset, seen or not."""
    known = TreatedStore(tmp_path, labels, groups, n_classes=4)
    rng = np.random.default_rng(seed)
    masks = known.plan.masks(range(n_models))
    counts = np.stack([np.bincount(ATOMS[mask], minlength=25) for mask in masks])
    rare = (counts <= 2)[:, ATOMS]
    base = {"train": masks | ~rare, "test": ~rare | (rng.random((n_models, N)) < 0.9)}
    worse = {"train": base["train"] & ~rare, "test": base["test"] & ~rare}
    known.fill("baseline", base)
    known.fill(arm, worse, record={"treatment": {"class": "Prune"}, "trains": False})
    return known.store, masks, base, worse


def test_the_prediction_is_that_of_the_function_and_the_measurement_that_of_the_split(tmp_path) -> None:
    store, masks, base, worse = treated(tmp_path)
    summary = long_tail_section(Record(store)).to_dict()
    entry = summary["costs"]["prune-0.9"]
    predicted = store.load("prune-0.9").prediction
    codes = store.examples("train").groups["kind"].codes
    found = tail_cost(base["train"], worse["train"], masks, codes, prediction=predicted)
    assert entry["total"]["predicted"] == pytest.approx(found.total.cost)
    assert entry["total"]["predicted_low"] == pytest.approx(found.total.low)
    assert entry["rare"]["cost"] == pytest.approx(found.rare.cost)
    assert entry["coupling"] == pytest.approx(found.coupling)
    drop = base["test"].mean() - worse["test"].mean()
    assert entry["total"]["measured"] == pytest.approx(drop)
    assert sum(row["measured"] for row in entry["parts"]) == pytest.approx(drop)
    assert sum(row["predicted"] for row in entry["parts"]) == pytest.approx(found.rare.cost + found.rest)
    assert entry["sentence"].startswith(f"prune-0.9: predicted {100 * found.total.cost:+.0f} points (")
    assert entry["sentence"].startswith(entry["comparison"])
    assert "from subpopulations seen 5 times or less" in entry["sentence"]
    assert entry["shift"] is None


def test_counts_ranks_parts_and_theory(tmp_path) -> None:
    summary = long_tail_section(Record(treated(tmp_path)[0])).to_dict()
    known = summary["subpopulations"]
    assert (known["grouping"], known["n"], known["n_singletons"], known["natural"]) == ("kind", 25, 15, True)
    assert summary["ranks"]["n"][:3] == [30, 20, 12]
    assert sum(part["n"] for part in summary["parts"]) == N
    assert [part["n_subpopulations"] for part in summary["parts"]] == [3, 6, 16]
    assert sum(part["share_of_memorized"] for part in summary["parts"]) in (0, pytest.approx(1))
    counts, theory = np.bincount(ATOMS), summary["theory"]
    assert theory["missing_mass"]["estimate"] == pytest.approx(15 / N)
    assert theory["optimal_error"] == pytest.approx(0.75 * 15 / N)
    once = 0.75 * 15 * float(good_turing_tau(counts, 1))
    assert theory["no_singleton"]["cost"] == pytest.approx(once)
    assert theory["no_singleton"]["low"] <= once <= theory["no_singleton"]["high"]
    assert summary["tail_fit"]["n_atoms"] == 25


def test_costs_that_differ_are_said_to_differ(tmp_path) -> None:
    known = TreatedStore(tmp_path, LABELS, GROUPS, n_classes=4)
    right = np.ones((4, N), dtype=bool)
    known.fill("baseline", {"train": right, "test": right})
    known.fill("prune-0.9", {"train": right, "test": right & (np.arange(N) % 2 == 0)})
    entry = long_tail_section(Record(known.store)).to_dict()["costs"]["prune-0.9"]
    assert (entry["total"]["predicted"], entry["total"]["verdict"]) == (0, "measured more")
    assert "more was lost than the misfits on the training subsets announce" in entry["sentence"]


def test_another_mix_in_the_test_split_is_said(tmp_path) -> None:
    labels = {"train": ATOMS % 4, "test": np.arange(N) % 4}
    groups = {"kind": {"train": NAMES, "test": [f"kind {10 + i % 15}" for i in range(N)]}}
    costs = long_tail_section(Record(treated(tmp_path, groups=groups, labels=labels)[0])).to_dict()["costs"]
    assert costs["prune-0.9"]["shift"].startswith(
        "Head, torso and tail hold 57.4 / 26.9 / 15.7 % of the training examples and 0.0 / 0.0 / 100.0 %"
    )


def test_counts_of_a_clusterer_are_not_asked(tmp_path) -> None:
    store, *_ = treated(tmp_path)
    examples = {split: store.examples(split) for split in ("train", "test")}
    made = {"method": "k-means within classes"}
    for split, own in examples.items():
        groups = {"subpopulation": Grouping(own.groups["kind"].codes, own.groups["kind"].names, made)}
        store.write_examples(split, Examples(own.n_examples, own.labels, groups))
    summary = long_tail_section(Record(store)).to_dict()
    for entry in (summary["theory"], summary["costs"]["prune-0.9"]):
        assert entry["status"] == "unavailable"
        assert entry["reason"].startswith("not applicable: these subpopulations were made by k-means within classes")
    assert summary["ranks"]["n"][0] == 30


def test_how_clusters_were_found_is_in_the_report(tmp_path) -> None:
    store, *_ = treated(tmp_path)
    rng = np.random.default_rng(0)
    embeddings = {"train": rng.normal(size=(N, 2)) + 20 * (np.arange(N) % 2)[:, None]}
    columns = {"train": Columns(None, N, np.zeros(N, dtype=np.int64), {})}
    found = resolve({"kind": by_cluster(embeddings)}, columns)["kind"]["train"]
    own = store.examples("train")
    store.write_examples("train", Examples(N, own.labels, {"kind": found}))
    report = AuditReport.from_store(store)
    assert report.content["groupings"] == {"kind": found.made_by}
    assert "| groups `kind` | k-means within classes, " in report.to_markdown()
    assert ": 0: 2 (stability 1.00); seed 0 |" in report.to_markdown()


def test_one_model_has_no_verdict(tmp_path) -> None:
    entry = long_tail_section(Record(treated(tmp_path, n_models=1)[0])).to_dict()["costs"]["prune-0.9"]
    assert entry["total"]["verdict"] == "unknown"
    assert entry["total"]["predicted_low"] is None
    assert "cannot be said with one pair of models" in entry["sentence"]


def test_arms_on_all_data_and_stores_without_arms_say_why(tmp_path) -> None:
    known = TreatedStore(tmp_path / "a", LABELS, GROUPS, n_classes=4)
    right = np.ones((2, N), dtype=bool)
    for arm in ("full/baseline", "full/prune-0.9", "baseline"):
        known.fill(arm, {"train": right, "test": right})
    assert (
        "trained on all data" in long_tail_section(Record(known.store)).to_dict()["costs"]["full/prune-0.9"]["reason"]
    )
    plain = TreatedStore(tmp_path / "b", LABELS, GROUPS, n_classes=4).fill("baseline", {"train": right, "test": right})
    assert long_tail_section(Record(plain.store)).to_dict()["no_costs"].startswith("no model was treated")


def grouping(n_groups: int, made_by=None) -> Grouping:
    return Grouping(np.arange(12) % n_groups, tuple(map(str, range(n_groups))), made_by)


def test_which_grouping_serves() -> None:
    labels = np.arange(12) % 3
    derived = Frequency("label").derive("f", [{"train": grouping(2)}])["train"]
    bins = by_memorization(np.linspace(0, 1, 12))
    groups = {"fine": grouping(6), "coarse": grouping(2), "frequency": derived, "bins": bins}
    assert choose_subpopulations(Examples(12, labels, groups))[0] == "fine"
    assert choose_subpopulations(Examples(12, labels, {"coarse": grouping(2), "bins": bins}))[0] == "label"
    assert choose_subpopulations(Examples(12, labels, {**groups, "subpopulation": grouping(2)}))[0] == "subpopulation"
    only = choose_subpopulations(Examples(12, None, {"kind": grouping(4, {"method": "clusters"})}))
    assert only[0] == "kind"
    with pytest.raises(MissingDataError, match="neither class labels nor groupings"):
        choose_subpopulations(Examples(12, None))


def test_the_report_shows_it(tmp_path) -> None:
    report = AuditReport.from_store(treated(tmp_path)[0])
    markdown, entry = report.to_markdown(), report.long_tail.summary["costs"]["prune-0.9"]
    assert "## The long tail" in markdown
    assert "Subpopulations are 25 groups of `kind` over 108 training examples" in markdown
    assert entry["sentence"].split(":")[0] + ": predicted" in markdown
    assert {"rank_frequency.png", "rank_frequency.svg", "predicted_costs.png"} <= set(report.content["figures"])
    assert entry["comparison"] in report.summary()
    frame = report.long_tail.to_frame()
    assert list(frame["part"]) == ["all", "head", "torso", "tail"]
    assert report.long_tail.plot().get_xlabel() == "rank of 25 subpopulations (kind)"
    assert report.long_tail.plot_costs().get_yticklabels()[0].get_text() == "prune-0.9"

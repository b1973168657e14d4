"""``memaudit theory``: the paper's numbers by one call, the table, JSON, plots, counts, and wrong input."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.cli.theory.content import Question, from_prior, split
from lightning_memaudit.cli.theory.plot import draw
from lightning_memaudit.functional.long_tail import (
    Group,
    cost_of_dp,
    cost_of_limited_memorization,
    cost_of_not_fitting,
    dirichlet,
    disparate_cost,
    disparate_dp_cost,
    expected_count,
    expected_mass,
    from_frequencies,
    good_turing,
    good_turing_missing_mass,
    marginal,
    optimal_error,
    tau,
    two_level,
    uniform,
    zipf,
)

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "long_tail.json").read_text())
PAPER = ("--n-points", "50000,5000,5000,25000", "--n-samples", "50000,50000,10000,50000", "--gamma", "0.5")
SMALL = ("--n-points", "200", "--n-samples", "150")


@pytest.fixture
def theory(memaudit):
    """Run the command; what it computed."""

    def _theory(*arguments):
        result = memaudit("theory", *arguments, "--json")
        assert (result.code, result.err) == (0, "")
        return json.loads(result.out)

    return _theory


@pytest.fixture
def counts(write):
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(1500, zipf(2000).frequencies)
    drawn = drawn[drawn > 0]
    write("counts.csv", "site,count\n" + "".join(f'"site {i}, north",{count}\n' for i, count in enumerate(drawn)))
    return drawn


def values(population):
    return {name: figure["value"] for name, figure in population["figures"].items()}


def test_the_numbers_of_the_paper_by_one_call(theory, memaudit):
    found = theory(*PAPER, "--epsilon", repr(math.log(6)))
    assert found["mode"] == "list"
    first = values(found["populations"][0])
    case = GOLDEN["zipf_50000"]
    exact = {
        "n_tau_1": case["n_tau_1"],
        "n_least_frequency": case["n_min_freq"],
        "singleton_share": case["singleton_fraction"],
        "optimal_error": case["opt_10cl"],
        "singleton_mass": case["excess_no_singletons_all_wrong"],
        "cost_of_not_fitting": case["excess_no_singletons_10cl"],
    }
    assert {name: first[name] for name in exact} == pytest.approx(exact, rel=1e-9)
    for population, case in zip(found["populations"][1:], GOLDEN["disparate"].values(), strict=True):
        assert (population["n_points"], population["n_samples"]) == (case["N"], case["n"])
        figures = values(population)
        assert figures["optimal_error"] == pytest.approx(case["opt_list"], rel=1e-9)
        assert figures["cost_of_limited_memorization"] == pytest.approx(case["cost_list"], rel=1e-9)
        assert figures["cost_of_dp_paper"] == pytest.approx(case["dp_cost_eps_ln6_list"], rel=1e-9)
    # the digits that the paper prints; it cuts them off in one place, .107 for .107517
    printed = [f"{first[name]:.2f}" for name in ("n_tau_1", "n_least_frequency", "singleton_share", "optimal_error")]
    assert printed == ["0.47", "0.09", "0.17", "0.15"]
    assert f"{first['cost_of_not_fitting']:.2f}" == "0.07"
    groups = [values(population) for population in found["populations"][1:]]
    assert [f"{group['cost_of_limited_memorization']:.3f}" for group in groups] == ["0.015", "0.035", "0.031"]
    assert [math.floor(1000 * group["optimal_error"]) for group in groups] == [18, 113, 107]
    # and the same call as a text shows them all
    text = memaudit("theory", *PAPER).out
    assert "mode list (as all numbers printed in the paper)" in text
    rows = {line[:27].strip(): line[27:].split() for line in text.splitlines()}
    assert [rows[name][0] for name in ("n · τ_1", "n · least frequency", "seen once / n", "optimal error")] == [
        "0.471676", "0.087742", "0.170396", "0.153355",
    ]  # fmt: skip
    assert rows["cost: singletons not fitted"[:27].strip()][0] == "0.072335"
    assert rows["optimal error"][1:] == ["0.018421", "0.113382", "0.107517"]
    assert rows["cost: memorization ≤ γ"][1:] == ["0.014648", "0.035301", "0.031001"]


@pytest.mark.parametrize(
    ("prior", "mode", "law"),
    [
        ("zipf:1.2", "list", marginal(zipf(200, 1.2))),
        ("uniform", "list", marginal(uniform(200))),
        ("two-level:5:0.4", "iid", marginal(two_level(200, 5, 0.4), mode="iid")),
        ("dirichlet:0.3", None, marginal(dirichlet(200, 0.3), mode="iid")),
    ],
)
def test_figures_are_those_of_the_functions(theory, prior, mode, law):
    options = (
        "--prior",
        prior,
        "--classes",
        "4",
        "--gamma",
        "0.2",
        "--epsilon",
        "1",
        "--delta",
        "1e-3",
        "--ell",
        "0,1,9",
    )
    found = theory(*SMALL, *options, "--adjacency", "label", *(("--mode", mode) if mode else ()))
    assert found["mode"] == (mode or "iid")
    (population,) = found["populations"]
    private = {"n_classes": 4, "epsilon": 1.0, "delta": 1e-3}
    expected = {
        "optimal_error": optimal_error(law, 150, n_classes=4),
        "cost_of_not_fitting": cost_of_not_fitting(law, 150, n_classes=4),
        "cost_of_limited_memorization": cost_of_limited_memorization(law, 150, n_classes=4, gamma=0.2),
        "cost_of_dp_paper": cost_of_dp(law, 150, **private),
        "cost_of_dp_sharp": cost_of_dp(law, 150, bound="sharp", adjacency="label", **private),
    }
    figures = values(population)
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    for index, ell in enumerate((0, 1, 9)):
        row = population["by_ell"][index]
        assert row["tau"] == pytest.approx(float(tau(law, 150, ell)))
        assert row["points"] == pytest.approx(float(expected_count(law, 150, ell)))
        assert row["mass"] == pytest.approx(float(expected_mass(law, 150, ell)))
    assert bool(population["groups"]) == (found["mode"] == "list")
    assert (found["groups_reason"] is None) == (found["mode"] == "list")


PRIORS = st.one_of(
    st.builds(zipf, st.integers(2, 300), st.floats(0.2, 2)),
    st.lists(st.integers(0, 50), min_size=2, max_size=30)
    .filter(lambda counts: sum(count > 0 for count in counts) > 1)
    .map(from_frequencies),
)


@settings(deadline=None, max_examples=40)
@given(PRIORS, st.integers(1, 400), st.floats(0.05, 0.5), st.floats(0.55, 0.95))
def test_groups_are_a_partition_that_adds_up(prior, n, torso, tail):
    parts = split(prior, (torso, tail))
    assert sum(share for share, _ in parts.values()) == pytest.approx(1.0)
    assert sum(part.n_points for _, part in parts.values()) == prior.multiplicity[prior.frequencies > 0].sum()
    assert "head" in parts
    edges = [(share * part.frequencies.max(), share * part.frequencies.min()) for share, part in parts.values()]
    assert all(above[1] > below[0] for above, below in itertools.pairwise(edges))
    if "tail" in parts:
        assert parts["tail"][0] <= 1 - tail + 1e-9
    question = Question(n_classes=5, gamma=0.3, epsilon=0.7, delta=0.01)
    population = from_prior(prior, n, question, mode="list", cuts=(torso, tail))
    figures = {name: figure["value"] for name, figure in population["figures"].items()}
    for name in ("optimal_error", "singleton_mass", *question.shortfalls()):
        total = sum(row["share"] * row[name] for row in population["groups"])
        assert total == pytest.approx(figures[name], rel=1e-9, abs=1e-15), name


def test_cost_by_group_is_the_disparate_cost(theory):
    found = theory(*SMALL, "--gamma", "0.3", "--epsilon", "1", "--groups", "0.4,0.7")
    rows = found["populations"][0]["groups"]
    assert [row["group"] for row in rows] == ["head", "torso", "tail"]
    listed = zipf(200).frequencies
    before = np.cumsum(listed) - listed
    members = [before < 0.4, (before >= 0.4) & (before < 0.7), before >= 0.7]
    groups = {
        str(index): Group(float(listed[part].sum()), marginal(from_frequencies(listed[part])))
        for index, part in enumerate(members)
    }
    limited = disparate_cost(groups, 150, n_classes=10, gamma=0.3)
    private = disparate_dp_cost(groups, 150, n_classes=10, epsilon=1.0, bound="sharp")
    assert [row["optimal_error"] for row in rows] == pytest.approx(limited.optimal_error)
    assert [row["cost_of_limited_memorization"] for row in rows] == pytest.approx(limited.cost)
    assert [row["cost_of_dp_sharp"] for row in rows] == pytest.approx(private.cost)
    assert [row["n_points"] for row in rows] == [part.sum() for part in members]


def test_equal_points_are_one_group(theory):
    rows = theory("--prior", "uniform", *SMALL)["populations"][0]["groups"]
    assert [(row["group"], row["n_points"]) for row in rows] == [("head", 200)]


def test_a_large_population_keeps_its_groups(theory):
    found = theory("--n-points", "1e6", "--n-samples", "1e6", "--gamma", "0.5", "--ell", "1,2,3,4,5,6,7,8,9,10")
    (population,) = found["populations"]
    assert len(population["by_ell"]) == 10
    assert population["by_ell"][0]["n_tau"] == pytest.approx(0.432329, abs=1e-6)
    assert sum(row["n_points"] for row in population["groups"]) == pytest.approx(1e6, abs=2)
    total = sum(row["share"] * row["cost_of_limited_memorization"] for row in population["groups"])
    assert total == pytest.approx(values(population)["cost_of_limited_memorization"], rel=1e-9)


def test_counts_of_ones_own(theory, memaudit, counts):
    found = theory("--counts", "counts.csv", "--classes", "4", "--gamma", "0.25", "--epsilon", "0.5", "--ell", "1,2,5")
    (population,) = found["populations"]
    assert (population["n_points"], population["n_seen"], population["n_samples"]) == (None, len(counts), 1500)
    table, missing = good_turing(counts, [1, 1, 2, 5]), good_turing_missing_mass(counts)
    for row, index in zip(population["by_ell"], (1, 2, 3), strict=True):
        assert row["tau"] == pytest.approx(table.tau[index])
        assert row["interval"] == pytest.approx([table.low[index], table.high[index]])
        assert row["points"] == (counts == row["ell"]).sum()
    figures = population["figures"]
    assert figures["optimal_error"]["value"] == pytest.approx(0.75 * (counts == 1).sum() / 1500)
    assert figures["optimal_error"]["interval"] == pytest.approx([0.75 * missing.low, 0.75 * missing.high])
    # (1 - 1/m) τ_1 Φ_1 = (1 - 1/m) 2 Φ_2 / n
    cost = figures["cost_of_not_fitting"]
    assert cost["value"] == pytest.approx(0.75 * 2 * (counts == 2).sum() / 1500)
    assert cost["interval"][0] < cost["value"] < cost["interval"][1]
    assert figures["cost_of_limited_memorization"]["value"] == pytest.approx(cost["value"] * 2 / 3)
    assert figures["n_tau_1"]["interval"] == pytest.approx([1500 * end for end in population["by_ell"][0]["interval"]])
    # the sample is one of a known population
    law = marginal(zipf(2000))
    low, high = cost["interval"]
    assert low < cost_of_not_fitting(law, 1500, n_classes=4) < high
    text = memaudit("theory", "--counts", "counts.csv").out
    assert "natural atoms" in text
    assert "Head, torso, tail: not applicable" in text
    smooth = theory("--counts", "counts.csv", "--smoothing", "simple")["populations"][0]["by_ell"]
    assert [row["tau"] for row in smooth] == pytest.approx(good_turing(counts, [1, 2, 3], smoothing="simple").tau)


@pytest.mark.parametrize("content", ["3\n1\n1\n2\n", "count\n3\n1\n1\n2", "\ufeffname,count\na,3\n\nb,1\nc,1\nd,2\n"])
def test_forms_of_a_file(theory, write, content):
    write("file.csv", content)
    assert theory("--counts", "file.csv", "--ell", "1")["populations"][0]["n_samples"] == 7
    found = theory("--prior", "file:file.csv", "--n-samples", "20")
    law = marginal(from_frequencies([3, 1, 1, 2]))
    assert values(found["populations"][0])["optimal_error"] == pytest.approx(optimal_error(law, 20, n_classes=10))
    assert found["populations"][0]["n_points"] == 4


def test_what_is_not_known_is_null_and_said(memaudit, write):
    write("counts.csv", "4\n5\n")
    result = memaudit("theory", "--counts", "counts.csv", "--json")
    found = json.loads(result.out)
    figures = found["populations"][0]["figures"]
    assert figures["n_tau_1"]["value"] is None
    assert figures["singleton_mass"]["value"] == 0  # no singleton, nothing to lose by missing it
    assert any("ell = 1 is NaN" in note for note in found["notes"])
    text = memaudit("theory", "--counts", "counts.csv")
    assert "NaN" in text.out
    assert "memaudit: warning: good_turing: tau at ell = 1 is NaN" in text.err
    result = memaudit("theory", "--prior", "uniform", "--n-points", "1", "--n-samples", "3", "--ell", "1")
    assert result.code == 0
    assert "0/0 gives NaN" in result.err
    assert memaudit("theory", "--n-points", "9", "--n-samples", "2").code == 0  # ℓ = 3 is left out by itself


@pytest.mark.parametrize("name", ["cost.png", "plots/cost.svg"])
def test_plot(memaudit, workplace, counts, name):
    options = (*SMALL, "--plot", name, "--epsilon", "1")
    result = memaudit("theory", *options)
    assert (result.code, result.err) == (0, "")
    assert f"plot written to {name}" in result.out
    first = (workplace / name).read_bytes()
    assert first.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    assert len(first) > 10_000
    assert memaudit("theory", *options).code == 0
    assert (workplace / name).read_bytes() == first
    assert memaudit("theory", "--counts", "counts.csv", "--plot", name).code == 0
    assert (workplace / name).read_bytes() != first


def test_curves_are_the_costs():
    question, prior = Question(n_classes=10, epsilon=1.0, adjacency="label"), zipf(200)
    population = from_prior(prior, 150, question, mode="list", cuts=(0.5, 0.8))
    left, right, *others = draw({"populations": [population, population]}, question).axes
    assert [axes.get_title() for axes in others] == [left.get_title(), right.get_title()]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["total", "head", "torso", "tail"]
    paper, sharp = left.lines[0], left.lines[4]
    assert sharp.get_linestyle() == "--"
    law = marginal(prior)
    for index in (0, 60, 119):
        epsilon = float(paper.get_xdata()[index])
        options = {"n_classes": 10, "epsilon": epsilon, "adjacency": "label"}
        assert paper.get_ydata()[index] == pytest.approx(cost_of_dp(law, 150, **options))
        assert sharp.get_ydata()[index] == pytest.approx(cost_of_dp(law, 150, bound="sharp", **options))
    gamma, total = right.lines[0].get_data()
    assert total[30] == pytest.approx(cost_of_limited_memorization(law, 150, n_classes=10, gamma=float(gamma[30])))
    for line, row in zip(right.lines[1:4], population["groups"], strict=True):
        assert line.get_ydata()[0] == pytest.approx(row["cost_of_not_fitting"])
        assert not line.get_ydata()[90:].any()  # from 1 - 1/m on


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--prior", "zapf:1"], "--prior zapf:1: zipf:EXPONENT, uniform"),
        (["--prior", "zipf"], "--prior zipf: zipf:EXPONENT"),
        (["--prior", "zipf:x"], "--prior zipf:EXPONENT x: a finite number"),
        (["--prior", "zipf:-1"], "--prior zipf: EXPONENT -1.0: a number of at least 0"),
        (["--prior", "two-level:300:0.5"], "--prior two-level: N_HEAVY 300: "),
        (["--prior", "two-level:3:1.5"], "--prior two-level: MASS 1.5: a number in [0, 1]"),
        (["--prior", "dirichlet:0"], "--prior dirichlet: ALPHA 0.0: a finite number above 0"),
        (["--prior", "dirichlet:1", "--mode", "list"], "--mode list: 'iid' is needed with a Dirichlet prior"),
        (["--mode", "both"], "--mode both: list or iid is needed"),
        (["--n-points", "0"], "--n-points 0: a whole number of at least 1"),
        (["--n-points", "2.5"], "--n-points 2.5: a whole number"),
        (["--n-points", "many"], "--n-points many: a whole number"),
        (["--n-points", "2,3", "--n-samples", "4,5,6"], "--n-points 2,3 --n-samples 4,5,6: 2 and 3 values"),
        (["--n-samples", "-3"], "--n-samples -3: a whole number of at least 1"),
        (["--n-samples", "1e11"], "--n-samples 100000000000: at most 1e10"),
        (["--classes", "1"], "--classes 1: a whole number of at least 2"),
        (["--gamma", "1.5"], "--gamma 1.5: a number in [0, 1]"),
        (["--gamma", "nan"], "--gamma nan: a finite number"),
        (["--epsilon", "-1"], "--epsilon -1.0: a number of at least 0"),
        (["--epsilon", "1", "--delta", "2"], "--delta 2.0: a number in [0, 1]"),
        (["--delta", "0.1"], "--delta 0.1: it goes with --epsilon"),
        (["--adjacency", "swap"], "--adjacency swap: add-remove or label"),
        (["--ell", "1,151"], "--ell 151: whole numbers in [0, n_samples=150]"),
        (["--ell", "1;2"], "--ell 1;2: a whole number"),
        (["--groups", "0.5"], "--groups 0.5: two ascending shares"),
        (["--groups", "0.8,0.5"], "--groups 0.8,0.5: two ascending shares"),
        (["--groups", "0.5,0.8", "--mode", "iid"], "--groups 0.5,0.8: with --mode iid"),
        (["--smoothing", "simple"], "--smoothing simple: it goes with --counts"),
        (["--plot", "cost.pdf"], "--plot cost.pdf: a file name that ends in .png or .svg"),
        (["--plot", "plots/.png"], "--plot plots/.png: a file name"),
    ],
)
def test_bad_option(memaudit, workplace, change, message):
    result = memaudit("theory", *SMALL, *change)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.startswith("memaudit: ")
    assert not list(workplace.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--n-samples is missing"),
        (("--n-samples", "5"), "--n-points is missing"),
        (("--counts", "counts.csv", "--n-points", "5"), "--n-points 5: it does not go with --counts"),
        (("--counts", "counts.csv", "--prior", "zipf:1.0"), "--prior zipf:1.0: it does not go with --counts"),
        (("--counts", "counts.csv", "--groups", "0.5,0.8"), "--groups 0.5,0.8: it does not go with --counts"),
        (("--counts", "counts.csv", "--smoothing", "line"), "--smoothing line: none or simple"),
        (("--counts", "counts.csv", "--ell", "1,2000"), "--ell 2000: whole numbers in [0, n_samples=1500]"),
        (("--prior", "file:counts.csv", "--n-samples", "5", "--n-points", "3"), "--n-points 3: the file of --prior"),
        (("--prior", "file:", "--n-samples", "5"), "--prior file:"),
        (("--epsylon", "1"), "unrecognized arguments: --epsylon 1"),
    ],
)
def test_bad_combination(memaudit, counts, arguments, message):
    result = memaudit("theory", *arguments)
    assert result.code == 2
    assert message in result.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there is no number in it"),
        ("count\n", "there is no number in it"),
        ("0\n0\n", "--counts: counts float64[2]: at least one number above 0"),
        ("3\n-1\n", "file.csv, line 2: '-1' is not a number from 0 to 1e10"),
        ("3\nnan\n", "file.csv, line 2: 'nan' is not a number"),
        ("3\n1e300\n", "file.csv, line 2: '1e300' is not a number"),
        ("3\n1.5\n", "--counts: counts 1.5: whole numbers of at least 0"),
        ("count\n3\nmany\n", "file.csv, line 3: 'many' is not a number"),
        ("a,3\n4\n", "file.csv, line 2: '4' has 1 columns"),
        ("a,b,3\n", "'a,b,3' has 3 columns"),
        ("a,3\na,4\n", "file.csv, line 2: 'a' is there twice"),
        ('"a,3\n', "it is no CSV file"),
    ],
)
def test_bad_file(memaudit, write, content, message):
    write("file.csv", content)
    result = memaudit("theory", "--counts", "file.csv")
    assert result.code == 2
    assert message in result.err
    assert result.err.startswith("memaudit: --counts")


def test_a_file_that_cannot_be_read(memaudit, workplace):
    for arguments in (("--counts", "none.csv"), ("--prior", "file:none.csv", "--n-samples", "5")):
        result = memaudit("theory", *arguments)
        assert result.code == 4
        assert "none.csv: there is no such file; check the path" in result.err
    (workplace / "folder").mkdir()
    assert memaudit("theory", "--counts", "folder").code == 4
    (workplace / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    result = memaudit("theory", "--counts", "binary.csv")
    assert result.code == 2
    assert "not a text file in UTF-8" in result.err
    (workplace / "zeros.csv").write_text("0\n0\n")
    result = memaudit("theory", "--prior", "file:zeros.csv", "--n-samples", "5")
    assert result.code == 2
    assert "--prior file: frequencies float64[2]: at least one number above 0" in result.err


def test_help(memaudit):
    assert "\n  theory " in memaudit("--help").out
    shown = memaudit("theory", "--help")
    assert shown.code == 0
    assert "usage: memaudit theory" in shown.out


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    """As ``memaudit theory | head`` has it."""
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ["theory", "--prior", "uniform", "--n-points", "10", "--n-samples", "10"]
    command = [sys.executable, "-m", "lightning_memaudit", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")

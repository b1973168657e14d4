"""Reading of policies: every mistake is named, with where it is and what was meant."""

from __future__ import annotations

import datetime as dt

import pytest

from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.gates.policy.file import find_policy, policy_of
from lightning_memaudit.gates.policy.policy import Looks, Policy
from lightning_memaudit.gates.rules.drop import Drop
from tests.helpers.gates import policy, rule

WHOLE = """\
schema = 1
alpha = 0.01
on_inconclusive = "fail"
[looks]
planned = 20
rho = 2

[rules."who pays"]
kind = "drop"
margin = 0.05
treatments = "prune-*"
groups = ["race=*", "overall"]
exclude = ["race=(missing)"]
min_n = 30
informational = true
reason = "nobody pays"
cross_fitted = true

[[rules."who pays".waivers]]
groups = ["race=B"]
reason = "known"
expires = 2027-05-01

[rules.memorized]
kind = "memorization_prevalence"
margin = 1
threshold = 0.5
on_inconclusive = "warn"
"""


def test_a_policy_is_read_whole(tmp_path) -> None:
    file = tmp_path / "memaudit.toml"
    file.write_text(WHOLE)
    read = policy_of(file)
    pays, memorized = read.rules
    assert (read.alpha, read.looks, read.path) == (0.01, Looks(20, 2.0), str(file))
    assert read.lines == {"who pays": 8, "memorized": 24}
    assert (pays.name, pays.kind, pays.margin, pays.min_n) == ("who pays", Drop(), 0.05, 30)
    assert (pays.treatments, pays.groups, pays.exclude) == (("prune-*",), ("race=*", "overall"), ("race=(missing)",))
    assert (pays.informational, pays.reason, pays.cross_fitted, pays.on_inconclusive) == (
        True,
        "nobody pays",
        True,
        "fail",
    )
    assert (pays.waivers[0].expires, pays.waivers[0].treatments) == (dt.date(2027, 5, 1), ("*",))
    assert (memorized.kind.threshold, memorized.margin, memorized.on_inconclusive) == (0.5, 1.0, "warn")
    assert memorized.groups == ("overall",)
    assert policy_of(read) is read


def test_a_policy_in_pyproject(tmp_path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(
        "[project]\nname = 'x'\n[tool.memaudit]\nschema = 1\n[tool.memaudit.rules.r]\nkind = 'gap'\nmargin = 1\n"
    )
    read = policy_of(file)
    assert [found.name for found in read.rules] == ["r"]
    assert read.lines == {"r": 5}
    assert find_policy(tmp_path) == str(file)
    own = tmp_path / "memaudit.toml"
    own.write_text("schema = 1")
    assert find_policy(tmp_path) == str(own)
    own.unlink()
    file.write_text("[project]\nname = 'x'\n")
    with pytest.raises(ConfigurationError, match=r"no \[tool.memaudit\]"):
        find_policy(tmp_path)
    with pytest.raises(ConfigurationError, match=r"no table \[tool.memaudit\]"):
        policy_of(file)


def test_brackets_in_texts_are_no_headers(tmp_path) -> None:
    file = tmp_path / "p.toml"
    text = (
        'schema = 1\nrules.inline = {kind = "gap", margin = 1}\n[rules.r]\nreason = """\n[rules.s]\n"""\nkind = "gap"\n'
    )
    file.write_text(text + 'margin = 1\n[rules.s]\nkind = "gap"\nmargin = 1\n')
    assert policy_of(file).lines["r"] == 3
    assert policy_of(file).lines["inline"] == 1


R = rule("drop", 0.1)
WRONG = [
    ({}, ["schema = None", "schema = 1"]),
    ({"schema": 2, "rules": {"r": R}}, ["schema = 2"]),
    ({"schema": 1}, ["no rules"]),
    ({"schema": 1, "rules": []}, ["no rules"]),
    ({"schema": 1, "rule": {"r": R}}, ["unknown key 'rule'", "did you mean 'rules'?"]),
    ({"schema": 1, "alfa": 0.1, "rules": {"r": R}}, ["unknown key 'alfa'", "'alpha'"]),
    ({"schema": 1, "alpha": 0.5, "rules": {"r": R}}, ["alpha = 0.5"]),
    ({"schema": 1, "alpha": "x", "rules": {"r": R}}, ["alpha = 'x'", "number"]),
    ({"schema": 1, "on_inconclusive": "skip", "rules": {"r": R}}, ["on_inconclusive = 'skip'", "pass, warn, fail"]),
    ({"schema": 1, "looks": {"plan": 3}, "rules": {"r": R}}, ["looks: unknown key 'plan'", "'planned'"]),
    ({"schema": 1, "looks": {}, "rules": {"r": R}}, ["planned is missing"]),
    ({"schema": 1, "looks": {"planned": 0}, "rules": {"r": R}}, ["looks.planned = 0"]),
    ({"schema": 1, "looks": {"planned": 3, "rho": 0}, "rules": {"r": R}}, ["looks.rho"]),
    ({"schema": 1, "looks": 3, "rules": {"r": R}}, ["looks = 3", "table"]),
    (policy(r={"margin": 0.1}), ["rules.r.kind = None", "drop, excess_drop"]),
    (policy(r=rule("drops", 0.1)), ["kind = 'drops'", "did you mean 'drop'?"]),
    (policy(r={"kind": "drop"}), ["rules.r: margin is missing", "largest drop"]),
    (policy(r=rule("drop", float("nan"))), ["rules.r.margin = nan", "finite"]),
    (policy(r=rule("drop", float("inf"))), ["margin = inf"]),
    (policy(r=rule("drop", 10**400)), ["margin = 1000", "finite"]),
    (policy(r=rule("drop", True)), ["margin = True"]),
    (policy(r=rule("drop", "0.1")), ["margin = '0.1'"]),
    (policy(r=rule("drop", 0.1, group=["a"])), ["rules.r: unknown key 'group'", "did you mean 'groups'?"]),
    (policy(r=rule("drop", 0.1, threshold=0.5)), ["unknown key 'threshold'"]),
    (policy(r=rule("drop", 0.1, groups=[])), ["groups = []"]),
    (policy(r=rule("drop", 0.1, groups=[1])), ["groups = [1]"]),
    (policy(r=rule("drop", 0.1, treatments={})), ["treatments = {}", "list"]),
    (policy(r=rule("drop", 0.1, min_n=0)), ["min_n = 0"]),
    (policy(r=rule("drop", 0.1, min_n=2.5)), ["min_n = 2.5"]),
    (policy(r=rule("drop", 0.1, informational="yes")), ["informational = 'yes'", "true or false"]),
    (policy(r=rule("drop", 0.1, reason=3)), ["reason = 3"]),
    (policy(r=rule("drop", 0.1, waivers=[{"expires": "2027-01-01"}])), ["waivers[0]: reason is missing"]),
    (policy(r=rule("drop", 0.1, waivers=[{"reason": "r"}])), ["waivers[0]: expires is missing"]),
    (policy(r=rule("drop", 0.1, waivers=[{"reason": " ", "expires": "2027-01-01"}])), ["reason is empty"]),
    (policy(r=rule("drop", 0.1, waivers=[{"reason": "r", "expires": "soon"}])), ["expires = 'soon'", "2027-06-30"]),
    (policy(r=rule("drop", 0.1, waivers={"reason": "r"})), ["waivers = ", "list"]),
    (policy(r=rule("drop", 0.1, waivers=[{"reason": "r", "until": 1}])), ["unknown key 'until'"]),
    (policy(r=rule("memorization_prevalence", 0.1, threshold=1)), ["rules.r.threshold = 1"]),
    (policy(r=rule("epsilon", 3, delta=0)), ["rules.r.delta = 0"]),
    (policy(r=rule("regression", 3, metric="loss")), ["rules.r.metric = 'loss'", "accuracy, drop, memorization"]),
    (policy(r=3), ["rules.r = 3", "table"]),
]  # fmt: skip


@pytest.mark.parametrize(("given", "words"), WRONG, ids=[words[0] for _, words in WRONG])
def test_mistakes_are_named(given, words) -> None:
    with pytest.raises(ConfigurationError) as caught:
        policy_of(given)
    assert all(word in str(caught.value) for word in words), caught.value
    assert caught.value.exit_code == 2


def test_files_that_cannot_be_read(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="--init"):
        policy_of(tmp_path / "none.toml")
    file = tmp_path / "bad.toml"
    file.write_text("schema = ")
    with pytest.raises(ConfigurationError, match="not TOML"):
        policy_of(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not TOML"):
        policy_of(file)
    with pytest.raises(ConfigurationError, match="policy=3"):
        policy_of(3)


def test_shares_of_alpha_sum_to_it() -> None:
    for rho in (0.5, 1.0, 3.0):
        looks = Looks(7, rho)
        assert sum(looks.alpha(0.05, look) for look in range(1, 8)) == pytest.approx(0.05)
        assert looks.alpha(0.05, 8) == 0
    assert Policy(()).alpha == 0.05

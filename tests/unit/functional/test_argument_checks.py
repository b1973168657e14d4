"""One table for the checks of every public function: a good call, and bad values of its arguments.

A message reads ``argument=value: what is needed``: it begins with the name of the argument at fault (or with the name
that the table gives beside it), and shows the value, or of an array its shape or the element at fault.
"""

from __future__ import annotations

import inspect
import math
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional import influence, long_tail, memorization

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGES = ("accounting", "impact", "influence", "intervals", "long_tail", "memorization", "subgroups", "uncertainty")
NAN, INF = math.nan, math.inf

EYE = np.eye(4)
MASK = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1]])
ONES = np.ones((2, 3))
TWELVE = np.random.default_rng(0).random((12, 5)) < 0.5
LAW = long_tail.marginal(long_tail.zipf(30))
PAIRS = influence.InfluencePairs(np.array([0]), np.array([0]), np.array([1.0]))
DROP = import_module("lightning_memaudit.functional.impact").accuracy_drop(np.ones((4, 9)), np.ones((4, 9)), [0] * 9)
RATES = influence.false_discovery_rate(EYE, EYE, n_permutations=1)
GROUPS = {"a": long_tail.Group(1.0, LAW)}

NO_PROBABILITY = [0.0, 1.0, -0.1, NAN, True, "0.5"]
NO_COUNT = [0, -1, 2.5, True, "2"]
NO_SHARE = [-0.1, 1.1, NAN, True]  # 0 and 1 are shares
NO_CORRECT = [np.ones(4), np.ones((1, 4)), EYE * 2, EYE - 1, [["a", "b"]] * 2]
NO_MASK = [np.ones((4, 9)), np.ones((3, 4)), EYE * 2, EYE * NAN]
NO_EPSILON = [-0.1, NAN, True]
NO_SEEN = [[], [0, 0], [1, -1], [1, 0.5], [1, NAN], [[1, 2]]]
NO_LITERAL = ["something else"]


class Bad(NamedTuple):
    """Bad values of an argument, with what else changes, and the name in the message where it is another."""

    argument: str
    values: list[Any]
    more: Mapping[str, Any] = MappingProxyType({})
    named: str = ""


class Case(NamedTuple):
    """A good call, and what is refused."""

    good: dict[str, Any]
    bad: list[Bad]


def case(good: dict[str, Any], *more: Bad, **bad: list[Any]) -> Case:
    return Case(good, [*more, *(Bad(argument, values) for argument, values in bad.items())])


SCORES = {"correct": EYE, "mask": EYE}
NO_SCORES = {"correct": NO_CORRECT, "mask": NO_MASK}
PROPORTION = {"k": 1, "n": 2}
NO_PROPORTION = {"k": [3, -1, [1, 3], "many"], "n": [-2, INF, [2, -1]], "level": NO_PROBABILITY}
TWO = {"k1": 1, "n1": 2, "k2": 1, "n2": 2}
NO_TWO = {"k1": [3, -1, ["a"]], "n1": [-2], "k2": [5], "n2": [-2, INF], "level": NO_PROBABILITY}
NO_BROADCAST = Bad("k1", [[1, 1]], {"k2": [1, 1, 1]})
MEANS = {"values": [1.0, 0.0], "groups": [0, 1]}
NO_MEANS = [
    Bad("values", [[1, NAN]]),
    Bad("values", [[[1, 0]]], {"groups": None}),
    Bad("groups", [[0, -1], [0, 0.5], [0]]),
    Bad("groups", [[0, 2]], {"n_groups": 2}),
    Bad("n_groups", NO_COUNT),
]
COMPARED = [Bad("method", NO_LITERAL), Bad("overall", [None], {"groups": None, "method": "to_overall"})]
ARMS = {"base": ONES, "treated": ONES, "groups": [0, 0, 0]}
NO_ARMS = [
    Bad("groups", [[0, 0], [0, 0, -1], [0, 0, NAN]]),
    Bad("groups", [[0, 0, 2]], {"n_groups": 2}),
    Bad("groups", [[]], {"base": ONES[:, :0], "treated": ONES[:, :0]}),
    Bad("treated", [np.ones((2, 4))]),
]
NO_PAIRED_ARMS = [*NO_ARMS, Bad("treated", [np.ones((3, 3))], {"paired": True})]
SLOPE = {"base": TWELVE, "mask": TWELVE, "treated": TWELVE, "pairs": np.arange(12)}
NO_SLOPE = [
    Bad("pairs", [None]),
    Bad("pairs", [[0, 12], [1, 1], [0, -1], [0]], {"treated": TWELVE[:2]}),
    Bad("treated_mask", [TWELVE]),
    Bad("treated_mask", [TWELVE[:3]], {"pairs": None}),
    Bad("treated", [TWELVE[:, :3], TWELVE[:1]]),
    Bad("base", [TWELVE[:5]], {"mask": TWELVE[:5], "treated": TWELVE[:5], "pairs": np.arange(5)}),
    Bad("base", [TWELVE[:8]], {"mask": TWELVE[:8], "treated": TWELVE[:5], "pairs": np.arange(5)}),
    Bad("base", [TWELVE[:1], TWELVE * 2.0]),
    Bad("mask", [TWELVE[:3]]),
    Bad("condition", NO_LITERAL),
    Bad("blocks", [[0] * 12, [0, 1]]),
    Bad("level", NO_PROBABILITY),
]
VOTES = {"base_predictions": [[0, 1]], "treated_predictions": [[0, 2]]}
NO_VOTES = {
    "base_predictions": [[[0, -1]], [[0, 0.5]], [[0, NAN]], np.empty((0, 2)), [0, 1]],
    "treated_predictions": [[[0, 1, 2]], [[0, -1]]],
    "n_labels": [2, *NO_COUNT],
}
INFLUENCE = {"correct_test": EYE, "mask": EYE}
NO_SELECTION = [
    Bad("top_k", NO_COUNT),
    Bad("threshold", [NAN, True, 2.0]),
    Bad("block", NO_COUNT),
    Bad("out", [np.empty((2, 2), dtype=np.float32), np.empty((4, 4))]),
    Bad("out", ["x.npy"], {"top_k": 1}),
    Bad("mask", NO_MASK[1:]),
]
PERMUTED = {"correct": EYE, "mask": EYE, "n_permutations": 1}
NO_PERMUTED = [
    Bad("n_permutations", NO_COUNT),
    Bad("max_columns", [0, -1]),
    Bad("min_models", NO_COUNT),
    Bad("block", NO_COUNT),
    Bad("blocks", [[0, 0, 0, 1], [0] * 4, [0, 1]]),
    Bad("correct", NO_CORRECT),
]
NO_CLASSES = [1, 0, -2, 2.5, True]
NO_N = [0, -1, 2.5, 10**11, True]
COST = {"marginal": LAW, "n_samples": 20, "n_classes": 10}
NO_COST = [
    Bad("n_samples", NO_N),
    Bad("n_classes", NO_CLASSES),
    Bad("max_count", NO_COUNT),
    Bad("confidence", NO_SHARE),
    Bad("confidence", [0.5], {"max_count": 2}),
]
DP = {"epsilon": 1.0}
NO_DP = [
    Bad("epsilon", NO_EPSILON),
    Bad("delta", NO_SHARE),
    Bad("bound", NO_LITERAL),
    Bad("adjacency", NO_LITERAL),
]
BY_GROUP = {"groups": GROUPS, "n_samples": 20, "n_classes": 10}
NO_BY_GROUP = [
    Bad("groups", [{}, {"a": long_tail.Group(0.5, LAW)}, {"a": GROUPS["a"], "b": long_tail.Group(0, LAW)}]),
    Bad("groups", [{"a": long_tail.Group(1.5, LAW)}], named="groups['a'].share"),
    Bad("n_samples", NO_N),
    Bad("n_classes", NO_CLASSES),
    Bad("group_size", NO_LITERAL),
]
SEEN = {"marginal": LAW, "n_samples": 20, "ell": 1}
NO_ELL = [21, [-1], 0.5, NAN]
NOISE = {"target_epsilon": 3.0, "target_delta": 1e-5, "sample_rate": 0.05}
NO_NOISE = [
    Bad("target_epsilon", [0.0, -1.0, NAN, INF, True]),
    Bad("target_delta", NO_PROBABILITY),
    Bad("sample_rate", [0.0, 1.1, NAN]),
    Bad("history", [[(-1.0, 0.05, 1)], [(NAN, 0.05, 1)]], named="noise_multiplier"),
]

TABLE: dict[str, Case] = {
    "intervals.wilson": case(PROPORTION, **NO_PROPORTION),
    "intervals.clopper_pearson": case(PROPORTION, **NO_PROPORTION),
    "intervals.wald_difference": case(TWO, NO_BROADCAST, **NO_TWO),
    "intervals.newcombe": case(TWO, NO_BROADCAST, **NO_TWO),
    "intervals.agresti_caffo": case(TWO, NO_BROADCAST, **NO_TWO, pseudo_counts=NO_LITERAL),
    "intervals.paired_newcombe": case(
        {"a": 1, "b": 1, "c": 0, "d": 0}, b=[-1], d=[INF], correction=NO_LITERAL, level=NO_PROBABILITY
    ),
    "intervals.tango": case(
        {"b": 1, "c": 1, "n": 5}, Bad("b", [5], named="b + c"), b=[6, -1], c=[9], n=[-1], level=NO_PROBABILITY
    ),
    "intervals.welch_floor": case(
        {"mean1": 1.0, "variance1": 0.0, "n1": 9, "mean2": 0.0, "variance2": 0.0, "n2": 9},
        mean1=[1.5, -0.1],
        variance1=[-1],
        n2=[-1, INF],
        level=NO_PROBABILITY,
    ),
    "subgroups.as_groups": case({"groups": [0, 1], "size": 2}, groups=[[0, -1], [0]], n_groups=NO_COUNT),
    "subgroups.by_group": case(
        MEANS | {"n_groups": 2}, values=[1.0, [[[1, 0]]]], groups=[[0, -1], [0, 2], [0], [0, 0.5]], n_groups=NO_COUNT
    ),
    "subgroups.worst_group": case(MEANS, *NO_MEANS),
    "subgroups.difference": case(MEANS, *NO_MEANS, *COMPARED),
    "subgroups.ratio": case(MEANS, *NO_MEANS, *COMPARED, values=[[1, -1]]),
    "subgroups.by_group_and_label": case(
        MEANS | {"labels": [0, 0], "n_groups": 2, "n_labels": 1},
        groups=[[0, 3]],
        labels=[[0, 1], [0]],
        n_groups=NO_COUNT,
        n_labels=NO_COUNT,
    ),
    "subgroups.intersection": case(
        {"groups": [0, 1], "labels": [0, 1], "n_labels": 2}, groups=[[0, -1]], labels=[[0, 3]], n_labels=NO_COUNT
    ),
    "subgroups.group_accuracy": case(
        {"correct": [1], "groups": [0], "n_groups": 1},
        correct=[[0.5], [NAN]],
        groups=[[1], [0, 0]],
        width=NO_PROBABILITY,
        level=NO_PROBABILITY,
    ),
    "accounting.epsilon_spent": case(
        {"history": [(1.0, 0.05, 1)], "target_delta": 1e-5}, NO_NOISE[-1], target_delta=NO_PROBABILITY
    ),
    "accounting.noise_multiplier": case(NOISE | {"steps": 400}, *NO_NOISE, target_epsilon=[1e-6, 1e7], steps=NO_COUNT),
    "accounting.affordable_steps": case(
        NOISE | {"noise_multiplier": 1.0, "at_most": 40}, *NO_NOISE, noise_multiplier=[-1.0, NAN], at_most=[-1, 0.5]
    ),
    "memorization.memorization_score": case(SCORES, **NO_SCORES),
    "memorization.c_score": case(SCORES, **NO_SCORES),
    "memorization.interval_method": case({"correct": EYE}, correct=NO_CORRECT, method=NO_LITERAL),
    "memorization.memorization_interval": case(SCORES, **NO_SCORES, level=NO_PROBABILITY, method=NO_LITERAL),
    "memorization.grouped_memorization": case(
        SCORES | {"groups": [0, 0, 1, 1], "n_groups": 2},
        **NO_SCORES,
        groups=[[0, 0, 0, 3], [0], [0, 0, 0, NAN]],
        n_groups=NO_COUNT,
        level=NO_PROBABILITY,
        blocks=[[0] * 4, [0, 1]],
    ),
    "memorization.worst_case_standard_error": case(
        {"n_models": 4, "subset_fraction": 0.5}, n_models=NO_COUNT, subset_fraction=NO_PROBABILITY
    ),
    "memorization.models_for_in_and_out": case(
        {"n_examples": 4, "subset_fraction": 0.5},
        n_examples=NO_COUNT,
        subset_fraction=NO_PROBABILITY,
        probability=NO_PROBABILITY,
    ),
    "memorization.adjusted_memorization_score": case(
        SCORES | {"covariate": np.arange(4)}, **NO_SCORES, covariate=[[1.0, 2.0], [1.0, NAN, 2.0, 3.0]]
    ),
    "memorization.memorization_bins": case(
        {"memorization": [0.5]}, memorization=[[[0.5]]], edges=[[0.1], [1, 0], [0, 0], [0, NAN]]
    ),
    "memorization.prevalence": case(
        SCORES,
        **NO_SCORES,
        threshold=[1.0, -1.0, 25, NAN, True],
        level=NO_PROBABILITY,
        n_bootstrap=[-1, 0.5],
        method=NO_LITERAL,
        blocks=[[0] * 4],
    ),
    "memorization.prevalence_bounds": case(
        SCORES | {"groups": [0] * 4, "n_groups": 1},
        **NO_SCORES,
        groups=[[1] * 4, [0]],
        n_groups=NO_COUNT,
        threshold=[1.0, NAN],
        spent=[0.0, 1.5, NAN],
    ),
    "memorization.reliability": case(
        SCORES, Bad("correct", [EYE[:3]], {"mask": EYE[:3]}), **NO_SCORES, n_splits=NO_COUNT, blocks=[[0] * 3, [0] * 4]
    ),
    "memorization.split_half_reliability": case(SCORES, **NO_SCORES, blocks=[[0] * 3]),
    "memorization.models_for_reliability": case(
        {"n_models": 4, "reliability": 0.5, "target": 0.9}, n_models=NO_COUNT, target=NO_PROBABILITY
    ),
    "memorization.reached": case(
        {"rule": memorization.Settled(looks=(4, 8)), "correct": EYE, "mask": EYE, "look_index": 0},
        Bad("correct", [np.eye(5)], {"mask": np.eye(5)}),
        **NO_SCORES,
        look_index=[2, -1, 0.5],
    ),
    "influence.influence": case(INFLUENCE, *NO_SELECTION, correct_test=NO_CORRECT),
    "influence.influence_given_out": case(SCORES, *NO_SELECTION, correct=NO_CORRECT, min_models=NO_COUNT),
    "influence.high_influence_pairs": case(
        INFLUENCE | {"memorization": [1] * 4, "labels_train": [0] * 4, "labels_test": [0] * 4},
        correct_test=NO_CORRECT,
        mask=NO_MASK[1:],
        memorization=[[1], [[1]]],
        labels_train=[[0], [0.5] * 4],
        labels_test=[[0]],
        memorization_threshold=[NAN, 2.0],
        influence_threshold=[NAN, 2.0],
        block=NO_COUNT,
    ),
    "influence.expected_false_pairs": case(
        {"n_in": 9, "n_out": 9, "n_tests": 9}, n_in=[0, NAN, INF], n_out=[-1], n_tests=NO_COUNT, threshold=[NAN, 2.0]
    ),
    "influence.minimum_detectable_influence": case(
        {"n_in": 9, "n_out": 9, "n_tests": 9},
        n_in=[0, NAN],
        n_out=[-1],
        n_tests=NO_COUNT,
        level=NO_PROBABILITY,
        power=NO_PROBABILITY,
    ),
    "influence.influence_mass": case(
        {"influence": np.ones((2, 3)), "memorization": [1, 0]},
        Bad("n_test", [None, 0], {"influence": PAIRS}),
        Bad("memorization", [[]], {"influence": PAIRS, "n_test": 1}, named="influence"),
        influence=[np.ones((1, 3)), np.ones(2)],
        memorization=[[[1, 0]]],
        influence_threshold=[NAN],
        memorization_threshold=[NAN],
    ),
    "influence.false_discovery_rate": case(
        PERMUTED,
        *NO_PERMUTED,
        Bad("mask", NO_MASK[1:]),
        Bad("labels_test", [None], {"labels_train": [0] * 4}),
        statistic=NO_LITERAL,
        thresholds=[[], [[0.5]]],
        rows=[[9], [0.5]],
    ),
    "influence.threshold_for_fdr": case({"found": RATES}, level=NO_PROBABILITY),
    "influence.near_duplicates": case(
        PERMUTED,
        *NO_PERMUTED,
        mask=NO_MASK,
        influence_threshold=[0.0, 1.5, NAN],
        level=NO_PROBABILITY,
        labels=[[0], [0.5] * 4],
    ),
    "impact.accuracy_drop": case(
        ARMS,
        *NO_PAIRED_ARMS,
        Bad("interval", NO_LITERAL),
        Bad("interval", ["bootstrap"], {"base": np.array([[1, NAN, 1], [1, 1, 1]])}),
        Bad("n_resamples", [5, 0], {"interval": "bootstrap"}),
        base=[ONES * 2, np.ones(3), np.ones((0, 3)), [["a"] * 3]],
        level=[*NO_PROBABILITY, 95],
    ),
    "impact.value_drop": case(
        ARMS, *NO_PAIRED_ARMS, base=[ONES[:1], np.ones(3), -INF * ONES], treated=[ONES * INF], level=NO_PROBABILITY
    ),
    "impact.decompose_drop": case(
        {"base": ONES, "clip_only": ONES, "private": ONES, "groups": [0, 0, 0]},
        Bad("private", [np.ones((3, 3))], {"paired": True}),
        base=[ONES * 2],
        clip_only=[np.ones((2, 4)), ONES * 2],
        private=[np.ones((2, 4)), ONES * -1],
        groups=[[0, 0, -1], [0]],
        n_groups=NO_COUNT,
        level=NO_PROBABILITY,
    ),
    "impact.error_rate": case(
        {"correct": ONES, "groups": [0, 0, 0]},
        Bad("groups", [[]], {"correct": ONES[:, :0]}),
        correct=[ONES * 2, np.ones(3)],
        groups=[[0], [0, 0, -1]],
        n_groups=NO_COUNT,
    ),
    "impact.hooker_test": case(ARMS, *NO_ARMS, base=[ONES[:1]], shift=NO_LITERAL, level=NO_PROBABILITY),
    "impact.calibration_by_group": case(
        {"confidence": [0.5], "correct": [1], "groups": [0], "n_groups": 1},
        confidence=[[1.2], [NAN], [[0.5]]],
        correct=[[0.5], [1, 0]],
        groups=[[1], [0, 0]],
        n_groups=NO_COUNT,
        n_bins=NO_COUNT,
        level=NO_PROBABILITY,
    ),
    "impact.memorization_slope": case(SLOPE, *NO_SLOPE, n_splits=NO_COUNT),
    "impact.drop_by_memorization": case(SLOPE, *NO_SLOPE, edges=[[0], [1, 0]]),
    "impact.exemplars": case(VOTES, **NO_VOTES, tie=NO_LITERAL),
    "impact.taxicab_exemplars": case(VOTES, **NO_VOTES),
    "impact.exemplar_odds": case(
        {"exemplar": [1], "memorization": [0.5]}, exemplar=[[1, 0], [0.5]], edges=[[1, 0], [0]], level=NO_PROBABILITY
    ),
    "impact.decision_size": case({"found": DROP}, power=NO_PROBABILITY, margin=[NAN]),
    "impact.group_size": case(
        {"margin": 0.05, "discordance": 0.1},
        margin=[0.0, NAN],
        discordance=[1.5, 0.0, NAN],
        drop=[-0.2, NAN],
        n_groups=NO_COUNT,
        level=NO_PROBABILITY,
        power=NO_PROBABILITY,
    ),
    "long_tail.zipf": case({"n_points": 5}, n_points=[*NO_COUNT, 10**18 + 1], exponent=[-1, NAN, INF]),
    "long_tail.uniform": case({"n_points": 5}, n_points=[*NO_COUNT, 10**18 + 1]),
    "long_tail.two_level": case(
        {"n_points": 5, "n_heavy": 1, "heavy_mass": 0.5}, n_points=[1], n_heavy=[5, *NO_COUNT], heavy_mass=NO_SHARE
    ),
    "long_tail.dirichlet": case(
        {"n_points": 5, "concentration": 0.3}, n_points=NO_COUNT, concentration=[0, -1, INF, NAN]
    ),
    "long_tail.from_frequencies": case({"frequencies": [1, 2]}, frequencies=[[], [0, 0], [1, -2], [1, NAN], [[1, 2]]]),
    "long_tail.marginal": case(
        {"prior": long_tail.zipf(3)},
        Bad("mode", ["list"], {"prior": long_tail.dirichlet(3, 1.0)}),
        prior=[[0.5, 0.5]],
        mode=NO_LITERAL,
    ),
    "long_tail.tau": case(SEEN, ell=NO_ELL, n_samples=NO_N),
    "long_tail.expected_count": case(SEEN, ell=NO_ELL, n_samples=NO_N),
    "long_tail.expected_mass": case(SEEN, ell=NO_ELL, n_samples=NO_N),
    "long_tail.missing_mass": case({"marginal": LAW, "n_samples": 20}, n_samples=NO_N),
    "long_tail.singleton_lower_bound": case({"marginal": LAW, "n_samples": 20}, n_samples=NO_N),
    "long_tail.tau_1_lower_bound": case({"marginal": LAW, "n_samples": 20}, n_samples=[2, *NO_N]),
    "long_tail.optimal_error": case(COST, n_samples=NO_N, n_classes=NO_CLASSES),
    "long_tail.guess_error": case({"n_classes": 2}, n_classes=NO_CLASSES),
    "long_tail.cost_of_not_fitting": case(COST, *NO_COST),
    "long_tail.cost_of_limited_memorization": case(COST | {"gamma": 0.1}, *NO_COST, gamma=NO_SHARE),
    "long_tail.cost_of_dp": case(COST | DP, *NO_COST, *NO_DP),
    "long_tail.disparate_cost": case(BY_GROUP | {"gamma": 0.1}, *NO_BY_GROUP, gamma=NO_SHARE),
    "long_tail.disparate_dp_cost": case(BY_GROUP | DP, *NO_BY_GROUP, *NO_DP),
    "long_tail.prediction_bound": case(DP | {"n_classes": 2}, *NO_DP, n_classes=NO_CLASSES),
    "long_tail.group_privacy": case(
        {"epsilon": 1.0, "delta": 0.0, "size": 2}, epsilon=NO_EPSILON, delta=NO_SHARE, size=NO_COUNT
    ),
    "long_tail.label_confidence": case({"label_noise": 0.1}, label_noise=NO_SHARE, test_labels=NO_LITERAL),
    "long_tail.mean_memorization": case(
        {"test_error": 0.1, "train_error": 0.0}, test_error=NO_SHARE, train_error=NO_SHARE
    ),
    "long_tail.zipf_limit": case({"n_points": 9, "n_samples": 20}, n_points=NO_COUNT, n_samples=NO_N),
    "long_tail.predicted_excess": case(
        {"tau": [0.1], "errn": [1], "ell": [1]},
        tau=[[1.5], [-1], [0.1, 0.1]],
        errn=[[1, 2], [-1], [NAN]],
        ell=[[0], [0.5], [NAN]],
        coupling=[2, [0.1, 0.1]],
        confidence=[NAN, -1],
        unit=NO_LITERAL,
    ),
    "long_tail.good_turing": case(
        {"counts": [1, 2], "ell": 1},
        counts=NO_SEEN,
        ell=[4, -1, 0.5, [[1]]],
        smoothing=NO_LITERAL,
        level=NO_PROBABILITY,
        n_bootstrap=[5, 0],
        seed=[-1],
    ),
    "long_tail.good_turing_tau": case(
        {"counts": np.repeat([1, 2, 3], [40, 12, 6]), "ell": 1}, counts=NO_SEEN, ell=[95, -1, NAN], smoothing=NO_LITERAL
    ),
    "long_tail.good_turing_missing_mass": case({"counts": [1, 2]}, counts=NO_SEEN, level=NO_PROBABILITY),
    "long_tail.rank_frequency": case({"counts": [1, 2]}, counts=NO_SEEN),
    "long_tail.fit_tail": case({"counts": [1, 2, 3]}, counts=NO_SEEN, xmin=NO_COUNT, level=NO_PROBABILITY),
    "long_tail.tail_cost": case(
        {
            "base": np.ones((2, 4)),
            "treated": np.ones((2, 4)),
            "mask": np.array([[1, 1, 0, 1]] * 2),
            "atoms": [0, 1, 2, 2],
            "prediction": np.zeros((2, 4)),
            "n_bootstrap": 50,
        },
        base=[NAN * np.ones((2, 4)), -np.ones((2, 4)), np.ones(4)],
        treated=[5 * np.ones((2, 4)), np.ones((3, 4))],
        mask=[np.ones((3, 4))],
        prediction=[np.zeros((2, 3))],
        atoms=[[0, 1, 2], [0, 1, 2, -1]],
        parts=[[0, 1], [0, 1, -1]],
        ell_max=NO_COUNT,
        level=NO_PROBABILITY,
        n_bootstrap=[5],
        seed=[-1],
    ),
    "uncertainty.adjust_p_values": case({"p": [0.1, NAN]}, p=[[1.5], [-0.1], [[0.5]]], method=NO_LITERAL),
    "uncertainty.one_sided_p_value": case({"found": DROP.two_way, "margin": 0.0}, alternative=["two-sided"]),
}
#: Parts of other functions: what they get was checked by these, or is the result of one of them.
PARTS = {
    "impact.size_law",
    "intervals.tango_upper",
    "intervals.tango_within",
    "memorization.in_out_sums",
    "uncertainty.against_rest",
    "uncertainty.assemble",
    "uncertainty.example_means",
    "uncertainty.form_of",
    "uncertainty.joined",
    "uncertainty.relative_interval",
    "uncertainty.summarise",
    "uncertainty.take",
    "uncertainty.two_way",
}
CALLS = [
    pytest.param(name, bad, value, id=f"{name}-{bad.argument}-{index}-{number}")
    for name, (_, refused) in TABLE.items()
    for index, bad in enumerate(refused)
    for number, value in enumerate(bad.values)
]


def function(name: str) -> Any:
    package, own = name.split(".")
    return getattr(import_module(f"lightning_memaudit.functional.{package}"), own)


def texts(value: Any) -> list[str]:
    """What a message may show of a value: itself, its shape, or one of its elements."""
    if isinstance(value, influence.InfluencePairs):
        return ["InfluencePairs"]
    if isinstance(value, dict):  # groups by name are shown by their shares
        return [repr([group.share for group in value.values()]), *(repr(group.share) for group in value.values())]
    found = [repr(value)[:40]]
    if isinstance(value, list | tuple | np.ndarray):
        array = np.asarray(value)
        found += [str(list(array.shape)), *map(repr, array.ravel().tolist())]
        if array.dtype.kind not in "OU":
            found += [repr(float(x)) for x in array.ravel().tolist()]
    elif isinstance(value, int | float):
        found += [repr(float(value)), f"{value:g}"]
    return found


def public() -> set[str]:
    found = set()
    for package in PACKAGES:
        module = import_module(f"lightning_memaudit.functional.{package}")
        names = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        ]
        found |= {f"{package}.{name}" for name in names if inspect.isfunction(getattr(module, name))}
    return found


def test_every_public_function_is_in_the_table() -> None:
    # Records are written and read elsewhere, with errors of their own.
    there = {name for name in public() if not name.endswith(("_record", "_of")) or name in PARTS}
    assert there == TABLE.keys() | PARTS
    assert not TABLE.keys() & PARTS


@pytest.mark.parametrize("name", TABLE)
def test_the_good_call_is_fine(name: str) -> None:
    with np.errstate(all="ignore"):
        function(name)(**TABLE[name].good)


@pytest.mark.parametrize(("name", "bad", "value"), CALLS)
def test_a_bad_value_is_refused_by_name_and_shown(name: str, bad: Bad, value: Any) -> None:
    good = TABLE[name].good
    with pytest.raises(ArgumentError) as caught:
        function(name)(**(good | dict(bad.more) | {bad.argument: value}))
    message = str(caught.value)
    assert message.startswith((f"{bad.named or bad.argument}=", f"{bad.named or bad.argument}[")), message
    shown, _, needed = message.partition(": ")
    assert "need" in needed or "take" in needed or "raise" in needed or "lower" in needed, message
    if value is not None or "=None" in shown:
        given = [bad.more.get("influence", value)] if bad.named == "influence" else [value]
        given += [part for record in value for part in record] if bad.argument == "history" else []
        assert any(text in shown for one in given for text in texts(one)) or bad.named == "b + c", message

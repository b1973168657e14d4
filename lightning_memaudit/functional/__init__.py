"""Pure functions on arrays: no Lightning, no files, no figures.

Modules:
    adjustment: regression adjustment of memorization for model quality.
    arms: sums and counts of outcomes with an example in and out of the subset.
    checks: conversion of arguments to arrays, and their checks.
    discovery: false discovery rate of influence, near-duplicates (also found in ``influence``).
    influence: influence of train on test examples.
    intervals: confidence intervals of proportions and their differences.
    memorization: memorization score, C-score, intervals, means over groups.
    pairs: blocks of influence values and the pairs that stand out.
    prevalence: how many examples are memorized.
    reliability: agreement of scores from disjoint halves of the models.
    stopping: rules for training no more models than needed.
"""

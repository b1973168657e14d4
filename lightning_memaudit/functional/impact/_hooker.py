"""The test of Hooker et al.: does a class change more than the model as a whole?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import (
    Array,
    FloatArray,
    IntArray,
    argument_error,
    as_choice,
    as_correct,
    as_probability,
)
from lightning_memaudit.functional.subgroups import as_groups, by_group
from lightning_memaudit.functional.uncertainty import adjust_p_values

Shift = Literal["per_model", "population_mean"]


@dataclass(frozen=True, slots=True)
class HookerTest:
    """Welch's test of each class's change beside that of the whole model; one entry a class.

    Attributes:
        group: Class codes 0 to C − 1, int64[C].
        n: Examples of the class, int64[C].
        drop: Accuracy of the base minus that of the treated arm, float64[C].
        relative_drop: ``drop`` minus the drop over all examples; what is tested against 0.
        low: Lower end of its Welch interval, over models only.
        high: Upper end.
        t: Welch's statistic.
        df: Satterthwaite's degrees of freedom.
        p: Two-sided p-value; NaN where neither arm varies, or for a class without examples.
        p_holm: Adjusted by Holm over all classes.
        p_bh: Adjusted by Benjamini and Hochberg.
        shift: What was subtracted.
    """

    group: IntArray
    n: IntArray
    drop: FloatArray
    relative_drop: FloatArray
    low: FloatArray
    high: FloatArray
    t: FloatArray
    df: FloatArray
    p: FloatArray
    p_holm: FloatArray
    p_bh: FloatArray
    shift: Shift


def hooker_test(
    base: Array,
    treated: Array,
    groups: Array,
    *,
    shift: Shift = "per_model",
    level: float = 0.95,
    n_groups: int | None = None,
) -> HookerTest:
    """Welch's test on class accuracy minus the model's accuracy (Hooker et al. 2019, arXiv 1911.05248, section 2).

    It tests relative change: with two collapsing classes the untouched ones look like gains. It is over models, for
    these examples; ``accuracy_drop`` is what allows for both.

    Args:
        base: Outcomes of the base arm [M0, n] in [0, 1].
        treated: Outcomes of the treated arm [M1, n].
        groups: Class of each example [n], codes of at least 0.
        shift: ``"per_model"`` subtracts each model's own accuracy, as in the paper's text; ``"population_mean"`` that
            of its arm, as in the released code.
        level: Two-sided confidence level.
        n_groups: C; ``None``: the largest code plus one.

    Returns:
        One entry a class.

    Raises:
        ArgumentError: Fewer than two models in an arm, shapes that differ, or an unknown shift.

    Example:
        >>> base, treated = np.array([[1, 1, 1, 0], [1, 0, 1, 1]]), np.array([[1, 1, 0, 0], [1, 0, 0, 0]])
        >>> hooker_test(base, treated, [0, 0, 1, 1]).relative_drop
        array([-0.375,  0.375])
    """
    as_choice(shift, name="shift", options=get_args(Shift))
    as_probability(level, name="level")
    arms = [as_correct(x, name=name) for x, name in ((base, "base"), (treated, "treated"))]
    if arms[0].shape[1] != arms[1].shape[1]:
        raise argument_error("treated", arms[1], f"{arms[0].shape[1]} examples (columns) are needed, as in base")
    codes, total = as_groups(groups, size=arms[0].shape[1], n_groups=n_groups)
    if total == 0:
        raise argument_error("groups", codes, "the groups of at least one example are needed")
    raw, means, errors, freedoms = [], [], [], []
    for arm in arms:
        by_class = np.stack([by_group(row, codes, n_groups=total) for row in arm])
        whole = arm.mean(axis=1, dtype=np.float64)
        beta = by_class - (whole[:, None] if shift == "per_model" else whole.mean())
        raw.append(by_class.mean(axis=0))
        means.append(beta.mean(axis=0))
        errors.append(beta.var(axis=0, ddof=1) / len(arm))
        freedoms.append(len(arm) - 1)
    change, variance = means[0] - means[1], errors[0] + errors[1]
    # Equal rows leave a variance of rounding, which is none.
    variance = np.where(variance > 1e-24, variance, np.nan)
    df = variance**2 / sum(error**2 / freedom for error, freedom in zip(errors, freedoms, strict=True))
    t = change / np.sqrt(variance)
    half = stats.t.ppf(0.5 + level / 2, df) * np.sqrt(variance)
    p = np.asarray(2 * stats.t.sf(np.abs(t), df))
    return HookerTest(
        group=np.arange(total),
        n=np.bincount(codes, minlength=total),
        drop=raw[0] - raw[1],
        relative_drop=change,
        low=change - half,
        high=change + half,
        t=t,
        df=df,
        p=p,
        p_holm=adjust_p_values(p, method="holm"),
        p_bh=adjust_p_values(p, method="bh"),
        shift=shift,
    )

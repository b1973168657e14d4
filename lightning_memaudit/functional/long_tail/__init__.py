"""What limiting memorization must cost on long-tailed data (Feldman 2019, arXiv 1906.05271).

N points have unknown frequencies and n samples are drawn; a point seen ℓ times has expected frequency τ_ℓ, and a
learner that misses it errs by that much more than it must. On average over the prior and the sample this is exact for
learners that miss a point by its own count. For one data set it is approximate at finite N, because the frequencies
share one sum: with the list (1/2, 1/4, 1/4), N = n = 3 and ``"iid"``, τ_1 = .33171 but the expected frequency of x
given the sample (x, y, y) is .33024. Labels are uniform over m classes and free of noise unless said otherwise.

Priors (``zipf``, ``uniform``, ``two_level``, ``dirichlet``, ``from_frequencies``) give a ``marginal``, from which
``tau``, ``expected_count``, ``missing_mass`` and the ``cost_of_...`` functions follow. ``good_turing`` and ``fit_tail``
need counts instead of a prior; ``tail_cost`` predicts the cost of a treatment from the misfits of its models.
"""

from __future__ import annotations

from lightning_memaudit.functional.long_tail._costs import (
    cost_of_dp,
    cost_of_limited_memorization,
    cost_of_not_fitting,
)
from lightning_memaudit.functional.long_tail._disparate import (
    DisparateCost,
    Group,
    disparate_cost,
    disparate_dp_cost,
)
from lightning_memaudit.functional.long_tail._dp_prediction import (
    Adjacency,
    Bound,
    group_privacy,
    prediction_bound,
)
from lightning_memaudit.functional.long_tail._expectations import (
    expected_count,
    expected_mass,
    guess_error,
    missing_mass,
    optimal_error,
    tau,
)
from lightning_memaudit.functional.long_tail._good_turing import (
    GoodTuring,
    MissingMass,
    Smoothing,
    good_turing,
    good_turing_missing_mass,
    good_turing_tau,
)
from lightning_memaudit.functional.long_tail._marginals import (
    Marginal,
    MarginalMode,
    marginal,
)
from lightning_memaudit.functional.long_tail._predicted_excess import (
    Unit,
    label_confidence,
    predicted_excess,
)
from lightning_memaudit.functional.long_tail._priors import (
    DirichletPrior,
    Prior,
    dirichlet,
    from_frequencies,
    two_level,
    uniform,
    zipf,
)
from lightning_memaudit.functional.long_tail._rank_frequency import (
    TailFit,
    TailVerdict,
    fit_tail,
    rank_frequency,
)
from lightning_memaudit.functional.long_tail._tail_bounds import (
    ZipfLimit,
    mean_memorization,
    singleton_lower_bound,
    tau_1_lower_bound,
    zipf_limit,
)
from lightning_memaudit.functional.long_tail._tail_cost import (
    PredictedCost,
    TailCost,
    tail_cost,
)

__all__ = [
    "Adjacency",
    "Bound",
    "DirichletPrior",
    "DisparateCost",
    "GoodTuring",
    "Group",
    "Marginal",
    "MarginalMode",
    "MissingMass",
    "PredictedCost",
    "Prior",
    "Smoothing",
    "TailCost",
    "TailFit",
    "TailVerdict",
    "Unit",
    "ZipfLimit",
    "cost_of_dp",
    "cost_of_limited_memorization",
    "cost_of_not_fitting",
    "dirichlet",
    "disparate_cost",
    "disparate_dp_cost",
    "expected_count",
    "expected_mass",
    "fit_tail",
    "from_frequencies",
    "good_turing",
    "good_turing_missing_mass",
    "good_turing_tau",
    "group_privacy",
    "guess_error",
    "label_confidence",
    "marginal",
    "mean_memorization",
    "missing_mass",
    "optimal_error",
    "predicted_excess",
    "prediction_bound",
    "rank_frequency",
    "singleton_lower_bound",
    "tail_cost",
    "tau",
    "tau_1_lower_bound",
    "two_level",
    "uniform",
    "zipf",
    "zipf_limit",
]

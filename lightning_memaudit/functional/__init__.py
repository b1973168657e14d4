"""Pure functions on arrays: no Lightning, no files, no figures.

Memorization:
    ``memorization``, ``intervals``, ``prevalence``, ``reliability``, ``stopping``, ``adjustment``; behind them
    ``arms``, ``group_floor`` and ``checks``.

Influence:
    ``influence`` and ``discovery`` (false discoveries, near-duplicates); behind them ``counts``, ``popcount``,
    ``values`` and ``pairs``.

Impact of a treatment:
    ``impact`` gathers it: ``drops``, ``decomposition``, ``hooker``, ``exemplars``, ``slope``, ``drop_bins``,
    ``influence_mass``, ``multiplicity`` and ``sample_size``; ``subgroups`` and ``calibration`` stand by themselves.
    Behind them ``two_way``, ``crossed``, ``flips``, ``relative``, ``alternatives``, ``paired_arms`` and ``bins``.

Privacy:
    ``accounting``: what noisy steps spend of a budget.

Long tail:
    ``long_tail`` gathers it: ``priors``, ``marginals``, ``expectations``, ``predicted_excess``, ``dp_prediction``,
    ``disparate``, ``tail_bounds``, ``good_turing`` and ``simple_good_turing``; behind them ``sum_law``, ``quadrature``,
    ``log_space`` and ``ranges``.
"""

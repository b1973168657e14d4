"""What a faster way of training costs and has to gain, before it is tried and before it is taken."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Thresholds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Seconds, shares and factors on which the choice of an engine hangs, and the number of processes.

    Attributes:
        start_workers: Seconds that all models take one after the other, beyond which worker processes start while
            faster ways are tried.
        use_started_workers: Seconds that all models take in one process, set-up and scores not counted, beyond which
            workers that are about to be ready train along.
        use_workers: The same, with workers that have to be started.
        try_ensemble: Seconds that all models take one after the other, beyond which several at once are tried.
        chunk_sizes: Numbers of models at once that are tried. Gains flatten after the last, and the last chunk of a
            population is shared out the worse.
        trial_seconds: Of each number at once, in which some steps are not disturbed by other work.
        trial_share: Of all steps of all models, that one number at once may be tried for.
        trial_steps: The fewest steps of each number at once.
        ensemble_gain: How many times as fast as one model after the other several at once have to be.
        as_good_as: A number of models at once that takes so many times as long as the fastest is as good; the smallest
            is taken, which leaves more of the cache and the memory to other processes.
        compiled_steps: Steps for which a compiled step is timed, and one that is not.
        compiled_models: The most models of a compiled step; more leave the cache of a core, and calls take no time
            that they would save.
        compiling_gain: How many times as fast a compiled step is, about, where it gains anything.
        compiling_seconds: Of one process, when nothing is in the compiler's cache.
        compiling_again_seconds: The same when everything is.
        compiled_gain: How many times as fast as the step itself a compiled one has to be.
        call_seconds: How long several models are to keep a Ray actor busy in one call, where one takes less.
        worker_starts: Worker processes in a row that may end before they begin.
        actor_starts: Ray actors in a row that may end before they begin.
    """

    start_workers: float = 12.0
    use_started_workers: float = 2.0
    use_workers: float = 6.0
    try_ensemble: float = 4.0
    chunk_sizes: tuple[int, ...] = (8, 32, 64)
    trial_seconds: float = 0.2
    trial_share: float = 0.04
    trial_steps: int = 8
    ensemble_gain: float = 1.1
    as_good_as: float = 1.1
    compiled_steps: int = 18
    compiled_models: int = 32
    compiling_gain: float = 1.8
    compiling_seconds: float = 25.0
    compiling_again_seconds: float = 5.0
    compiled_gain: float = 1.1
    call_seconds: float = 2.0
    worker_starts: int = 5
    actor_starts: int = 3

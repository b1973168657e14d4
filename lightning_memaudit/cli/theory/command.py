"""``memaudit theory``: what limiting memorization must cost on long-tailed data, and for whom."""

from __future__ import annotations

import json
import math
import re
import warnings
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from lightning_memaudit.cli.output import say, warn
from lightning_memaudit.cli.theory.content import Question, from_counts, from_prior
from lightning_memaudit.cli.theory.input import number, numbers, prior_maker, read_column, whole, wholes
from lightning_memaudit.cli.theory.plot import plot
from lightning_memaudit.cli.theory.table import LIMITS_OF_COUNTS, LIMITS_OF_PRIORS, table
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.outcomes.storage import Storage

if TYPE_CHECKING:
    from jsonargparse import Namespace

__all__ = ["main"]

_KINDS = ("png", "svg")
_CUTS = (0.5, 0.8)
_OF_PRIORS = ("prior", "n_points", "n_samples", "mode", "groups")
_HELP = {
    "--prior": "Frequencies: zipf:EXPONENT (zipf:1.0 by default), uniform, two-level:N_HEAVY:MASS, dirichlet:ALPHA, or "
    "file:PATH with one frequency a line, or name,frequency.",
    "--n-points": "N, the number of points (subpopulations); a file has its own.",
    "--n-samples": "n, the number of samples.",
    "--mode": "list: the points have just these frequencies, as in the paper's figures; iid: each draws its own from "
    "the list. By default iid for dirichlet, else list.",
    "--counts": "CSV file of your own counts instead of a prior: one count a line, or name,count. Good–Turing, with "
    "95 per cent intervals.",
    "--smoothing": "Of --counts: none (by default), or simple (Gale and Sampson 1995).",
    "--classes": "m, the number of equally likely labels; 10 by default.",
    "--ell": "ℓ of the table, with commas between them; 1,2,3 by default.",
    "--gamma": "γ: largest memorization of an example, in [0, 1].",
    "--epsilon": "ε of (ε, δ)-differential privacy.",
    "--delta": "δ; 0 by default.",
    "--adjacency": "What differs between neighbours, for the sharp value: add-remove (by default; what Opacus accounts "
    "for) or label.",
    "--groups": "Shares of the mass, most frequent points first, from which torso and tail begin; 0.5,0.8 by default. "
    "For mode list.",
    "--plot": "File for a plot of cost against ε and γ, .png or .svg.",
}
_FLAGS = {
    "n_classes": "--classes",
    "n_points": "--n-points",
    "n_samples": "--n-samples",
    "exponent": "--prior zipf: EXPONENT",
    "n_heavy": "--prior two-level: N_HEAVY",
    "heavy_mass": "--prior two-level: MASS",
    "concentration": "--prior dirichlet: ALPHA",
    "frequencies": "--prior file: frequencies",
    "counts": "--counts: counts",
    **{name: f"--{name}" for name in ("gamma", "epsilon", "delta", "ell", "mode", "prior")},
}


def main(arguments: list[str]) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    kind = _kind(options.plot)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        try:
            question = _question(options)
            content = _content(options, question)
        except ArgumentError as error:
            raise ConfigurationError(_in_options(str(error))) from error
    content["notes"] += sorted({str(warning.message) for warning in caught})
    if kind:
        start = options.plot.rfind("/") + 1
        Storage(options.plot[:start] or ".", name="--plot").write(options.plot[start:], plot(content, question, kind))
    if options.json:
        say(json.dumps(_without_nan(content), indent=1, ensure_ascii=False, allow_nan=False))
        return 0
    say(table(content))
    for note in content["notes"]:
        warn(note)
    if kind:
        say(f"\nplot written to {options.plot}")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="memaudit theory",
        epilog="Example: memaudit theory --prior zipf:1.0 --n-points 50000 --n-samples 50000 --gamma 0.25",
        description="What limiting memorization must cost on long-tailed data, and for whom (Feldman 2019): for a "
        "prior of the frequencies of points, or for counts of your own. --n-points and --n-samples take several values "
        "with commas between them: one population each, side by side.",
    )
    parser.allow_abbrev = False  # a misspelt option is an error, not the one it starts like
    for option, text in _HELP.items():
        parser.add_argument(option, type=str | None, default=None, help=text)
    parser.add_argument("--json", action="store_true", help="Print JSON and nothing else.")
    return parser


def _question(options: Namespace) -> Question:
    if options.delta is not None and options.epsilon is None and options.plot is None:
        raise ConfigurationError(f"--delta {options.delta}: it goes with --epsilon, which is missing")
    question = Question(
        n_classes=whole("--classes", options.classes or "10"),
        ells=None if options.ell is None else tuple(wholes("--ell", options.ell)),
        gamma=None if options.gamma is None else number("--gamma", options.gamma),
        epsilon=None if options.epsilon is None else number("--epsilon", options.epsilon),
        delta=0.0 if options.delta is None else number("--delta", options.delta),
        adjacency=_one_of("--adjacency", options.adjacency or "add-remove", ("add-remove", "label")),
    )
    question.shortfalls()  # says what is out of range before anything is computed
    return question


def _content(options: Namespace, question: Question) -> dict[str, Any]:
    content: dict[str, Any] = {
        "prior": None,
        "mode": None,
        "counts": options.counts,
        "smoothing": None,
        "n_classes": question.n_classes,
        "gamma": question.gamma,
        "epsilon": question.epsilon,
        "delta": question.delta,
        "adjacency": question.adjacency,
        "groups": None,
        "groups_reason": None,
    }
    if options.counts is None:
        return content | _of_prior(options, question)
    for name in _OF_PRIORS:
        if (given := getattr(options, name)) is not None:
            option = "--" + name.replace("_", "-")
            raise ConfigurationError(f"{option} {given}: it does not go with --counts, which says all; leave it out")
    smoothing = _one_of("--smoothing", options.smoothing or "none", ("none", "simple"))
    population, note = from_counts(read_column("--counts", options.counts), question, smoothing=smoothing)
    return content | {
        "smoothing": smoothing,
        "groups_reason": "by their counts all singletons are in the tail, whoever they are; take the counts for the "
        f"frequencies with --prior file:{options.counts}",
        "populations": [population],
        "notes": [note] if note else [],
        "limits": LIMITS_OF_COUNTS,
    }


def _of_prior(options: Namespace, question: Question) -> dict[str, Any]:
    if options.smoothing is not None:
        raise ConfigurationError(f"--smoothing {options.smoothing}: it goes with --counts, which is missing")
    prior = options.prior or "zipf:1.0"
    make, own_points = prior_maker(prior)
    sizes = _sizes(options, own_points)
    mode = _one_of("--mode", options.mode or ("iid" if prior.startswith("dirichlet") else "list"), ("list", "iid"))
    if options.groups is not None and mode != "list":
        raise ConfigurationError(
            f"--groups {options.groups}: with --mode {mode} it is drawn which points are in the tail; take --mode list"
        )
    cuts = _cuts(options.groups) if mode == "list" else None
    return {
        "prior": prior,
        "mode": mode,
        "groups": cuts,
        "groups_reason": None if cuts else f"in mode {mode} it is drawn which points are in the tail",
        "populations": [
            from_prior(make(n_points), n_samples, question, mode=mode, cuts=cuts) for n_points, n_samples in sizes
        ],
        "notes": [],
        "limits": LIMITS_OF_PRIORS,
    }


def _sizes(options: Namespace, own_points: int | None) -> list[tuple[int, int]]:
    """(N, n) of each population; a single value goes with all of the others."""
    if options.n_samples is None:
        raise ConfigurationError("--n-samples is missing: the number of samples n, such as 50000")
    samples = wholes("--n-samples", options.n_samples)
    if own_points is not None and options.n_points is not None:
        raise ConfigurationError(
            f"--n-points {options.n_points}: the file of --prior says how many points there are ({own_points}); leave "
            "it out"
        )
    if own_points is None and options.n_points is None:
        raise ConfigurationError("--n-points is missing: the number of points N, such as 50000")
    points = [own_points] if own_points is not None else wholes("--n-points", options.n_points)
    longest = max(len(points), len(samples))
    points, samples = (values * longest if len(values) == 1 else values for values in (points, samples))
    if len(points) != len(samples):
        raise ConfigurationError(
            f"--n-points {options.n_points} --n-samples {options.n_samples}: {len(points)} and {len(samples)} values; "
            "give one of each for every population"
        )
    return list(zip(points, samples, strict=True))


def _cuts(text: str | None) -> tuple[float, ...]:
    if text is None:
        return _CUTS
    cuts = tuple(numbers("--groups", text))
    if len(cuts) != 2 or not 0 < cuts[0] < cuts[1] < 1:
        raise ConfigurationError(f"--groups {text}: two ascending shares in (0, 1) are needed, such as 0.5,0.8")
    return cuts


def _kind(plot_file: str | None) -> str | None:
    """The suffix of the plot."""
    if plot_file is None:
        return None
    name, _, kind = plot_file.rpartition("/")[2].rpartition(".")
    if not name or kind not in _KINDS:
        raise ConfigurationError(f"--plot {plot_file}: a file name that ends in .{' or .'.join(_KINDS)} is needed")
    return kind


def _one_of(option: str, value: str, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise ConfigurationError(f"{option} {value}: {' or '.join(choices)} is needed")
    return value


def _in_options(message: str) -> str:
    """A message about an argument of a function, about the option that it came from."""
    said = re.fullmatch(r"(?P<name>\w+)(\[\d+\])?=(?P<value>.*?): (?P<needed>.*)", message)
    if said is None or said["name"] not in _FLAGS:
        return message
    return f"{_FLAGS[said['name']]} {said['value'].strip(chr(39))}: {said['needed']}"


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: it is null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

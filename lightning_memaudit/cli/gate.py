"""``memaudit gate``: hold a report or a store to a policy."""

from __future__ import annotations

import datetime as dt
import difflib
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from lightning_memaudit.cli.output import say, warn
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.gates.evaluate import evaluate_gate
from lightning_memaudit.gates.judged_report import subject_of
from lightning_memaudit.gates.notices import expired, out_of_range
from lightning_memaudit.gates.output import FORMS
from lightning_memaudit.gates.policy.explain import explain
from lightning_memaudit.gates.policy.file import find_policy, has_policy, policy_of
from lightning_memaudit.gates.policy.template import starter
from lightning_memaudit.gates.reference.lock import CAN_LOCK, held
from lightning_memaudit.gates.reference.looks import looks_after
from lightning_memaudit.gates.reference.report import ReferenceReport, reference_of, write_baseline, write_looks
from lightning_memaudit.outcomes.storage import Storage

if TYPE_CHECKING:
    from argparse import Namespace

    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.policy.policy import Policy
    from lightning_memaudit.gates.verdicts import GateResult

__all__ = ["main"]

_MACHINE = ("json", "junit", "sarif")


def main(arguments: list[str]) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    if options.lint:
        return _lint(options.target)
    if options.init:
        say(starter(subject_of(_one(options.target, "--init"))))
        return 0
    targets = options.target
    if options.explain and not targets:
        say(explain(options.explain, _policy_or_none(options.policy)))
        return 0
    policy = policy_of(options.policy or find_policy())
    _check_names(policy, [*options.only, *([options.explain] if options.explain else [])])
    forms = [_form(form) for form in options.format or ["text"]]
    _check_streams(forms)
    subject = subject_of(_one(targets, "memaudit gate"))
    if options.record_look and options.baseline is None:
        raise ConfigurationError("--record-look: it counts in the baseline file; pass --baseline FILE too")
    if options.record_look and not CAN_LOCK:
        warn("--record-look: this system has no file locks that memaudit knows; run one gate at a time")
    written = {options.baseline} if options.record_look else set()
    written |= {options.update_baseline} - {None}
    with ExitStack() as locks:  # in one order, so that no two gates wait for each other
        for path in sorted({os.path.realpath(path) for path in written}):
            locks.enter_context(held(path))
        result = _judged(options, policy, subject)
    if options.explain:
        say(explain(options.explain, policy))
        result = result.only([options.explain])
    if options.only:
        result = result.only(options.only)
    for form, target in forms:
        _write(result, form, target)
    if options.exit_zero and result.exit_code:
        warn(f"the exit code would be {result.exit_code}; it is 0 because of --exit-zero")
        return 0
    return result.exit_code


def _judged(options: Namespace, policy: Policy, subject: Subject) -> GateResult:
    """Judge, and write what the options ask for into baseline files."""
    baseline = None if options.baseline is None else reference_of(options.baseline)
    if options.update_baseline is not None and baseline is None:
        baseline = ReferenceReport(None, looks={})
    result = evaluate_gate(subject, policy, baseline=baseline)
    if options.update_baseline is not None and options.baseline is not None and result.exit_code in (1, 4):
        warn(
            f"--update-baseline: {options.update_baseline} was not written, since the gate did not pass; to take this "
            "report as the new baseline all the same, leave --baseline out"
        )
    elif options.update_baseline is not None:
        write_baseline(subject, options.update_baseline, looks=looks_after(subject, baseline))
        warn(f"a new baseline is in {options.update_baseline}; later gates compare with what this report says")
        if options.baseline is not None and os.path.realpath(options.baseline) == os.path.realpath(
            options.update_baseline
        ):
            return result  # this look is counted there, and others may have counted theirs since
    if options.record_look:
        write_looks(options.baseline, looks_after(subject, baseline))
    return result


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="memaudit gate",
        epilog="Example: memaudit gate report/report.json --policy memaudit.toml",
        description="Hold a report or a store to a policy. Exit codes: 0 passed, 1 failed, 2 bad arguments or policy, "
        "3 undecided where the policy says so, 4 something is missing or does not go together.",
    )
    parser.add_argument(
        "target",
        type=str,
        nargs="*",
        metavar="TARGET",
        help="A report.json, a folder with one, or a store. With --lint: policies.",
    )
    parser.add_argument(
        "--policy", type=str | None, default=None, help="TOML file; by default memaudit.toml, or pyproject.toml."
    )
    parser.add_argument(
        "--baseline",
        type=str | None,
        default=None,
        help="What to compare with: a baseline file, a report, a store, or wandb://ENTITY/PROJECT/NAME:ALIAS.",
    )
    parser.add_argument(
        "--format",
        type=str,
        action="append",
        help=f"One of {', '.join(FORMS)}, or FORM=FILE; may be given several times. "
        "'summary' without a file goes to $GITHUB_STEP_SUMMARY where there is one.",
    )
    parser.add_argument("--only", type=str, action="append", default=[], help="Show and count this rule alone.")
    parser.add_argument("--exit-zero", action="store_true", help="End with 0 whatever the verdicts are.")
    parser.add_argument("--explain", type=str | None, default=None, help="What a rule, or a kind of rule, means.")
    parser.add_argument("--init", action="store_true", help="Print a policy made from a report, to start from.")
    parser.add_argument("--lint", action="store_true", help="Check policies, and judge nothing.")
    parser.add_argument(
        "--update-baseline", type=str | None, default=None, help="Write this report as a new baseline file."
    )
    parser.add_argument("--record-look", action="store_true", help="Count this look in the baseline file.")
    return parser


def _one(targets: list[str], who: str) -> str:
    if len(targets) != 1:
        raise ConfigurationError(f"{who}: one report or store is needed, and {len(targets)} were given")
    return targets[0]


def _lint(paths: list[str]) -> int:
    for path in paths or [find_policy()]:
        if not has_policy(Path(path)):
            continue
        policy = policy_of(path)
        for sentence in (*expired(policy, dt.date.today()), *out_of_range(policy)):
            warn(f"{path}: {sentence}")
        n = len(policy.rules)
        say(f"{path}: {n} rule{'s' if n > 1 else ''}, understood")
    return 0


def _policy_or_none(path: str | None) -> Policy | None:
    if path is not None:
        return policy_of(path)
    try:
        return policy_of(find_policy())
    except ConfigurationError:
        return None


def _check_names(policy: Policy, names: list[str]) -> None:
    known = [rule.name for rule in policy.rules]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigurationError(f"there is no rule {name!r}; {meant}the policy has {', '.join(known)}")


def _form(given: str) -> tuple[str, str | None]:
    form, _, target = given.partition("=")
    if form not in FORMS:
        raise ConfigurationError(f"--format {given}: one of {', '.join(FORMS)} is needed, or FORM=FILE")
    if form == "summary" and not target:
        target = os.environ.get("GITHUB_STEP_SUMMARY", "")
    return form, target or None


def _check_streams(forms: list[tuple[str, str | None]]) -> None:
    printed = [form for form, target in forms if target is None]
    if len(printed) > 1 and any(form in _MACHINE for form in printed):
        raise ConfigurationError(
            f"--format: {' and '.join(printed)} cannot share standard output; give all but one a file, such as "
            f"--format junit=gate.xml"
        )


def _write(result: GateResult, form: str, target: str | None) -> None:
    content = FORMS[form](result)
    if target is None:
        print(content, end="", flush=True)
    elif target == os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(target).open("a", encoding="utf-8") as file:  # other steps write there too
            file.write(content)
    else:
        folder, _, name = target.rpartition("/")
        Storage(folder or ("/" if target.startswith("/") else "."), name="--format").write(name, content.encode())

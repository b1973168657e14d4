"""Whether two reports may be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_memaudit.gates.tables import Table, arms_of, mapping, tables_of

if TYPE_CHECKING:
    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.tables import Question

__all__ = ["fingerprint", "mismatches", "other_versions", "split_of"]

_OWN = "lightning-memaudit"


def split_of(subject: Subject, question: Question) -> str:
    """The split that a question's figures are about."""
    if question.section not in ("impact", "accuracy"):
        return "train"
    return str(mapping(subject.section(question.section).get("split")).get("name"))


def fingerprint(subject: Subject, split: str) -> dict[str, Any] | None:
    """What is known of the examples of a split: their number, labels and a sample of their inputs."""
    found = mapping(subject.content.get("data")).get(split)
    return found if isinstance(found, dict) else None


def mismatches(new: Subject, old: Subject, question: Question) -> list[str]:
    """Everything that forbids a comparison, in words; empty where it may be made."""
    splits = split_of(new, question), split_of(old, question)
    if splits[0] != splits[1]:
        return [f"it was judged on split {splits[1]!r} and this report on {splits[0]!r}"]
    ours, theirs = fingerprint(new, splits[0]), fingerprint(old, splits[0])
    if ours is None or theirs is None:
        whose = "the report" if ours is None else "the baseline"
        return [f"{whose} has no fingerprint of split {splits[0]!r}"]
    found = [
        f"{what} of split {splits[0]!r} differ ({theirs.get(key)} there, {ours.get(key)} here)"
        for key, what in (("n_examples", "numbers of examples"), ("labels", "labels"), ("inputs", "inputs"))
        if ours.get(key) != theirs.get(key)
    ]
    versions = [mapping(side.content.get("versions")) for side in (new, old)]
    own = [_minor(version.get(_OWN)) for version in versions]
    if own[0] != own[1]:
        found.append(f"it was written by {_OWN} {own[1]} and this report by {own[0]}, whose statistics may differ")
    return found or _groups(new, old, question)


def _groups(new: Subject, old: Subject, question: Question) -> list[str]:
    """Groupings that both have and that divide the examples differently; labels are one of them."""
    sides = [arms_of(side, question) for side in (new, old)]
    if isinstance(sides[0], str) or isinstance(sides[1], str):
        return []
    found = []
    for arm in sides[0]:
        entries = [side.get(arm) for side in sides if isinstance(side, dict)]
        if not all(entry is not None and entry.get("status") == "ok" for entry in entries):
            continue
        tables = [
            tables_of(side, question, arm, entry)
            for side, entry in zip((new, old), entries, strict=True)
            if entry is not None
        ]
        for name in tables[0].keys() & tables[1].keys():
            pair = tables[0][name], tables[1][name]
            if name == "memorization" or not (isinstance(pair[0], Table) and isinstance(pair[1], Table)):
                continue  # bins come from the models, and differ whenever those do
            if dict(zip(pair[0].names, pair[0].n, strict=True)) != dict(zip(pair[1].names, pair[1].n, strict=True)):
                what = "the label map differs" if name == "label" else f"the groups of {name!r} differ"
                found.append(f"{what} in names or sizes")
        if found:
            break
    return sorted(found)


def other_versions(new: Subject, old: Subject) -> list[str]:
    """Libraries whose versions differ between two reports, in words."""
    ours, theirs = (mapping(side.content.get("versions")) for side in (new, old))
    return [
        f"{name} {theirs.get(name)} there, {ours.get(name)} here"
        for name in sorted({*ours, *theirs} - {_OWN})
        if ours.get(name) != theirs.get(name)
    ]


def _minor(version: Any) -> str:
    """The part of a version that statistics may change with."""
    return ".".join(str(version).split(".")[:2])

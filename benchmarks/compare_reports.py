"""Whether two files report.json hold the same keys, numbers, booleans and nulls; strings that differ are listed.

python benchmarks/compare_reports.py BEFORE/report.json AFTER/report.json
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

IGNORED = ("created", "store")  # when and where a report was made


def differences(before: Any, after: Any, path: str = "", *, tolerance: float = 0.0) -> Iterator[tuple[str, str]]:
    """What differs: its kind (``"string"`` or ``"content"``), and where and how.

    Args:
        before: One report, or a part of it.
        after: The other.
        path: Where the part is.
        tolerance: Largest relative difference of two numbers that count as the same.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            if not path and key in IGNORED:
                continue
            if (key in before) != (key in after):
                yield "content", f"{path}/{key}: only {'before' if key in before else 'after'}"
            else:
                yield from differences(before[key], after[key], f"{path}/{key}", tolerance=tolerance)
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield "content", f"{path}: {len(before)} entries before, {len(after)} after"
        for number, pair in enumerate(zip(before, after, strict=False)):
            yield from differences(*pair, f"{path}/{number}", tolerance=tolerance)
    elif isinstance(before, str) and isinstance(after, str):
        if before != after:
            yield "string", f"{path}\n  - {before}\n  + {after}"
    elif not _is_same(before, after, tolerance):
        yield "content", f"{path}: {before!r} before, {after!r} after"


def _is_same(before: Any, after: Any, tolerance: float) -> bool:
    kinds = [isinstance(value, bool) for value in (before, after)]
    if kinds[0] == kinds[1] and all(isinstance(value, int | float) for value in (before, after)):
        return bool(before == after or math.isclose(before, after, rel_tol=tolerance, abs_tol=tolerance))
    return type(before) is type(after) and bool(before == after)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative difference of numbers that may be")
    given = parser.parse_args()
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in (given.before, given.after)]
    found = list(differences(*reports, tolerance=given.tolerance))
    for kind, where in found:
        print(f"{kind} {where}")
    count = {kind: sum(own == kind for own, _ in found) for kind in ("content", "string")}
    print(f"{count['content']} keys, numbers, booleans or nulls differ; {count['string']} strings differ")
    return 1 if count["content"] else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Report and gate speak by the same thresholds and in the same words."""

import numpy as np
import pytest

from lightning_memaudit import evaluate_gate
from lightning_memaudit.record.estimates import Needed
from lightning_memaudit.record.levels import PRACTICAL_FACTOR, fit_status
from lightning_memaudit.sections.text import decides
from tests.helpers.gates import content


@pytest.mark.parametrize(
    ("needed", "words"),
    [
        (Needed(n=480, models=1, factor=3.2), "about 480 examples or 1 model would decide it"),
        (Needed(factor=PRACTICAL_FACTOR), "about 100 times as many examples and models would decide it"),
        (Needed(factor=300.0), "no practical number of examples and models would decide it"),
        (Needed(n=10**7, factor=300.0), "no practical number of examples and models would decide it"),
        (Needed(factor=float("inf")), "no practical number of examples and models would decide it"),
        (Needed(), "more models may decide it"),
    ],
)
def test_one_function_says_what_would_decide(needed, words) -> None:
    assert needed.words() == words
    row = {"verdict": "undecided", "n_needed": needed.n, "models_needed": needed.models}
    if needed.factor is not None:
        finite = needed.factor if np.isfinite(needed.factor) else None  # as in report.json
        assert decides(row | {"factor_needed": finite}) == f"undecided: {words}"


@pytest.mark.parametrize(("n_lost", "n_others", "practical"), [(21, 20, False), (3, 2, True)])
def test_the_gate_says_of_an_excess_what_the_report_says(n_lost, n_others, practical) -> None:
    """One example more of 300, beside many that are lost, takes hundreds of times as much to tell from chance."""
    base = np.ones((6, 600), dtype=bool)
    treated = base.copy()
    treated[:, :n_lost] = False  # of 300 in group a
    treated[:, 300 : 300 + n_others] = False
    made = content({"arm": (base, treated)}, {"half": (np.repeat([0, 1], 300), ["a", "b"])})
    rule = {"kind": "excess_drop", "margin": 0.0, "groups": ["half=a"]}
    (row,) = evaluate_gate(made, {"schema": 1, "rules": {"r": rule}}).rows
    words = row.needed.words()
    assert words[1:] in row.message
    assert (row.needed.factor <= PRACTICAL_FACTOR) == practical
    assert ("no practical number" in words) != practical


def test_a_share_at_the_border_is_partly_fitted_everywhere() -> None:
    assert [fit_status(share) for share in (0.01, 0.2, 0.2001)] == ["fitted", "partly fitted", "not fitted"]

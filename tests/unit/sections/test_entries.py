import numpy as np

from lightning_memaudit.sections.entries import available, plain, unavailable


def test_entries_say_whether_there_is_something() -> None:
    assert available(n=1) == {"status": "ok", "reason": None, "n": 1}
    assert unavailable("why") == {"status": "unavailable", "reason": "why"}


def test_plain_values_have_no_arrays_and_no_nan() -> None:
    value = {3: np.array([1.0, np.nan]), "x": (np.int64(2), np.float32(np.inf), None, True), "y": {"z": np.bool_(1)}}
    assert plain(value) == {"3": [1.0, None], "x": [2, None, None, True], "y": {"z": True}}

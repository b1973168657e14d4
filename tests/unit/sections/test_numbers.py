import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.sections.numbers import ENGLISH, Numbers, digits_for


@given(st.floats(1e-9, 1e9), st.integers(0, 6))
def test_the_last_digit_is_at_least_a_hundredth_of_the_half_width(width: float, default: int) -> None:
    digits = digits_for(width, default)
    assert 0 <= digits <= default
    if digits:
        assert 10.0**-digits >= width / 2 / 100 * (1 - 1e-9)
    if digits < default:
        assert 10.0**-digits <= max(1.0, width / 2 / 10 * (1 + 1e-9))


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_intervals_are_written_in_order_and_without_a_negative_zero(a: float, b: float) -> None:
    low, high = sorted((a, b))
    first, last = ENGLISH.span([low, high]).split(" to ")
    values = [float(text.replace("−", "-")) for text in (first, last)]
    assert values[0] <= values[1]
    assert "−0.0" not in (first, last)
    assert "−0" not in (first, last)


@pytest.mark.parametrize(
    ("locale", "share", "number"),
    [
        ("en", "12.3 %", "−0.50"),
        ("de", "12,3\xa0%", "−0,50"),
        ("tr", "%12,3", "−0,50"),
        ("fr_CA", "12,3\xa0%", "−0,50"),
    ],
)
def test_places_write_numbers_their_way(locale: str, share: str, number: str) -> None:
    numbers = Numbers.of(locale)
    assert numbers.percent(0.1234) == share
    assert numbers.number(-0.5) == number


def test_unknown_places_are_refused() -> None:
    with pytest.raises(ArgumentError, match="locale='klingon' is not known"):
        Numbers.of("klingon")


def test_nan_has_no_digits() -> None:
    assert ENGLISH.span([float("nan"), 1.0]) == "–"
    assert ENGLISH.points(float("nan")) == "–"
    assert digits_for(float("nan"), 2) == 2

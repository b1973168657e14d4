"""What is decided is plain data, and what cannot be asked for is named."""

import pytest

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.training.engines.choice import EngineChoice, EngineOptions, engines_to_try


def test_a_choice_comes_back_from_a_record_that_says_more() -> None:
    choice = EngineChoice("ensemble", 32, "fast", 0.5, {"ensemble-32": 1.5}, compiled=True)
    assert EngineChoice.from_dict(choice.to_dict() | {"processes": 2}) == choice
    assert EngineChoice.from_dict({"engine": "trainer"}) == EngineChoice("trainer")


def test_engines_to_try() -> None:
    assert engines_to_try(None) == ("in-memory", "ensemble")
    assert engines_to_try("trainer") == ("trainer",)
    with pytest.raises(ArgumentError, match=r"engine='warp': one of trainer, in-memory, ensemble is needed"):
        engines_to_try("warp")


@pytest.mark.parametrize("tuning", ["on", True, None])
def test_a_tuning_that_there_is_not(tuning) -> None:
    with pytest.raises(ArgumentError, match=rf"tuning={tuning!r}: one of full, off is needed"):
        EngineOptions(tuning)

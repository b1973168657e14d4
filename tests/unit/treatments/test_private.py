import pytest

from lightning_memaudit.callbacks.differential_privacy import DifferentialPrivacy
from lightning_memaudit.callbacks.learning_rate import LearningRate
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.treatments import DPSGD, ClipOnly, Regime

REGIME = Regime(n_examples=700, steps_per_epoch=11, max_epochs=20)


def test_the_mechanism_is_fixed_by_the_regime():
    (private,) = DPSGD(target_epsilon=3.0).callbacks(REGIME)
    assert isinstance(private, DifferentialPrivacy)
    assert (private.target_epsilon, private.sample_rate, private.steps) == (3.0, 1 / 11, 220)
    assert private.expected_batch_size == pytest.approx(700 / 11)


def test_clip_only_is_the_same_without_noise():
    rate, private = ClipOnly(lr=0.5, max_epochs=30).callbacks(REGIME)
    assert isinstance(rate, LearningRate)
    assert (private.noise_multiplier, private.target_epsilon, private.steps) == (0.0, None, 330)
    assert ClipOnly(max_epochs=30).trainer_arguments(REGIME) == {"max_epochs": 30}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "target_epsilon=None: exactly one of .* is needed.* noise_multiplier=None"),
        (
            {"target_epsilon": 1.0, "noise_multiplier": 1.0},
            "target_epsilon=1.0: exactly one of .* noise_multiplier=1.0",
        ),
        ({"noise_multiplier": 0}, "ClipOnly"),
        ({"target_epsilon": -1.0}, "target_epsilon"),
        ({"target_epsilon": 1.0, "lr": 0.0}, r"lr=0\.0"),
        ({"target_epsilon": 1.0, "max_epochs": 0}, "max_epochs=0"),
    ],
)
def test_bad_arguments(options, match):
    with pytest.raises(ArgumentError, match=match):
        DPSGD(**options)

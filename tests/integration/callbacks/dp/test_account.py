import math

import pytest

from lightning_memaudit.callbacks.dp.account import Account
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.accounting import epsilon_spent

TERMS = (3.0, 1e-5, None, 0.05, 200)  # target, delta, noise, rate, steps


def spend(account, noise, steps, rate=0.05):
    for _ in range(steps):
        account.step(noise, rate)


def test_steps_taken_alike_are_kept_together():
    account = Account()
    spend(account, 1.0, 3)
    spend(account, 2.0, 2)
    spend(account, 2.0, 1, rate=0.1)
    assert account.history == [(1.0, 0.05, 3), (2.0, 0.05, 2), (2.0, 0.1, 1)]
    assert account.steps_done == 6


def test_without_a_budget_the_noise_is_as_given_and_the_end_as_planned():
    assert Account().settle(None, 1e-5, 0.8, 0.05, 200) == (0.8, 200)
    assert Account().settle(None, 1e-5, 0.0, 0.05, math.inf) == (0.0, math.inf)


def test_the_same_terms_keep_the_noise_and_others_do_not():
    account = Account()
    noise, limit = account.settle(*TERMS)
    assert limit == 200
    spend(account, noise, 100)
    again = Account()
    again.load_state_dict(account.state_dict())
    assert again.settle(*TERMS) == (noise, 200)
    more, limit = again.settle(*TERMS[:4], 300)
    assert limit == 300
    assert more > noise
    assert 2.94 <= epsilon_spent([(noise, 0.05, 100), (more, 0.05, 200)], 1e-5) <= 3.0


def test_a_training_that_is_done_may_be_settled_again():
    account = Account()
    noise, _ = account.settle(*TERMS)
    spend(account, noise, 200)
    assert account.settle(*TERMS) == (noise, 200)
    with pytest.raises(ArgumentError, match=r"target_epsilon=3: 2\.99 of it is spent already"):
        account.settle(*TERMS[:4], 300)


def test_given_noise_ends_with_the_budget():
    account = Account()
    noise, limit = account.settle(3.0, 1e-5, 1.0, 0.05, math.inf)
    assert noise == 1.0
    assert epsilon_spent([(1.0, 0.05, limit)], 1e-5) <= 3.0 < epsilon_spent([(1.0, 0.05, limit + 1)], 1e-5)
    spend(account, 1.0, 10)
    assert account.settle(3.0, 1e-5, 1.0, 0.05, math.inf) == (1.0, limit)
    assert account.settle(3.0, 1e-5, 1.0, 0.05, 12) == (1.0, 12)
    assert account.settle(3.0, 1e-5, 1.0, 0.05, 10) == (1.0, 10)


def test_a_checkpoint_holds_plain_values_and_a_copy():
    account = Account()
    account.settle(None, 1e-5, 0.8, 0.05, 200)
    account.step(0.8, 0.05)
    kept = account.state_dict()
    account.step(0.8, 0.05)
    assert kept["history"] == [[0.8, 0.05, 1]]
    assert kept["steps_done"] == 1
    assert {type(value) for value in kept["settled"].values()} <= {float, int, type(None)}

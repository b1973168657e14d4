"""A sound report, and a copy of it to be damaged."""

from __future__ import annotations

import copy

import pytest

from tests.helpers.gates import report


@pytest.fixture(scope="module")
def sound():
    return report()


@pytest.fixture
def made(sound):
    return copy.deepcopy(sound)

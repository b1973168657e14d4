"""Two processes: the same samples, one share each, noise once, and weights that stay together."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from tests.helpers.forked import Forked
from tests.unit.callbacks.dp.toys import Net, mlp, reference, rows, weights


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    script = Path(__file__).with_name("private.py")
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port.getsockname()[1])}
    ranks = [Forked(script, folder, env=os.environ | meeting | {"LOCAL_RANK": str(rank)}) for rank in (0, 1)]
    errors = [process.communicate()[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors
    return {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}


def start():
    torch.manual_seed(0)
    return Net(mlp())


def samples(runs, name):
    """Of both processes together, by step."""
    return [
        [*first, *second] for first, second in zip(runs[f"{name}-0"]["seen"], runs[f"{name}-1"]["seen"], strict=True)
    ]


@pytest.mark.parametrize("name", ["clipped", "parts", "ghost", "noisy"])
def test_both_processes_count_the_same_steps_and_hold_the_same_weights(runs, name):
    first, second = runs[f"{name}-0"], runs[f"{name}-1"]
    assert first["steps"] == second["steps"] == 10  # 200 examples, 20 for each process and step, 2 epochs
    for key in ("weights", "epsilon", "expected"):
        assert first[key] == second[key]
    assert first["expected"] == 40


@pytest.mark.parametrize("name", ["clipped", "ghost", "noisy"])
def test_the_shares_of_a_sample_do_not_overlap_and_have_the_expected_size(runs, name):
    for sample in samples(runs, name):
        assert len(set(sample)) == len(sample)
        assert 15 < len(sample) < 70
    assert len({tuple(sorted(sample)) for sample in samples(runs, name)}) == 10


@pytest.mark.parametrize("name", ["clipped", "ghost", "parts"])
def test_together_they_take_the_steps_of_one_process(runs, name):
    by_hand = start()
    assert weights(by_hand).tolist() == runs["start-0"]["weights"]
    reference(by_hand, samples(runs, "clipped"), max_grad_norm=0.1, expected=40, data=rows(200))
    np.testing.assert_allclose(runs[f"{name}-0"]["weights"], weights(by_hand), atol=1e-5)


def test_noise_is_added_once(runs):
    moved = np.subtract(runs["noisy-0"]["weights"], runs["start-0"]["weights"])
    squares = np.sum((moved * 40 / 2.0) ** 2) / 10  # 10 steps of noise 2 · 1, divided by 40
    low, high = stats.chi2.interval(0.999, len(moved))
    assert low < squares < high

"""What of the executor needs no cluster; tests/integration/test_ray.py has the rest."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from lightning_memaudit import Audit
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.training.executors import Ray
from lightning_memaudit.training.executors import ray as ray_module
from tests.helpers.drivers import Driver
from tests.helpers.tiny import TRAINER, TinyData, TinyNet

if TYPE_CHECKING:
    from pathlib import Path


def test_an_actor_answers_in_messages(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    files = {path.name: path.read_bytes() for path in driver.files.iterdir()}
    actor = ray_module._Trainer(1)
    assert actor.open(str(tmp_path / "elsewhere"), None) == {"event": "elsewhere"}
    assert actor.open(str(tmp_path / "elsewhere"), files) == {"event": "ready"}
    assert actor.train([0, 2]) == {"event": "idle", "stored": [0, 2]}
    failure = actor.open(str(tmp_path), None)
    assert (failure["event"], failure["message"].partition(":")[0]) == ("failed", "FileNotFoundError")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_cpus": 0}, "num_cpus.*a whole number of at least 1"),
        ({"num_cpus": 0.5}, "num_cpus.*a whole number of at least 1"),
        ({"num_gpus": -1}, "num_gpus=-1"),
        ({"num_gpus": float("nan")}, "num_gpus=nan"),
        ({"num_gpus": True}, "num_gpus=True"),
        ({"num_gpus": "1"}, "num_gpus='1'"),
    ],
)
def test_bad_numbers_are_named(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Ray(**options)


def test_ray_that_is_not_installed_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"Ray is not installed; pip install 'lightning-memaudit\[ray\]'"):
        Audit(TinyNet, TinyData, trainer=TRAINER, store=tmp_path, n_models=2, executor="ray").train(progress=False)


class RayError(Exception):
    pass


@pytest.mark.parametrize(
    "error", [ConnectionError("no cluster\nthere"), RuntimeError("Unknown argument(s): cpus"), RayError("token")]
)
def test_a_cluster_that_cannot_be_reached_is_one_message(error: Exception) -> None:
    def init(**options):
        assert options == {**ray_module._QUIET, "address": "head:6379", "log_to_driver": True}
        raise error

    ray = SimpleNamespace(init=init, exceptions=SimpleNamespace(RayError=RayError))
    first = str(error).partition("\n")[0].replace("(", r"\(").replace(")", r"\)")
    message = rf"ray\.init\(address='head:6379'\) failed \({type(error).__name__}: {first}\)"
    with pytest.raises(ConfigurationError, match=message):
        Ray("head:6379", init={"log_to_driver": True})._connect(ray)


def test_as_many_actors_as_the_nodes_have_room_for() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    ray = SimpleNamespace(nodes=lambda: nodes)
    for options, places in [({}, 11), ({"num_cpus": 2}, 5), ({"num_gpus": 1}, 2), ({"num_gpus": 0.1}, 8)]:
        assert Ray(**options)._places(ray) == places


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        (
            "It died.\n\tpid: 3\nWorker exit detail: Worker exits with code 2. End of file. Some common causes ...",
            "Worker exits with code 2. End of file",
        ),
        ("The actor died because of an error raised in its creation task\nRuntimeError: no", "RuntimeError: no"),
        ("", "RayError"),
    ],
)
def test_the_telling_line_of_a_death(account: str, reason: str) -> None:
    assert ray_module._reason(RayError(account)) == reason

"""Actors of a real local cluster of two CPUs, which the tests of this module share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightning_memaudit import Audit, OutcomeStore
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError, MismatchError, TrainingError
from lightning_memaudit.training.executors import Ray
from lightning_memaudit.training.executors import ray as ray_module
from tests.helpers.parcels import Driver
from tests.helpers.tiny import TRAINER, TinyData, TinyNet
from tests.helpers.workers import (
    FOLDER,
    ROOT,
    Assassin,
    Dozing,
    Meeting,
    processes,
    same_outcomes,
    shards,
    takes,
    trainers,
    wait_for,
)


def ray_environment(folder: Path) -> dict[str, str]:
    """Ray keeps its token, its sessions and its reports of use in a folder (whose path must be short)."""
    (folder / "token").write_text("0123456789abcdef" * 4)
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def of_cluster(folder: Path) -> dict[int, str]:
    return {pid: command for pid, (_, command) in processes().items() if f"{folder}/" in command}


def actors() -> set[int]:
    return {pid for pid, (_, command) in processes().items() if command.startswith("ray::_Trainer")}


@pytest.fixture(scope="module")
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="ma"))
    (folder / "traces").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ray_environment(folder).items():
            patch.setenv(name, value)
        patch.setenv(FOLDER, str(folder / "traces"))
        patch.delenv("RAY_ADDRESS", raising=False)
        import ray  # reads the environment

        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=str(folder / "ray"),
        )
        assert of_cluster(folder)
        yield ray
        ray.shutdown()
    wait_for(lambda: not of_cluster(folder))
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def clean_traces(request):
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster")  # which says where they are
        for path in Path(os.environ[FOLDER]).iterdir():
            path.unlink()


def audit(store: Path, model=Dozing, *, n_models: int = 4, **options) -> Audit:
    return Audit(model, **({"data": TinyData, "trainer": TRAINER, "store": store} | options), n_models=n_models)


def test_actors_leave_the_store_that_this_process_would(cluster, tmp_path: Path) -> None:
    executor = Ray(n_actors=3, engine="trainer")  # one more than there is room for
    store = audit(tmp_path / "ray", Meeting, n_models=6, executor=executor).train(progress=False)
    assert len(trainers()) == 2
    assert os.getpid() not in trainers()
    assert store.manifest.execution["processes"] == 3
    wait_for(lambda: not actors())
    reference = audit(tmp_path / "here", n_models=6, executor="sequential").train(progress=False)
    same_outcomes(store, reference)


@pytest.mark.slow
def test_killed_actors_lose_nothing_and_repeat_nothing(cluster, tmp_path: Path) -> None:
    reference = audit(tmp_path / "whole", n_models=16, executor="sequential").train(progress=False)
    takes(0.3)
    store = OutcomeStore(tmp_path / "killed")
    assassin = Assassin(store, actors, 2)
    assassin.start()
    audit(tmp_path / "killed", n_models=16, executor=Ray(engine="in-memory")).train(progress=False)
    assassin.join(timeout=1)
    assert len(assassin.killed) == 2
    after = shards(store)
    assert len(after) == 16
    for stored in assassin.stored:
        assert stored.items() <= after.items()
    same_outcomes(store, reference)


def test_what_fails_in_an_actor_comes_out_as_elsewhere(cluster, tmp_path: Path) -> None:
    driver = os.getpid()

    class Other(TinyData):
        def setup(self, stage=None):
            self.seed = int(os.getpid() != driver)
            super().setup(stage)

    with pytest.raises(MismatchError, match="belongs to another data: digest") as caught:
        audit(tmp_path / "a", data=Other, executor=Ray(n_actors=1)).train(progress=False)
    assert caught.value.exit_code == 4

    class Fails(TinyNet):
        def on_train_end(self):
            if self.trainer.datamodule.model_id == 1 and os.getpid() != driver:
                raise ZeroDivisionError("my bug")

    with pytest.raises(TrainingError) as caught:
        audit(tmp_path / "b", Fails, executor=Ray(n_actors=1, engine="trainer")).train(progress=False)
    assert str(caught.value).startswith("model 1 failed in your code: ZeroDivisionError: my bug. What is stored")
    assert "in on_train_end" in caught.value.__notes__[0]
    assert OutcomeStore(tmp_path / "b").model_ids() == [0]


class Leaves:
    """Ends the process in which it is rebuilt."""

    def __reduce__(self):
        return os._exit, (3,)


def test_actors_that_do_not_start_are_an_error_that_says_how(cluster, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ray_module, "_STARTS", 2)
    data = TinyData()
    data.thing = Leaves()
    message = r"2 actors in a row ended before they began \(Worker (unexpectedly )?exits .*\)\. What is stored is kept"
    with pytest.raises(TrainingError, match=message):
        audit(tmp_path, data=data, executor=Ray(n_actors=1, engine="trainer")).train(progress=False)


def test_an_actor_on_another_machine_is_sent_the_files(cluster, tmp_path: Path, monkeypatch) -> None:
    def on_another_machine(cast, actor, files):
        folder = "/no/such/folder" if files is None else str(cast._folder)
        cast._calls[actor.open.remote(folder, files)] = (actor, [])

    monkeypatch.setattr(ray_module._Cast, "_open", on_another_machine)
    before = set(Path(tempfile.gettempdir()).glob("memaudit-*"))
    store = audit(tmp_path, n_models=2, executor=Ray(n_actors=1, engine="in-memory")).train(progress=False)
    assert store.model_ids() == [0, 1]
    assert set(Path(tempfile.gettempdir()).glob("memaudit-*")) <= before


def test_no_room_for_an_actor_is_said_at_once(cluster, tmp_path: Path) -> None:
    for options, wanted in [({"num_gpus": 0.5}, "num_gpus=0.5"), ({"num_cpus": 3}, "num_cpus=3")]:
        with pytest.raises(ConfigurationError, match=rf"no node .*{wanted}.*2 CPU, 0 GPU"):
            audit(tmp_path, executor=Ray(**options)).train(progress=False)


def test_a_cluster_of_its_own_leaves_nothing_and_says_nothing() -> None:
    folder = Path(tempfile.mkdtemp(prefix="ma"))
    (folder / "home").mkdir()
    script = f"""
        from lightning_memaudit import Audit
        from lightning_memaudit.training.executors import Ray
        from tests.helpers.tiny import *

        class Net(TinyNet):
            def on_train_end(self):
                print("in an actor")

        executor = Ray("local", engine="trainer", init={{"num_cpus": 1, "_temp_dir": {str(folder / "ray")!r}}})
        audit = Audit(Net, TinyData, trainer=TRAINER, n_models=2, store="store", executor=executor)
        print(*audit.train(progress=False).model_ids())
    """
    before = set(Path(tempfile.gettempdir()).iterdir())
    environment = os.environ | ray_environment(folder) | {"HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-"],
        input=textwrap.dedent(script),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "0 1\n"), done.stderr[-3000:]
    assert "ray" not in done.stderr.lower()
    wait_for(lambda: not of_cluster(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["home", "ray", "store", "token"]
    assert list((folder / "home").rglob("*ray*")) == []
    assert not {path.name for path in set(Path(tempfile.gettempdir()).iterdir()) - before if "ray" in path.name}
    shutil.rmtree(folder)


def test_an_actor_answers_in_messages(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    files = {path.name: path.read_bytes() for path in driver.parcel.iterdir()}
    actor = ray_module._Trainer(1)
    assert actor.open(str(tmp_path / "elsewhere"), None) == {"event": "elsewhere"}
    assert actor.open(str(tmp_path / "elsewhere"), files) == {"event": "ready"}
    assert actor.train([0, 2]) == {"event": "idle", "stored": [0, 2]}
    failure = actor.open(str(tmp_path), None)
    assert (failure["event"], failure["message"].partition(":")[0]) == ("failed", "FileNotFoundError")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_cpus": 0}, "num_cpus=0"),
        ({"num_cpus": 0.5}, r"num_cpus=0\.5"),
        ({"n_actors": 0}, "n_actors=0"),
        ({"n_actors": "2"}, "n_actors='2'"),
        ({"num_gpus": -1}, "num_gpus=-1"),
        ({"num_gpus": float("nan")}, "num_gpus=nan"),
        ({"num_gpus": True}, "num_gpus=True"),
    ],
)
def test_bad_numbers_are_named(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Ray(**options)


def test_ray_that_is_not_installed_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"Ray is not installed; pip install 'lightning-memaudit\[ray\]'"):
        audit(tmp_path, executor="ray").train(progress=False)


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

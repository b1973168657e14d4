"""Ray for real: a cluster of two CPUs on this machine, which the tests of this module share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from lightning_memaudit import Audit, OutcomeStore
from lightning_memaudit.exceptions import ConfigurationError, MismatchError, TrainingError
from lightning_memaudit.training.executors import Ray
from lightning_memaudit.training.executors import ray as ray_module
from lightning_memaudit.training.timing import Thresholds
from tests.helpers.conformance import CHECKS
from tests.helpers.tiny import TRAINER, TinyData, TinyNet
from tests.helpers.workers import (
    FOLDER,
    ROOT,
    Assassin,
    Dozing,
    processes,
    same_outcomes,
    shards,
    takes,
    trainers,
    wait_for,
)

OF_RAY = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR")


def descendants(of: int) -> set[int]:
    """The living processes that a process has started, and theirs; Ray gives some of them other names."""
    parents = {pid: parent for pid, (parent, _) in processes().items()}
    found, more = set(), {of}
    while more := {pid for pid, parent in parents.items() if parent in more} - found:
        found |= more
    return found


def actors() -> set[int]:
    """The actors of this process's own cluster."""
    ours = descendants(os.getpid())
    return {pid for pid, (_, command) in processes().items() if pid in ours and command.startswith("ray::_Trainer")}


@pytest.fixture(scope="module", autouse=True)  # before anything else in this process asks Ray for its settings
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="ma", dir="/tmp"))  # short: Ray's sockets are in there
    (folder / "traces").mkdir()
    (folder / "tmp").mkdir()
    (folder / "token").write_text("0123456789abcdef" * 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.delenv("RAY_AUTH_TOKEN", raising=False)
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray < 2.60 warns that this will be so
        patch.setenv(FOLDER, str(folder / "traces"))
        patch.setenv("TMPDIR", str(folder / "tmp"))  # of actors
        import ray  # reads the environment

        before = descendants(os.getpid())
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=str(folder / "ray"),
        )
        ours = descendants(os.getpid()) - before
        assert ours
        yield ray
        ray.shutdown()
    wait_for(lambda: not ours & processes().keys())
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def clean_traces(cluster):
    for path in Path(os.environ[FOLDER]).iterdir():
        path.unlink()


@pytest.fixture
def calls(monkeypatch) -> list[list[int]]:
    """The models that actors are asked for, a list a call."""
    asked: list[list[int]] = []
    ask = ray_module._Cast._ask

    def noted(cast, actor, lease):
        asked.append(list(lease))
        ask(cast, actor, lease)

    monkeypatch.setattr(ray_module._Cast, "_ask", noted)
    return asked


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_every_executor_does(check, cluster, tmp_path: Path) -> None:
    check(Ray(n_workers=1), tmp_path)
    wait_for(lambda: not actors())


def audit(store: Path, model=TinyNet, *, n_models: int, **options) -> Audit:
    return Audit(model, **({"data": TinyData, "trainer": TRAINER, "store": store} | options), n_models=n_models)


def test_the_store_that_sequential_leaves_with_several_models_a_call(cluster, calls, tmp_path: Path) -> None:
    reference = audit(tmp_path / "here", n_models=12, executor="sequential").train(progress=False)
    store = audit(tmp_path / "ray", n_models=12, executor=Ray(engine="in-memory")).train(progress=False)
    assert (store.manifest.executor, store.manifest.execution["engine"]) == ("ray", "in-memory")
    assert store.manifest.execution["processes"] == 2
    same_outcomes(store, reference)  # to the last bit
    assert sorted(model_id for call in calls for model_id in call) == list(range(12))
    assert max(map(len, calls)) > 1
    wait_for(lambda: not actors())


def test_a_killed_actor_loses_nothing_and_repeats_nothing(cluster, calls, tmp_path: Path) -> None:
    reference = audit(tmp_path / "whole", Dozing, n_models=12, executor="sequential").train(progress=False)
    takes(0.2)
    store = OutcomeStore(tmp_path / "killed")
    assassin = Assassin(store, actors, 1)
    assassin.start()
    executor = Ray(engine="in-memory")
    audit(tmp_path / "killed", Dozing, n_models=12, executor=executor).train(progress=False)
    assassin.join(timeout=1)
    assert len(assassin.killed) == 1
    after = shards(store)
    assert len(after) == 12
    assert assassin.stored[0]
    assert assassin.stored[0].items() <= after.items()  # never written again: the same time, the same bytes
    asked = [model_id for call in calls for model_id in call]
    assert set(asked) == set(range(12))
    again = {f"{model_id:06d}.npz" for model_id in asked if asked.count(model_id) > 1}
    assert again
    assert not again & assassin.stored[0].keys()
    same_outcomes(store, reference)
    wait_for(lambda: not actors())


def test_a_model_that_raises_is_one_error_that_names_it(cluster, tmp_path: Path) -> None:
    driver = os.getpid()

    class Fails(TinyNet):
        def on_train_end(self):
            if self.trainer.datamodule.model_id == 1 and os.getpid() != driver:
                raise ZeroDivisionError("my bug")

    with pytest.raises(TrainingError) as caught:
        audit(tmp_path, Fails, n_models=4, executor=Ray(n_workers=1, engine="trainer")).train(progress=False)
    assert str(caught.value).startswith("model 1 failed in your code: ZeroDivisionError: my bug. What is stored")
    assert "in on_train_end" in caught.value.__notes__[0]
    assert caught.value.exit_code == 2
    assert OutcomeStore(tmp_path).model_ids() == [0]
    wait_for(lambda: not actors())


def test_data_that_differ_in_an_actor_are_a_mismatch(cluster, tmp_path: Path) -> None:
    driver = os.getpid()

    class Other(TinyData):
        def setup(self, stage=None):
            self.seed = int(os.getpid() != driver)
            super().setup(stage)

    with pytest.raises(MismatchError, match="belongs to another data: digest") as caught:
        audit(tmp_path, data=Other, n_models=2, executor=Ray(n_workers=1)).train(progress=False)
    assert caught.value.exit_code == 4


class Leaves:
    """Ends the process in which it is rebuilt."""

    def __reduce__(self):
        return os._exit, (3,)


def test_actors_that_do_not_start_are_an_error_that_says_how(cluster, tmp_path: Path) -> None:
    data = TinyData()
    data.thing = Leaves()
    message = r"2 actors in a row ended before they began \(Worker (unexpectedly )?exits .*\)\. What is stored is kept"
    executor = Ray(n_workers=1, engine="trainer", thresholds=Thresholds(actor_starts=2))
    with pytest.raises(TrainingError, match=message):
        audit(tmp_path, data=data, n_models=2, executor=executor).train(progress=False)


def test_an_actor_on_another_machine_is_sent_the_files(cluster, tmp_path: Path, monkeypatch) -> None:
    def on_another_machine(cast, actor, files):
        folder = "/no/such/folder" if files is None else str(cast._folder)
        cast._calls[actor.open.remote(folder, files)] = (actor, [])

    monkeypatch.setattr(ray_module._Cast, "_open", on_another_machine)
    store = audit(tmp_path, n_models=2, executor=Ray(n_workers=1, engine="in-memory")).train(progress=False)
    assert store.model_ids() == [0, 1]
    wait_for(lambda: not list(Path(os.environ["TMPDIR"]).glob("memaudit-*")))


def python(script: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-"],
        input=textwrap.dedent(script),
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def test_a_cluster_at_an_address_is_used_and_left_running(cluster, tmp_path: Path) -> None:
    address = cluster.get_runtime_context().gcs_address
    script = f"""
        from tests.helpers.workers import Meeting
        from tests.system.test_ray import *

        executor = Ray({address!r}, n_workers=3, engine="trainer")  # one more than there is room for
        store = audit("store", Meeting, n_models=4, executor=executor).train(progress=False)
        print(*store.model_ids())
    """
    done = python(script, tmp_path, dict(os.environ))
    assert (done.returncode, done.stdout) == (0, "0 1 2 3\n"), done.stderr[-3000:]
    assert "ray" not in done.stderr.lower()
    assert len(trainers()) == 2  # at once: each waits for the other
    wait_for(lambda: not actors())
    assert cluster.cluster_resources()["CPU"] == 2


def test_a_cluster_of_its_own_leaves_no_process_and_no_file() -> None:
    folder = Path(tempfile.mkdtemp(prefix="ma", dir="/tmp"))
    for name in ("home", "tmp", "work"):
        (folder / name).mkdir()
    script = """
        import json, os
        from pathlib import Path
        from tests.system.test_ray import *

        os.environ["MEMAUDIT_TEST_DRIVER"] = str(os.getpid())
        HERE = Path.cwd()

        class Net(TinyNet):
            def on_train_end(self):
                print("in an actor")
                driver = int(os.environ["MEMAUDIT_TEST_DRIVER"])
                seen = {"driver": driver, "pids": sorted(descendants(driver)), "files": os.listdir(HERE.parent / "tmp")}
                (HERE / "seen.json").write_text(json.dumps(seen))

        executor = Ray(engine="trainer", init={"num_cpus": 1})
        print(*audit("store", Net, n_models=2, executor=executor).train(progress=False).model_ids())
    """
    environment = {name: value for name, value in os.environ.items() if name not in OF_RAY}
    environment |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "RAY_USAGE_STATS_ENABLED": "0"}
    done = python(script, folder / "work", environment)
    assert (done.returncode, done.stdout) == (0, "0 1\n"), done.stderr[-3000:]
    assert "ray" not in done.stderr.lower()
    seen = json.loads((folder / "work" / "seen.json").read_text())
    assert len(seen["pids"]) > 2
    assert {name[:2] for name in seen["files"]} >= {"ma", "me"}  # of the cluster, and the serialized run
    wait_for(lambda: not set(seen["pids"]) & processes().keys())
    assert list((folder / "tmp").iterdir()) == []
    assert sorted(path.name for path in (folder / "work").iterdir()) == ["seen.json", "store"]
    assert list((folder / "home").rglob("*ray*")) == []
    assert list(Path("/tmp").glob(f"ray/session_*_{seen['driver']}")) == []
    shutil.rmtree(folder)


def test_a_gpu_or_cores_that_no_node_has_are_refused_at_once(cluster, tmp_path: Path) -> None:
    for options, wanted in [({"num_gpus": 0.5}, r"num_cpus=1, num_gpus=0\.5"), ({"num_cpus": 3}, "num_cpus=3")]:
        message = rf"no node that is up has room for an actor of {wanted}.*they have 2 CPU, 0 GPU.*ask for less"
        with pytest.raises(ConfigurationError, match=message):
            audit(tmp_path, n_models=2, executor=Ray(**options)).train(progress=False)
    assert OutcomeStore(tmp_path).model_ids() == []


@pytest.mark.parametrize(
    ("address", "variable", "running", "starts"),
    [
        (None, None, False, True),
        (None, None, True, False),
        (None, "", False, True),
        (None, "head:6379", False, False),
        (None, "local", True, True),
        ("auto", None, False, False),
        ("auto", "local", False, True),
        ("local", "head:6379", True, True),
        ("head:6379", "local", False, False),
    ],
)
def test_which_clusters_are_started(address, variable, running, starts, tmp_path: Path, monkeypatch) -> None:
    """Ray's own answer to the same question is None for one that is started."""
    from ray._private.services import canonicalize_bootstrap_address, find_gcs_addresses

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    if running:
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:6379")
    assert ray_module._starts_one(address) is starts
    monkeypatch.setattr("ray._private.services.resolve_ip_for_localhost", lambda host: host)
    if address != "auto" or variable:  # else Ray looks for the processes of a cluster
        find_gcs_addresses.cache_clear()
        assert (canonicalize_bootstrap_address(address or variable or None) is None) is starts

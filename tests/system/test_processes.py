"""Worker processes for real: killed, interrupted, met from scripts, standard input and notebooks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit import Audit, OutcomeStore
from lightning_memaudit.cli import main
from lightning_memaudit.exceptions import TrainingError
from lightning_memaudit.training.executors import Process
from lightning_memaudit.training.timing import Thresholds
from lightning_memaudit.training.workers import dispatch
from lightning_memaudit.training.workers.serialization import pack
from tests.helpers.tiny import TRAINER, TinyData, TinyNet
from tests.helpers.workers import (
    FOLDER,
    ROOT,
    Assassin,
    Dozing,
    DozingTogether,
    Meeting,
    is_worker,
    processes,
    same_outcomes,
    shards,
    takes,
    trace,
    trainers,
    wait_for,
    workers_of,
)

TWO = Process(n_workers=2, engine="trainer")
STOPPED = r"Stopped\. (\d+) of 400 models are stored in store; run again to go on\."
CONFIG = """
model: {{class_path: {model}}}
data: {{class_path: {data}}}
trainer: {{max_epochs: 2, accelerator: cpu}}
audit:
  n_models: {n_models}
  store: store
  executor:
    class_path: lightning_memaudit.training.executors.Process
    init_args: {{n_workers: 2, engine: trainer}}
"""


@pytest.fixture(autouse=True)
def traces(tmp_path, monkeypatch):
    """A folder in which models say who trains them."""
    folder = tmp_path / "traces"
    folder.mkdir()
    monkeypatch.setenv(FOLDER, str(folder))
    return folder


@pytest.fixture
def start(tmp_path):
    """Start Python in a process of its own, in an empty folder."""
    started = []

    def _start(*arguments, stdin: str | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if stdin is not None:
            process.stdin.write(stdin)
            process.stdin.close()
            process.stdin = None
        started.append(process)
        return process

    yield _start
    for process in started:
        process.kill()
        process.communicate()


def audit(store: Path, model=Dozing, *, n_models: int = 4, **options) -> Audit:
    return Audit(model, **({"data": TinyData, "trainer": TRAINER, "store": store} | options), n_models=n_models)


def finished(process: subprocess.Popen[str], *, code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, err[-4000:]
    return out, err


@pytest.mark.parametrize(
    ("engine", "model", "n_models", "n_kills", "seconds"),
    [("in-memory", Dozing, 120, 3, 0.4), ("ensemble", DozingTogether, 100, 1, 6.0)],
)
def test_killed_workers_lose_nothing_and_repeat_nothing(
    engine: str, model: type, n_models: int, n_kills: int, seconds: float, tmp_path: Path, monkeypatch
) -> None:
    def packs(*arguments, **options):
        takes(seconds)  # not before: the trial should not doze
        pack(*arguments, **options)

    reference = audit(tmp_path / "whole", model, n_models=n_models, executor="sequential").train(progress=False)
    monkeypatch.setattr(dispatch, "pack", packs)
    store = OutcomeStore(tmp_path / "killed")
    assassin = Assassin(store, lambda: workers_of(os.getpid()), n_kills)
    assassin.start()
    few = Thresholds(chunk_sizes=(8, 32))  # so that there is a second round
    executor = Process(n_workers=2 + (n_kills > 1), engine=engine, thresholds=few)
    audit(tmp_path / "killed", model, n_models=n_models, executor=executor).train(progress=False)
    assassin.join(timeout=1)
    assert len(assassin.killed) == n_kills
    assert store.manifest.execution["engine"] == engine
    after = shards(store)
    assert len(after) == n_models
    for stored in assassin.stored:
        assert stored.items() <= after.items()  # never written again: the same time, the same bytes
    same_outcomes(store, reference, margins_within=0.0 if engine == "in-memory" else 1e-4)
    assert not workers_of(os.getpid())


def test_a_model_that_kills_its_workers_is_an_error_that_says_how(tmp_path: Path) -> None:
    driver = os.getpid()

    class Deadly(TinyNet):
        def on_train_end(self):
            if os.getpid() != driver:
                trace(f"training-{os.getpid()}").touch()
                print("the straw that broke", file=sys.stderr, flush=True)
                os._exit(17)
            wait_for(lambda: trainers())

    message = r"model [01]: 3 worker processes ended while they trained it \(exit code 17: the straw that broke\)"
    with pytest.raises(TrainingError, match=message) as caught:
        audit(tmp_path / "store", Deadly, n_models=2, executor=TWO).train(progress=False)
    assert caught.value.exit_code == 2
    assert len(OutcomeStore(tmp_path / "store").model_ids()) == 1
    assert len(trainers()) == 3


def test_two_drivers_on_one_store_do_no_harm(start, tmp_path: Path) -> None:
    reference = audit(tmp_path / "whole", n_models=12, executor="sequential").train(progress=False)
    trace(f"training-{os.getpid()}").unlink()
    script = """
        from tests.system.test_processes import *
        audit("store", n_models=12, executor=Process(n_workers=2, engine="in-memory")).train(progress=False)
    """
    takes(0.4)
    drivers = [start("-c", textwrap.dedent(script)) for _ in range(2)]
    for driver in drivers:
        finished(driver)
    assert trainers() >= {driver.pid for driver in drivers}
    store = OutcomeStore(tmp_path / "store")
    same_outcomes(store, reference)
    assert store.partial_writes() == []


def test_workers_end_by_themselves_when_their_driver_is_killed(start, tmp_path: Path) -> None:
    script = """
        from tests.system.test_processes import *
        audit("store", n_models=400, executor=TWO).train(progress=False)
    """
    takes(0.2)
    driver = start("-c", textwrap.dedent(script))
    wait_for(lambda: len(trainers()) > 1)
    workers = workers_of(driver.pid)
    folders = [Path(command.split()[-2]) for command in workers.values()]
    assert folders[0].name.startswith("memaudit-")
    assert folders[0].exists()
    driver.kill()
    finished(driver, code=-signal.SIGKILL)
    wait_for(lambda: not workers.keys() & processes().keys())
    assert not folders[0].exists()
    store = OutcomeStore(tmp_path / "store")
    assert store.verify() == []
    before = shards(store)
    assert 0 < len(before) < 400
    audit(tmp_path / "store", n_models=len(before) + 2, executor="sequential").train(progress=False)
    assert before.items() <= shards(store).items()


def test_ctrl_c_ends_the_workers_too(start, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        CONFIG.format(model="tests.helpers.workers.Dozing", data="tests.helpers.tiny.TinyData", n_models=400)
    )
    code = "import sys; from lightning_memaudit.cli import main; sys.exit(main())"
    takes(0.2)
    driver = start("-c", code, "run", "--config", "config.yaml")
    wait_for(lambda: len(trainers()) > 1)
    [(worker, command)] = workers_of(driver.pid).items()
    driver.send_signal(signal.SIGINT)
    _, err = finished(driver, code=130)
    assert "Traceback" not in err
    assert worker not in processes()
    assert not Path(command.split()[-2]).exists()
    stopped = re.search(STOPPED, err)
    assert stopped is not None, err
    store = OutcomeStore(tmp_path / "store")
    assert int(stopped[1]) == len(store.model_ids()) > 0
    assert store.verify() == []


SCRIPT = """
import sys
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit import Audit
from lightning_memaudit.training.executors import Process
from tests.helpers.workers import meet


class Net(LightningModule):
    def __init__(self, width):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(3, width)

    def forward(self, x):
        return self.net(x)[:, :CLASSES]

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def on_train_end(self):
        meet()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(LightningDataModule):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.x, self.y = torch.randn(30, 3, generator=generator), torch.arange(30) % CLASSES

    def train_dataloader(self):
        return DataLoader(TensorDataset(self.x, self.y), batch_size=10, shuffle=True)


def factory(width):
    return lambda: Net(width=width)


CLASSES = 2
store = Audit(factory(5), Data(), trainer={"max_epochs": 1, "accelerator": "cpu"}, n_models=2, store="store",
              executor=Process(n_workers=2, engine="trainer")).train(progress=False)
print(*store.model_ids(), store.manifest.identity.model["hparams"]["width"])
"""


@pytest.mark.parametrize("way", ["script", "standard input", "notebook"])
def test_code_that_cannot_be_imported(way: str, start, tmp_path: Path, monkeypatch, capfd) -> None:
    """A closure over a class of the script, no main guard, and a data module that holds its tensors."""
    if way == "script":
        (tmp_path / "script.py").write_text(SCRIPT)
        out, _ = finished(start("script.py"))
    elif way == "standard input":
        out, _ = finished(start("-", stdin=SCRIPT))
    else:
        monkeypatch.chdir(tmp_path)
        exec(compile(SCRIPT, "<cell 1>", "exec"), {"__name__": "__main__"})
        out, _ = capfd.readouterr()
    assert out == "0 1 5\n"
    assert len(trainers()) == 2


PROJECT = """
import os

from tests.helpers.tiny import TinyData, TinyNet
from tests.helpers.workers import Meeting, wait_for, workers_of


class Data(TinyData):
    def setup(self, stage=None):
        super().setup(stage)
        if int(os.environ.get("MEMAUDIT_TEST_DRIVER", os.getpid())) != os.getpid():
            self.train.dataset.tensors = tuple(tensor.flip(0) for tensor in self.train.dataset.tensors)


class Loud(Meeting):
    def training_step(self, batch, batch_idx):
        print('{"event": "idle"}')
        return super().training_step(batch, batch_idx)


class Outlasting(TinyNet):
    def on_train_end(self):
        wait_for(lambda: not workers_of(os.getpid()))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A module that only ``sys.path[0]`` leads to."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "memaudit_test_project.py").write_text(PROJECT)
    (tmp_path / "json.py").write_text("raise RuntimeError('the working directory is not imported from')")
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.chdir(tmp_path)
    yield __import__("memaudit_test_project")
    del sys.modules["memaudit_test_project"]


def test_modules_on_the_path_of_the_driver_and_prints(project, capfd) -> None:
    store = audit(Path("store"), project.Loud, data=project.Data, n_models=3, executor=TWO).train(progress=False)
    assert store.model_ids() == [0, 1, 2]
    assert len(trainers()) == 2
    assert set(capfd.readouterr().out.splitlines()) == {'{"event": "idle"}'}  # those of this process


def test_data_that_differ_in_another_process_are_a_mismatch(project, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MEMAUDIT_TEST_DRIVER", str(os.getpid()))
    names = {"model": "memaudit_test_project.Outlasting", "data": "memaudit_test_project.Data"}
    (tmp_path / "config.yaml").write_text(CONFIG.format(n_models=3, **names))
    assert main(["run", "--config", "config.yaml", "--no-progress"]) == 4
    err = capsys.readouterr().err
    assert "belongs to another data: digest" in err
    assert len(err.splitlines()) == 1


class Large(LightningDataModule):
    def __init__(self) -> None:
        super().__init__()
        self.x = torch.randn(800, 25_000, generator=torch.Generator().manual_seed(0))  # 80 MB
        self.y = torch.arange(800) % 3

    def train_dataloader(self):
        return DataLoader(TensorDataset(self.x, self.y), batch_size=200)


class Looks(TinyNet):
    """Looks at the memory of the process that trains it, when a worker is there."""

    def training_step(self, batch, batch_idx):
        return super().training_step([batch[0][:, :4], batch[1]], batch_idx)

    def forward(self, x):
        return super().forward(x[:, :4])

    def on_train_end(self) -> None:
        if is_worker():
            trace("memory").write_text(json.dumps(mapped_files()))
        elif any(has_files(command) for command in workers_of(os.getpid()).values()):  # not in a trial
            wait_for(trace("memory").exists)


def has_files(command: str) -> bool:
    return any(Path(command.split()[-2]).iterdir())


def mapped_files() -> dict[str, dict[str, float]]:
    """Of each file of a run that this process has mapped: the MB that were read, and those that were copied."""
    found = {}
    for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        head, *lines = block.splitlines()
        if "/memaudit-" in head:
            sizes = dict(line.split(":", 1) for line in lines if line.endswith("kB"))
            figures = {name: int(sizes[name].split()[0]) / 1e3 for name in ("Rss", "Anonymous")}
            found[Path(head.split()[-1]).name] = figures
    return found


def test_large_arrays_are_in_memory_once(tmp_path: Path) -> None:
    executor = Process(n_workers=2, engine="in-memory")
    audit(tmp_path / "store", Looks, data=Large(), n_models=4, executor=executor).train(progress=False)
    found = json.loads(trace("memory").read_text())
    assert set(found) == {"buffers.bin", "rows.pt"}  # what the data module holds, and the training examples
    for figures in found.values():
        assert figures["Rss"] > 60
        assert figures["Anonymous"] < 1


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    audit(tmp_path / "store", Meeting, n_models=2, executor=TWO).train(progress=False)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not workers_of(os.getpid())
    shutil.rmtree(tmp_path / "tmp")

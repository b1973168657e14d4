"""SIGKILL at thirty random moments of a run: nothing finished is lost, nothing half-written is found."""

import json
import subprocess
import sys

import numpy as np

from lightning_memaudit import OutcomeStore

N_MODELS, N_KILLS = 200, 30

# Forking after the imports saves four seconds a kill; each child is a process of its own that runs a whole audit.
SCRIPT = f"""
import json, os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from lightning_memaudit import Audit, OutcomeStore
from lightning_memaudit.testing import LookupProblem

problem = LookupProblem.random(n_points=20, n_examples=60, n_classes=3, seed=0, noise=0.2)

def run(store):
    trainer = {{"max_epochs": 1, "accelerator": "cpu"}}
    Audit(problem.module, problem.datamodule, n_models={N_MODELS}, store=store, trainer=trainer).train(progress=False)

def in_child(store):
    pid = os.fork()
    if pid == 0:
        try:
            run(store)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid

def shards(store):
    folder = os.path.join(store, "outcomes", "baseline")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return {{name: os.stat(os.path.join(folder, name)).st_mtime_ns for name in names if name.endswith(".npz")}}

def wait_for(store, n_shards):
    # Until so many models are done and a random moment longer, within a model whatever the speed of the machine; a
    # number that was there before is a kill while the store is opened.
    started = time.monotonic()
    while len(shards(store)) < n_shards and time.monotonic() - started < 20:
        time.sleep(0.002)
    time.sleep(delays.uniform(0, 0.06))

killed_store, whole_store = sys.argv[1:]
delays = random.Random(0)
rounds = []
for i in range({N_KILLS}):
    before = shards(killed_store)
    pid = in_child(killed_store)
    wait_for(killed_store, len(before) + delays.choice(range(-1, 8)))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    after = shards(killed_store)
    store = OutcomeStore(killed_store)
    rounds.append({{
        "killed": os.WIFSIGNALED(status),
        "problems": [str(p) for p in store.verify()] if store.exists else [],
        "n_valid": len(store.model_ids()) if store.exists else 0,
        "n_shards": len(after),
        "rewritten": [name for name in before if before[name] != after.get(name)],
        "partial": len(store.partial_writes()),
    }})
before = shards(killed_store)
finals = [os.waitpid(in_child(store), 0)[1] for store in (killed_store, whole_store)]
after = shards(killed_store)
print(json.dumps({{
    "rounds": rounds, "finals": finals, "n_before": len(before), "n_after": len(after),
    "rewritten": [name for name in before if before[name] != after[name]],
}}))
"""


def test_thirty_kills_lose_nothing_and_change_nothing(tmp_path):
    script = tmp_path / "kill.py"
    script.write_text(SCRIPT)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    done = subprocess.run(
        [sys.executable, script, killed, whole], capture_output=True, text=True, timeout=240, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    rounds = result["rounds"]

    assert [r["killed"] for r in rounds] == [True] * N_KILLS
    assert all(r["problems"] == [] and r["n_valid"] == r["n_shards"] for r in rounds)
    assert all(r["rewritten"] == [] for r in rounds)  # what is finished is never trained again
    counts = [r["n_shards"] for r in rounds]
    assert counts == sorted(counts)
    assert len(set(counts)) > N_KILLS // 2  # the kills are spread over the run
    assert len(set(counts)) < N_KILLS  # and some fell before a model was done

    assert result["finals"] == [0, 0], done.stderr[-3000:]
    assert 0 < result["n_before"] < result["n_after"] == N_MODELS
    assert result["rewritten"] == []
    resumed, uninterrupted = OutcomeStore(killed), OutcomeStore(whole)
    assert resumed.verify() == uninterrupted.verify() == []
    assert resumed.manifest.digests == uninterrupted.manifest.digests
    for split in ("train", "test"):
        ours, theirs = resumed.load(split=split), uninterrupted.load(split=split)
        for name in ("model_ids", "mask", "correct", "margin", "loss", "prediction"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), strict=True)

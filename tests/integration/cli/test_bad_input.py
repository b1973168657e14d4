"""What a user can get wrong: one message that says what to do, the right exit code, no traceback."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--audit.n_models", "1"], "n_models=1: an integer of at least 2"),
        (["--n-models", "0"], "n_models=0"),
        (["--n-models", "many"], "n_models"),
        (["--audit.subset_fraction", "1.5"], "subset_fraction=1.5"),
        (["--audit.executor", "warp"], "executor='warp': one of auto"),
        (["--audit.design", "random"], "audit.design"),
        (["--audit.design", "canaries"], "canaries=None: design='canaries' needs"),
        (["--audit.tau", "1"], "--audit.tau"),
        (["--treatmint", "1"], "unrecognized arguments: --treatmint 1"),
        (["--audit.units", "nobody"], "units='nobody'"),
        (["--audit.groups", "{race: race}"], "groups['race']='race'"),
        (["--audit.splits", "[train, tset]"], "tset"),
        (
            ["--audit.score_fn", "multi"],
            "audit.score_fn='multi': one of multiclass, binary, sequence, or an import path",
        ),
        (["--audit.score_fn", "cli_project.nothing"], "has no attribute 'nothing'"),
        (["--audit.score_fn", "cli_project.BUILT"], "it is a list, and a function is needed"),
        (["--audit.score_fn", "{name: x}"], "a mapping of class_path and init_args is needed"),
        (["--audit.score_fn", "{class_path: cli_project.Net, init_args: {depth: 2}}"], "depth"),
        (["--audit.eval_dataset", "no.such.function"], "audit.eval_dataset='no.such.function'"),
        (["--model", "cli_project.Nut"], "no attribute 'Nut'"),
        (["--model", "no_project.Net"], "No module named 'no_project'"),
        (["--model", "__main__.Net"], "name the file as its module"),
        (["--model.depth", "2"], "depth"),
        (
            ["--model.fail", "true"],
            "model: its class could not be instantiated: RuntimeError: no such weights (--debug",
        ),
        (["--data.fail", "true"], "data/train.bin is not there"),
        (["--trainer.max_epochs", "0"], "nothing was trained"),
        (["--trainer.fast_dev_run", "true"], "fast_dev_run"),
        (["--trainer.max_epoch", "1"], "--trainer.max_epoch"),
        (["--store", "nofs://audit"], "store='nofs://audit'"),
    ],
)
def test_bad_setting(run, config, workplace, change, message):
    result = run("--config", config, *change)
    assert result.code == 2
    assert message in result.err
    assert result.err.startswith("memaudit: ")
    assert not list((workplace / "store").rglob("*.npz"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("model: [", "not YAML"),
        ("- model\n- data\n", "a mapping with model, data, trainer and audit"),
        ("", "a mapping with model, data, trainer and audit"),
        ("audit: {n_models: 4}\n", "model"),
        ("model: {class_path: cli_project.Net}\n", "data is missing"),
        ("model: {class_path: cli_project.Net}\ntreatmint: 3\n", "treatmint"),
        ("model: {class_path: cli_project.Net}\naudit: {n_modles: 3}\n", "n_modles"),
        ("model: {class_path: cli_project.Net}\naudit: {n_models: few}\n", "n_models"),
        ("fit: {model: {class_path: cli_project.Net}, treatmint: 3}\n", "treatmint"),
        ("model: {width: 3}\n", "--model project.Net --data project.Data"),
    ],
)
def test_bad_file(run, write, content, message):
    if content is not None:
        write("bad.yaml", content)
    result = run("--config", "bad.yaml")
    assert result.code == 2
    assert message in result.err


def test_no_configuration(run):
    result = run()
    assert result.code == 2
    assert "model" in result.err


def test_debug_shows_the_traceback(run, config):
    result = run("--config", config, "--model.fail", "true", "--debug")
    assert result.code == 2
    assert "Traceback" in result.err
    assert 'raise RuntimeError("no such weights")' in result.err
    assert result.err.rstrip().endswith("(--debug shows where)")


def test_a_store_that_is_a_file(run, config, workplace):
    (workplace / "taken").write_text("x")
    result = run("--config", config, "--store", "taken")
    assert result.code == 2
    assert "taken is a file where a folder is needed" in result.err


def test_unknown_command(memaudit):
    result = memaudit("audit")
    assert result.code == 2
    assert "unknown command 'audit'" in result.err
    assert "status" in result.err


def test_no_command(memaudit):
    result = memaudit()
    assert (result.code, result.out) == (2, "")
    assert "usage: memaudit COMMAND" in result.err


def test_interrupt_and_own_errors_are_exit_codes(memaudit, monkeypatch):
    from lightning_memaudit.cli import status

    for error, code, message in [(KeyboardInterrupt(), 130, ""), (ZeroDivisionError("x"), 2, "ZeroDivisionError: x")]:

        def fail(arguments, error=error):
            raise error

        monkeypatch.setattr(status, "main", fail)
        result = memaudit("status", "store")
        assert result.code == code
        assert message in result.err

"""``memaudit run``: which configurations it takes, what overrides what, and what belongs to a store."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.cli import LightningCLI

from lightning_memaudit import OutcomeStore
from lightning_memaudit.cli.config import AuditConfig


def digests(store="store"):
    return OutcomeStore(store).manifest.digests


def test_one_config(run, config):
    result = run("--config", config)
    assert (result.code, result.err) == (0, "")
    assert OutcomeStore("store").model_ids() == [0, 1, 2, 3]
    assert OutcomeStore("store").plan.seed == 3
    assert "4 models, 24 training examples" in result.out
    assert "report written to store/report" in result.out
    assert Path("store/report/report.json").is_file()
    assert Path("store/report/report.md").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config", "base.yaml", "--config", "audit.yaml"),
        ("--config", "audit.yaml", "-c", "base.yaml"),
        ("--config=base.yaml", "--config=audit.yaml"),
        ("--config", "nested.yaml", "--config", "audit.yaml"),
        ("--config", "lists.yaml"),
    ],
)
def test_forms_of_one_configuration(train, write, base, audit, arguments, expected):
    write("base.yaml", base)
    write("audit.yaml", {"audit": audit | {"store": "other"}})
    write("nested.yaml", {"fit": base | {"ckpt_path": None}, "test": base | {"verbose": True}, "subcommand": "fit"})
    write("lists.yaml", base | {"audit": audit | {"store": "other"}, "ckpt_path": None, "weights_only": None})
    assert train(*arguments).manifest.digests == expected
    assert digests("other") == expected


@pytest.mark.parametrize("subcommand", [["fit"], []], ids=["run=True", "run=False"])
def test_files_that_lightning_cli_prints(train, write, base, subcommand, monkeypatch, capsys, expected):
    write("base.yaml", base)
    monkeypatch.setattr(sys, "argv", ["train.py", *subcommand, "--config", "base.yaml", "--print_config"])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        LightningCLI(run=bool(subcommand))
    write("printed.yaml", capsys.readouterr().out)
    assert train("--config", "printed.yaml", "--store", "other", "--n-models", "4").manifest.digests == expected


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_lightning_cli_saved(run, write, base, monkeypatch, workplace, expected):
    write("base.yaml", base)
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "--config", "base.yaml"])
    LightningCLI(trainer_defaults={"enable_progress_bar": False, "logger": False, "default_root_dir": str(workplace)})
    assert run("--config", "config.yaml", "--store", "other", "--n-models", "4").code == 0
    assert digests("other") == expected


def test_a_file_without_class_paths_takes_the_classes_first(run, train, write, base, monkeypatch, capsys, expected):
    module = importlib.import_module("cli_project")
    monkeypatch.setattr(sys, "argv", ["train.py", "--model.width", "5", "--seed_everything", "3", "--print_config"])
    with pytest.raises(SystemExit):
        LightningCLI(module.Net, module.Data, run=False)
    write("flat.yaml", capsys.readouterr().out)
    rest = ["--trainer.max_epochs", "1", "--optimizer", "torch.optim.SGD", "--optimizer.lr", "0.1"]
    refused = run("--config", "flat.yaml", "--n-models", "4", *rest)
    assert refused.code == 2
    assert "--model project.Net --data project.Data --config config.yaml" in refused.err
    store = train(
        "--model", "cli_project.Net", "--data", "cli_project.Data", "--config", "flat.yaml", "--n-models", "4",
        "--store", "other", *rest,
    )  # fmt: skip
    assert store.manifest.digests == expected


def test_the_relative_paths_of_a_file_start_at_its_folder(train, write, base, audit, workplace):
    (workplace / "configs").mkdir()
    write("configs/model.yaml", base["model"])
    write("configs/all.yaml", base | {"model": "model.yaml", "audit": audit})
    assert train("--config", "configs/all.yaml").model_ids() == [0, 1, 2, 3]


def test_short_class_names_of_imported_modules(train, config, workplace, monkeypatch):
    (workplace / "one_of_a_kind.py").write_text("from cli_project import Net\n\nclass OneOfAKindNet(Net):\n    pass\n")
    monkeypatch.syspath_prepend(str(workplace))
    importlib.import_module("one_of_a_kind")
    store = train("--config", config, "--model", "OneOfAKindNet", "--model.width", "5")
    assert store.manifest.identity.model["class"] == "one_of_a_kind.OneOfAKindNet"


def test_command_line_overrides(run, config):
    result = run(
        "--config", config, "--audit.n_models", "6", "--audit.subset_fraction", "0.5", "--trainer.max_epochs", "2",
        "--model.init_args.width", "8", "--data.n", "28", "--store", "other", "--out", "elsewhere",
    )  # fmt: skip
    assert result.code == 0
    store = OutcomeStore("other")
    assert len(store.model_ids()) == 6
    assert (store.plan.n_examples, store.plan.subset_fraction) == (28, 0.5)
    assert store.manifest.identity.model["hparams"]["width"] == 8
    assert store.manifest.identity.optimisation["trainer"]["max_epochs"] == 2
    assert Path("elsewhere/report.json").is_file()
    assert not Path("store").exists()
    assert not Path("other/report").exists()


def test_optimizer_and_scheduler_of_the_configuration(train, config):
    scheduler = ["--lr_scheduler", "torch.optim.lr_scheduler.StepLR", "--lr_scheduler.step_size", "1"]
    optimisation = train("--config", config, *scheduler).manifest.identity.optimisation
    assert optimisation["optimizers"][0]["class"] == "SGD"
    assert optimisation["optimizers"][0]["groups"][0]["lr"] == 0.1
    assert optimisation["schedulers"][0]["class"] == "StepLR"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [([], 3), (["--audit.seed", "11"], 11), (["--seed_everything", "true"], 0), (["--seed_everything", "8"], 8)],
)
def test_seed(config, setting, expected):
    assert AuditConfig(["--config", config, *setting]).audit()._design["seed"] == expected


def test_parsing_builds_no_model(config):
    module = importlib.import_module("cli_project")
    module.BUILT.clear()
    audit = AuditConfig(["--config", config]).audit()
    assert module.BUILT == []
    assert audit.n_models == 4


def test_each_model_is_a_fresh_one(config):
    parsed = AuditConfig(["--config", config])
    first, second = parsed.make_model(), parsed.make_model()
    assert first is not second
    for model in (first, second):
        assert model.configure_optimizers().param_groups[0]["params"][0] is next(iter(model.parameters()))


def test_dry_run_records_nothing(run, config, trained):
    result = run("--config", config, "--dry-run")
    assert (result.code, result.err) == (0, "")
    assert "4 models on 24 examples, 4 still to train" in result.out
    assert "time" in result.out
    assert "disk" in result.out
    assert not Path("store").exists()
    shutil.copytree(trained, "store")
    before = sorted(path.stat().st_mtime_ns for path in Path("store").rglob("*"))
    assert "10 models on 24 examples, 6 still to train" in run("--config", config, "--dry-run", "--n-models", "10").out
    assert sorted(path.stat().st_mtime_ns for path in Path("store").rglob("*")) == before


def test_checkpoint_is_left_out_with_a_warning(run, config):
    result = run("--config", config, "--ckpt_path", "last.ckpt")
    assert result.code == 0
    assert "ckpt_path='last.ckpt' left out" in result.err


def test_groups_and_units_by_column(train, config):
    groups = ["--audit.groups", "{label: label, colour: colour}"]
    store = train("--config", config, "--audit.units", "patient", *groups)
    assert store.plan.n_units == 12
    mask = store.plan.mask(0)
    assert (mask[::2] == mask[1::2]).all()
    assert set(store.examples("train").groups) == {"label", "colour"}


@pytest.mark.parametrize(
    "setting",
    [
        "cli_project.score",
        "lightning_memaudit.outcomes.scoring.Multiclass",
        "{class_path: lightning_memaudit.outcomes.scoring.Multiclass}",
        "{class_path: lightning_memaudit.outcomes.scoring.Multiclass, init_args: {target: 1}}",
    ],
)
def test_score_function(train, config, setting):
    assert train("--config", config, "--audit.score_fn", setting).load().correct.any()


def test_functions_by_import_path(train, config):
    functions = ["--audit.eval_dataset", "cli_project.same_rows", "--audit.train_loader_factory", "cli_project.loader"]
    assert train("--config", config, *functions).manifest.identity.optimisation["loader"]["batch_size"] == 6


def test_more_models_top_up(run, config, workplace, trained):
    shutil.copytree(trained, "store")
    before = {path.name: path.read_bytes() for path in (workplace / "store/outcomes/baseline").iterdir()}
    assert run("--config", config, "--n-models", "6").code == 0
    after = {path.name: path.read_bytes() for path in (workplace / "store/outcomes/baseline").iterdir()}
    assert len(after) == 6
    assert before.items() <= after.items()
    quiet = run("--config", config, "--trainer.logger", "false", "--trainer.enable_progress_bar", "false")
    assert quiet.code == 0


@pytest.mark.parametrize(
    ("change", "aspect"),
    [
        (["--data.flip", "true"], "data"),
        (["--data.order", "-1"], "data"),
        (["--data.n", "28"], "plan"),
        (["--seed_everything", "4"], "plan"),
        (["--audit.subset_fraction", "0.6"], "plan"),
        (["--model.width", "6"], "model"),
        (["--optimizer.lr", "0.2"], "optimisation"),
        (["--trainer.max_epochs", "2"], "optimisation"),
        (["--audit.score_fn", "cli_project.score"], "scoring"),
    ],
)
def test_a_change_is_refused(run, train, config, change, aspect, workplace, trained):
    shutil.copytree(trained, "store")
    before = digests()
    files = {path: path.read_bytes() for path in (workplace / "store").rglob("*.npz")}
    result = run("--config", config, *change)
    assert result.code == 4
    assert f"another {aspect}" in result.err
    assert before[aspect] in result.err
    assert result.err.count("digest") == 1
    assert "--store NEW" in result.err
    assert {path: path.read_bytes() for path in (workplace / "store").rglob("*.npz")} == files
    assert train("--config", config, *change, "--store", "NEW").manifest.digests[aspect] in result.err


def test_printed_configuration_runs(run, memaudit, config, write):
    printed = memaudit("run", "--config", config, "--print_config")
    assert printed.code == 0
    assert yaml.safe_load(printed.out)["audit"]["n_models"] == 4
    write("printed.yaml", printed.out)
    assert run("--config", "printed.yaml").code == 0

"""Send an audit to the loggers of a Trainer: CSV files, TensorBoard where it is installed, W&B on request.

    python examples/log_to_your_loggers.py
    tensorboard --logdir logged-audit
    WANDB_MODE=offline python examples/log_to_your_loggers.py --wandb my-project

Six small models are trained one after the other; the last run logs the audit of all six.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from callback_in_your_script import N_EXAMPLES, Classifier, DigitsData
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from lightning_memaudit import AuditLogger, OutcomeRecorder, SubsetDataModule, SubsetPlan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-models", type=int, default=6)
    parser.add_argument("--out", default="logged-audit", help="folder for the record and the logs")
    parser.add_argument("--wandb", metavar="PROJECT", help="log to this project of Weights & Biases, too")
    options = parser.parse_args()
    csv = CSVLogger(options.out, name="csv")
    loggers: list[Logger] = [csv]
    if find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(options.out, name="tensorboard"))
    if options.wandb:
        loggers.append(WandbLogger(project=options.wandb, save_dir=options.out))
    plan = SubsetPlan(N_EXAMPLES, subset_fraction=0.7, seed=0)
    for model_id in range(options.n_models):
        is_last = model_id == options.n_models - 1
        recorder = OutcomeRecorder(f"{options.out}/store", groups={"digit": "label"})
        seed_everything(plan.model_seed(model_id), verbose=False)
        trainer = Trainer(
            max_epochs=10,
            accelerator="cpu",
            logger=loggers if is_last else False,
            callbacks=[recorder, AuditLogger()] if is_last else [recorder],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Classifier(), datamodule=SubsetDataModule(DigitsData(), plan, model_id))
    print(f"the audit is in {csv.log_dir}/memaudit")


if __name__ == "__main__":
    main()

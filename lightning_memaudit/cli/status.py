"""``memaudit status``: what a store holds, and whether it is whole."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from lightning_memaudit.cli.output import megabytes, say
from lightning_memaudit.outcomes.store import OutcomeStore

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the command; exit code 4 when something is damaged."""
    parser = ArgumentParser(
        prog="memaudit status",
        epilog="Example: memaudit status audits/net",
        description="Show what a store holds, and check every file of it.",
    )
    parser.add_argument("store", type=str, metavar="STORE", help="Folder or URL of the store.")
    options = parser.parse_args(arguments)
    store = OutcomeStore(options.store)
    manifest, plan = store.manifest, store.plan
    problems = store.verify()
    units = f" in {plan.n_units} units" if plan.units is not None else ""
    splits = ", ".join(f"{split} ({manifest.identity.data[split]['n_examples']})" for split in manifest.splits)
    say(
        f"store       {store.url}\n"
        f"plan        {plan.digest}: {plan.n_examples} examples{units}, design {plan.design}, subset fraction "
        f"{plan.subset_fraction:g}, seed {plan.seed}\n"
        f"splits      {splits}\n"
        f"model       {manifest.identity.model['class']}\n"
        f"executor    {manifest.trained_by}\n"
        f"disk        {megabytes(store.bytes_on_disk())}"
    )
    damaged = {problem.path for problem in problems}
    for arm in store.treatments():
        n_shards = sum(name.endswith(".npz") for name in store.storage.names(f"outcomes/{arm}"))
        n_damaged = sum(path.startswith(f"outcomes/{arm}/") for path in damaged)
        say(f"arm         {arm}: {n_shards - n_damaged} models" + (f", {n_damaged} damaged" if n_damaged else ""))
    if partial := store.partial_writes():
        say(f"unfinished  {len(partial)} files being written, or left by a killed writer; never read")
    for problem in problems:
        say(f"damaged     {problem.reason}")
    return 4 if problems else 0

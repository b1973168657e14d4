"""``memaudit export``: the scores of every example as a table."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from lightning_memaudit.cli.output import say
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.outcomes.storage import Storage
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.record import Record
from lightning_memaudit.report.tables import csv_bytes
from lightning_memaudit.sections.memorization import memorization_section

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["main"]

_KINDS = (".csv", ".parquet")


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = ArgumentParser(
        prog="memaudit export",
        epilog="Example: memaudit export audits/net --out scores.csv",
        description="Write memorization scores of every example, one row each.",
    )
    parser.add_argument("store", type=str, metavar="STORE", help="Folder or URL of the store.")
    parser.add_argument(
        "--out",
        type=str,
        default="memorization.csv",
        help="File to write: .csv, or .parquet (needs pandas and pyarrow).",
    )
    options = parser.parse_args(arguments)
    if not options.out.endswith(_KINDS):
        raise ConfigurationError(f"--out {options.out}: a file name that ends in {' or '.join(_KINDS)} is needed")
    store = OutcomeStore(options.store)
    _ = store.manifest  # says so when there is no store
    columns = memorization_section(Record(store)).columns()
    start = options.out.rfind("/") + 1
    folder, name = options.out[:start] or ".", options.out[start:]
    Storage(folder, name="--out").write(name, _csv(columns) if name.endswith(".csv") else _parquet(columns))
    say(f"{len(next(iter(columns.values())))} rows, {len(columns)} columns written to {options.out}")
    return 0


def _csv(columns: Mapping[str, Any]) -> bytes:
    return csv_bytes(columns, zip(*(column.tolist() for column in columns.values()), strict=True))


def _parquet(columns: Mapping[str, Any]) -> bytes:
    try:
        import pandas as pd
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "--out: Parquet needs pip install 'lightning-memaudit[frames]'; .csv needs nothing"
        ) from error
    file = io.BytesIO()
    pd.DataFrame(dict(columns)).to_parquet(file, index=False)
    return file.getvalue()

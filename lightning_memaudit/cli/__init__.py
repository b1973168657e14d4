"""The command ``memaudit``: run, status, report, export, demo."""

from lightning_memaudit.cli.main import main

__all__ = ["main"]

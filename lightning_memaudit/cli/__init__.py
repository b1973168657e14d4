"""The command ``memaudit``: run, status, report, export, gate, theory, demo."""

from lightning_memaudit.cli.main import main

__all__ = ["main"]

"""The command ``memaudit``: run, status, report, export, gate, theory, demo."""

from lightning_memaudit.cli.main import COMMANDS, main

__all__ = ["COMMANDS", "main"]

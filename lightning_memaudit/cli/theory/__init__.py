"""``memaudit theory``: a calculator for the long-tail theory."""

from lightning_memaudit.cli.theory.command import main

__all__ = ["main"]

"""The format of ``report.json``."""

__all__ = ["SCHEMA"]

SCHEMA = 2

"""A storage that counts what is read from it."""

from __future__ import annotations

from collections import Counter

from lightning_memaudit.outcomes.storage import Storage


class CountingStorage(Storage):
    """As ``Storage``; ``n_reads`` counts by name."""

    def __init__(self, url) -> None:
        super().__init__(url)
        self.n_reads: Counter[str] = Counter()

    def read(self, name):
        self.n_reads[name] += 1
        return super().read(name)

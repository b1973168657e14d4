"""Files that are whole or absent, in a folder or behind any fsspec URL."""

from __future__ import annotations

import errno
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec

from lightning_memaudit.exceptions import StoreError
from lightning_memaudit.functional.checks import argument_error

__all__ = ["PARTIAL_SUFFIX", "Storage"]

PARTIAL_SUFFIX = ".tmp"


class Storage:
    """Bytes under relative names below one root. Writers never see each other's unfinished files.

    Args:
        url: A folder, or a URL such as ``s3://bucket/audit`` or ``memory://audit``.
        name: What messages call it.

    Raises:
        ArgumentError: No file system is known for the URL, or there is a file where the folder would be.
    """

    def __init__(self, url: str | os.PathLike[str], *, name: str = "store") -> None:
        self._name = name
        if not isinstance(url, str | os.PathLike) or not str(url).strip():
            raise argument_error(name, url, "a folder or an fsspec URL is needed, such as 'audits/cifar'")
        self.url = os.fspath(url)
        try:
            self._fs, root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise argument_error(name, self.url, f"{error}") from error
        self._root = str(root).rstrip("/")
        protocols = self._fs.protocol if isinstance(self._fs.protocol, tuple | list) else (self._fs.protocol,)
        self._is_local = "file" in protocols
        below = [Path(self._root), *Path(self._root).parents] if self._is_local else []
        if in_the_way := next((path for path in below if path.is_file()), None):
            raise argument_error(name, self.url, f"{in_the_way} is a file where a folder is needed; take another path")

    def path(self, name: str) -> str:
        """The full path of a file or folder; of the root, when ``name`` is empty."""
        return f"{self._root}/{name}" if name else self._root

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None when there is none.

        Raises:
            StoreError: The file is there and may not be read.
        """
        try:
            content: bytes = self._fs.cat_file(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(
                f"{self._name}={self.url!r}: cannot read {name} ({error.strerror or error}); check who may read "
                "it, then run again"
            ) from error
        return content

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self.path(name)))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return int(self._fs.size(self.path(name)))

    def names(self, folder: str) -> list[str]:
        """The files and folders directly in ``folder``, sorted; none if it does not exist."""
        self._fs.invalidate_cache()
        try:
            entries: list[Any] = self._fs.ls(self.path(folder), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that it is whole or absent, replacing what was there.

        Raises:
            StoreError: The file system refused (full, read-only); nothing half-written is left under the name.
        """
        partial = f"{name}.{uuid.uuid4().hex[:8]}{PARTIAL_SUFFIX}"
        try:
            self._write_partial(partial, content)
            if self._is_local:
                Path(self.path(partial)).replace(self.path(name))
            else:
                self._fs.mv(self.path(partial), self.path(name))
        except OSError as error:
            self._forget(partial)
            raise self._refused(name, error) from error
        except BaseException:
            self._forget(partial)
            raise

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless one of that name exists; True when this call made it.

        Raises:
            StoreError: The file system refused.
        """
        if self.read(name) is not None:
            return False
        if not self._is_local:
            self.write(name, content)
            return True
        partial = f"{name}.{uuid.uuid4().hex[:8]}{PARTIAL_SUFFIX}"
        try:
            self._write_partial(partial, content)
            return self._link(partial, name)
        except OSError as error:
            raise self._refused(name, error) from error
        finally:
            self._forget(partial)

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._fs.rm_file(self.path(name))

    def clear(self) -> None:
        """Remove everything below the root."""
        if self._fs.exists(self._root):
            self._fs.rm(self._root, recursive=True)

    def remove_partial(self, folder: str, *, older_than: float) -> list[str]:
        """Remove what killed writers left in ``folder`` more than ``older_than`` seconds ago; their names."""
        stale = []
        for name in self.names(folder):
            path = f"{folder}/{name}".lstrip("/")
            if name.endswith(PARTIAL_SUFFIX) and self._age(path) > older_than:
                self._forget(path)
                stale.append(path)
        return stale

    def _write_partial(self, name: str, content: bytes) -> None:
        path = self.path(name)
        if not self._is_local:
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self._fs.pipe_file(path, content)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _link(self, partial: str, name: str) -> bool:
        try:
            os.link(self.path(partial), self.path(name))
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            Path(self.path(partial)).replace(self.path(name))  # a file system without hard links
        return True

    def _forget(self, name: str) -> None:
        with suppress(OSError):
            self.remove(name)

    def _age(self, name: str) -> float:
        try:
            modified = self._fs.modified(self.path(name))
        except (FileNotFoundError, NotImplementedError):
            return 0.0
        return time.time() - float(modified.timestamp())

    def _refused(self, name: str, error: OSError) -> StoreError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = (
            "the disk (or your quota) is full: free some space and run again"
            if full
            else "check that the folder exists and may be written to, then run again"
        )
        return StoreError(
            f"{self._name}={self.url!r}: cannot write {name} ({error.strerror or error}); {hint}. What is stored is "
            "kept"
        )

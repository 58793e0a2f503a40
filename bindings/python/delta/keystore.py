"""Keystores for scripts and tests. A phone has something better."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from . import delta_ffi as ffi


class MemoryKeystore(ffi.Keystore):
    """Keeps secrets as long as it lives: for tests."""

    def __init__(self):
        self._secrets: dict[str, bytes] = {}

    def get(self, item: str) -> bytes | None:
        return self._secrets.get(item)

    def put(self, item: str, value: bytes) -> None:
        self._secrets[item] = value

    def delete(self, item: str) -> None:
        self._secrets.pop(item, None)


class FileKeystore(ffi.Keystore):
    """Keeps secrets in files that only this user can read: `<path>.<item>`. For scripts; a phone has something better."""

    def __init__(self, path):
        self._path = Path(path)
        self._lock = threading.Lock()

    def get(self, item: str) -> bytes | None:
        try:
            return self._file(item).read_bytes()
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise ffi.KeystoreError.Denied(reason=str(error)) from error

    def put(self, item: str, value: bytes) -> None:
        with self._lock:
            temporary = self._file(item + ".new")
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._file(item))
            self._sync_folder()

    def delete(self, item: str) -> None:
        self._file(item).unlink(missing_ok=True)
        self._sync_folder()

    def _sync_folder(self) -> None:
        """What the folder lists is there after a loss of power, too. (Windows opens no folders.)"""
        if os.name == "posix":
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _file(self, item: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{item}")

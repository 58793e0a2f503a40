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
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(file, value)
                os.fsync(file)
            finally:
                os.close(file)
            os.replace(temporary, self._file(item))

    def delete(self, item: str) -> None:
        self._file(item).unlink(missing_ok=True)

    def _file(self, item: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{item}")

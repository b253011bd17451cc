"""What a bench run makes: a scratch folder, and names that tell its containers from everybody else's."""

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self


class Workplace:
    """Gone, with all that is in it, when the `with` block ends."""

    def __init__(self) -> None:
        self.run = f"bench-{os.getpid()}-{secrets.token_hex(3)}"
        self._root = Path()
        self._folders = 0

    def __enter__(self) -> Self:
        self._root = Path(tempfile.mkdtemp(prefix="xmod-bench-"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        shutil.rmtree(self._root, ignore_errors=True)

    def name(self, part: str) -> str:
        """An instance, or a project, of this run alone."""
        return f"{self.run}-{part}"

    def folder(self, part: str) -> Path:
        """A fresh one."""
        self._folders += 1
        folder = self._root / f"{part}-{self._folders}"
        folder.mkdir()
        return folder

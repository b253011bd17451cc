"""What outlives the agent in its state folder, besides what the shimlets keep there: the operator's words.

One JSON file, written whole to a neighbour, synced and renamed, so that a kill leaves the old or the new one. A file that
cannot be read is set aside, never overwritten; a folder that cannot be written costs memory, not service, and what it
lost is written again once it can be. Loading only reads: a dry run does it too.
"""

import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger("xmod.journal")


class Journal:
    """The file `words.json`. Safe from several threads. `trouble`: why memory is not kept now, "" if it is."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "words.json"
        self._last: Mapping[str, Any] | None = None
        self._lock = threading.Lock()
        self.trouble = ""

    def load(self) -> Mapping[str, Any] | None:
        """What was kept; None if there is nothing that can be read. Raises ValueError if it is corrupt."""
        try:
            data = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cannot read the state folder", extra={"file": str(self._path), "error": str(error)})
            return None
        except RecursionError as error:
            raise ValueError("nested without end") from error
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
        self._last = data
        return data

    def set_aside(self, why: str) -> None:
        """Keep an unreadable file under another name, for a person to look at."""
        self._last = None
        aside = self._path.with_suffix(".corrupt")
        log.warning("words.json is corrupt, set aside", extra={"file": str(aside), "error": why})
        try:
            self._path.replace(aside)
        except OSError as error:
            log.warning("cannot set words.json aside", extra={"file": str(aside), "error": str(error)})

    def save(self, data: Mapping[str, Any]) -> None:
        """Keep it. A failure is logged once and shown, never raised: nothing that runs depends on it."""
        with self._lock:
            self._last = data
            self._write(data)

    def keep(self) -> None:
        """Write the last words again if their file is gone or could not be written. Cheap: ask for it often."""
        with self._lock:
            if self._last is None:
                return
            troubled = bool(self.trouble)
            if troubled or self._gone():
                self._write(self._last)
                if not self.trouble:
                    why = "it could not be written" if troubled else "it was gone"
                    log.warning("words.json is written again", extra={"file": str(self._path), "reason": why})

    def _gone(self) -> bool:
        try:
            self._path.lstat()
        except OSError:
            return True
        return False

    def _write(self, data: Mapping[str, Any]) -> None:
        temporary = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w") as file:
                json.dump(data, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            self.trouble = ""
        except OSError as error:
            if not self.trouble:
                log.error("cannot keep the operator's words", extra={"file": str(self._path), "error": str(error)})
            self.trouble = f"the state folder cannot be written, words are lost at a restart: {error}"

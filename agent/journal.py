"""What outlives the agent in its state folder, besides what the shimlets keep there: the operator's words.

One JSON file, written whole to a neighbour, synced and renamed, so that a kill leaves the old or the new one. A file that
cannot be read is set aside, never overwritten; a folder that cannot be written costs memory, not service.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger("xmod.journal")


class Journal:
    """The file `words.json`. `trouble`: why memory is not kept now, "" if it is."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "words.json"
        self.trouble = ""

    def load(self) -> Mapping[str, Any] | None:
        """What was kept; None if there is nothing that can be read."""
        try:
            data = json.loads(self._path.read_bytes())
            if not isinstance(data, dict):
                raise ValueError("not a JSON object")
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cannot read the state folder", extra={"file": str(self._path), "error": str(error)})
            return None
        except ValueError as error:
            self.set_aside(str(error))
            return None
        return data

    def set_aside(self, why: str) -> None:
        """Keep an unreadable file under another name, for a person to look at."""
        aside = self._path.with_suffix(".corrupt")
        log.warning("words.json is corrupt, set aside", extra={"file": str(aside), "error": why})
        try:
            self._path.replace(aside)
        except OSError as error:
            log.warning("cannot set words.json aside", extra={"file": str(aside), "error": str(error)})

    def save(self, data: Mapping[str, Any]) -> None:
        """Keep it. A failure is logged once and shown, never raised: nothing that runs depends on it."""
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

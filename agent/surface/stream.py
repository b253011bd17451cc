"""Carries lines from a blocking iterator to an async reader, and back the word that nobody reads any more.

A thread of its own for each stream: a follower may block for hours, and must not hold one of the few threads that
answer /healthz. A slow reader stops the thread at a bound; memory does not grow.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator

from agent.contracts import XmodError
from agent.surface.operations import Refused

_BOUND = 4096  # lines


class Tap:
    """One stream. `stop` ends the source; it is set when the reader leaves."""

    def __init__(self, lines: Callable[[], Iterator[str]], stop: threading.Event) -> None:
        self.stop = stop
        self._lines = lines
        self._ready: queue.Queue[str] = queue.Queue(_BOUND)
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._error: Exception | None = None
        self._ended = False

    async def open(self, patience: float) -> None:
        """Begin, and wait this long for the first line or for an error, which is raised: Refused or XmodError."""
        threading.Thread(target=self._pump, name="log-stream", daemon=True).start()
        try:
            async with asyncio.timeout(patience):
                await self._wake.wait()
        except TimeoutError:
            return
        if self._error is not None and self._ready.empty():
            raise self._error

    async def chunks(self) -> AsyncIterator[bytes]:
        """The lines, as many at a time as there are."""
        try:
            while True:
                self._wake.clear()
                ended = self._ended  # before draining: nothing comes after it
                if lines := self._drained():
                    yield "".join(line.rstrip("\n") + "\n" for line in lines).encode("utf-8", "replace")
                elif ended:
                    if self._error is not None:
                        yield f"xmod-agent: {self._error}\n".encode()
                    return
                else:
                    await self._wake.wait()
        finally:
            self.stop.set()

    def _drained(self) -> list[str]:
        lines: list[str] = []
        while len(lines) < _BOUND:
            try:
                lines.append(self._ready.get_nowait())
            except queue.Empty:
                break
        return lines

    def _pump(self) -> None:
        try:
            for line in self._lines():
                if not self._put(line):
                    return
        except (Refused, XmodError) as error:
            self._error = error
        finally:
            self._ended = True
            self._tell()

    def _put(self, line: str) -> bool:
        while not self.stop.is_set():
            try:
                self._ready.put(line, timeout=0.5)
            except queue.Full:
                continue
            self._tell()
            return True
        return False

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # the loop is closed: the server is gone, and with it the reader
            self.stop.set()

"""The running agent as the surface sees it, in memory: agent.surface.operations.Operations for tests of the wire."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event

from agent.contracts import ServiceName
from agent.control.board import GoalState, Phase, Status, Truth
from agent.journal import Event as JournalEvent
from agent.surface.operations import (
    AgentView,
    HeldPrune,
    History,
    InvalidFile,
    Refused,
    Resumed,
    SourceView,
    UnknownName,
    WorldView,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def a_status(name: str, phase: Phase = Phase.READY, **more: object) -> Status:
    ready = phase is Phase.READY
    status = Status(
        name=ServiceName(name),
        phase=phase,
        serving=Truth(ready, "Answers" if ready else "NotYet"),
        converged=Truth(ready, "Achieved" if ready else "Loading", "" if ready else "the model is loading"),
        since=NOW,
        shimlet="process",
        goalset="llm-deploy",
        goal="" if ready else "healthy",
        wanted="d1",
        routed="d1" if ready else "",
        revision="0123456789abcdef",
        file=f"{name}.yaml",
        replicas=1,
        ready=int(ready),
        endpoints=("http://127.0.0.1:18000",) if ready else (),
        goals=(
            GoalState("placed", "achieved"),
            GoalState("healthy", "achieved" if ready else "pending", "" if ready else "Loading", "503 from /health"),
            GoalState("exposed", "achieved" if ready else "waiting"),
        ),
        wanted_since=None if ready else NOW - timedelta(seconds=90),
    )
    return replace(status, **more)


class FakeOperations:
    """Answers from `agent`; remembers the words it was told in `words`."""

    def __init__(self) -> None:
        self.agent = AgentView(
            version="0.1.0",
            instance="t",
            started_at=NOW,
            heartbeat=NOW,
            source=SourceView(
                "src-1",
                "/srv/specs",
                "0123456789abcdef",
                NOW,
                2,
                (InvalidFile("bad.yaml", ("3:5: spec.port: must be a number",)),),
            ),
            worlds=(WorldView("process", NOW),),
            services=(a_status("qwen"), a_status("slow", Phase.PROGRESSING)),
            held=(HeldPrune("old", "Budget", "3 of 4 services would go", NOW - timedelta(minutes=5)),),
        )
        self.happened: list[JournalEvent] = []
        self.words: list[tuple[object, ...]] = []
        self.why_not_alive = ""
        self.why_not_ready = ""
        self.hang = Event()  # set by a test's end: view() blocks until then while `hangs`
        self.hangs = False
        self.lines = ["one", "two", "three"]
        self.news = Event()
        self.followers = 0

    def view(self) -> AgentView:
        if self.hangs:
            self.hang.wait(60)
        return self.agent

    def alive(self) -> str:
        if self.hangs:
            self.hang.wait(60)
        return self.why_not_alive

    def ready(self) -> str:
        return self.why_not_ready

    def events(self, name: str, since: datetime | None, after: int, limit: int) -> History:
        found = [e for e in self.happened if e.service == (name or e.service) and e.id > after]
        found = [e for e in found if since is None or e.at >= since]
        if name and not found and not after:
            self._known(name)
        shown = tuple(found[:limit] if after else found[-limit:])
        return History(shown, shown[-1].id if shown else after, self.agent.notices)

    def logs(self, name: str, tail: int, follow: Event | None) -> Iterator[str]:
        self._known(name)
        if name == "slow":
            raise Refused("slow has no replica yet")
        yield from self.lines[-tail:] if tail else ()
        if follow is None:
            return
        self.followers += 1
        try:
            while not follow.is_set():
                if self.news.wait(0.02):
                    self.news.clear()
                    yield "news"
        finally:
            self.followers -= 1

    def rescan(self) -> None:
        self.words.append(("rescan",))

    def approve_prune(self, names: Sequence[str]) -> tuple[str, ...]:
        held = [item.name for item in self.agent.held]
        for name in names:
            if name not in held:
                raise Refused(f"{name}: its removal is not held")
        self.words.append(("approve", *names))
        return tuple(names or held)

    def restart(self, name: str) -> None:
        self._known(name)
        self.words.append(("restart", name))

    def rollout(self, names: Sequence[str]) -> tuple[str, ...]:
        for name in names:
            self._known(name)
        self.words.append(("rollout", *names))
        return tuple(names or [str(status.name) for status in self.agent.services])

    def cancel_rollout(self, names: Sequence[str]) -> tuple[str, ...]:
        for name in names:
            self._known(name)
        self.words.append(("cancel", *names))
        return tuple(names or ["slow"])

    def suspend(self, name: str | None, reason: str) -> None:
        if name is not None:
            self._known(name)
        self.words.append(("suspend", name, reason))

    def resume(self, name: str | None) -> Resumed:
        if name is not None:
            self._known(name)
        self.words.append(("resume", name))
        return Resumed((name or "qwen",), {} if name else {"slow": "slow.yaml:1"})

    def retry(self, name: str) -> None:
        self._known(name)
        self.words.append(("retry", name))

    def forget(self, name: str) -> tuple[str, ...]:
        self._known(name)
        if name == "slow":
            raise Refused("cannot forget slow: slow stands in slow.yaml:1")
        self.words.append(("forget", name))
        return ("pid 77, running at 127.0.0.1:18000",)

    def adopt(self, source_id: str) -> int:
        if source_id == "src-1":
            raise Refused("src-1 is this agent's own source")
        self.words.append(("adopt", source_id))
        return 2

    def _known(self, name: str) -> None:
        if name not in [status.name for status in self.agent.services]:
            raise UnknownName(f"no service is called {name}")


def eventually(claim: object, seconds: float = 5.0) -> bool:
    """Poll until claim() is true, or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if claim():
            return True
        time.sleep(0.01)
    return bool(claim())

"""Part `latency`: from the last write of a spec file to the first call that acts on the runtime."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import specs
from bench.agent_process import AgentProcess, Failure
from bench.calls import Calls
from bench.table import Row, median, percentile
from bench.workplace import Workplace

P50, P99 = 150.0, 500.0  # ms, DESIGN §11
_BESIDE = 100  # other services in the folder

KINDS: tuple[tuple[str, Callable[[Path, str, str], None]], ...] = (
    ("new file, renamed into place", specs.put),
    ("edited file, renamed into place", specs.put),
    ("edited file, written in place", specs.overwrite),
)


def run(place: Workplace, *, quick: bool) -> Iterator[Row]:
    rounds = 20 if quick else 150
    with AgentProcess(place.folder("latency"), shimlet="pretend", instance=place.name("latency")) as agent:
        names = specs.fill(agent.specs, _BESIDE)
        agent.until(lambda: applied(agent.calls) >= set(names), 60, f"{_BESIDE} services to be applied")
        time.sleep(1.0)  # let it come to rest: the first rounds would measure its beginning
        calls = Calls(agent.calls)
        for what, write in KINDS:
            waits = [_wait(agent.specs, calls, f"new-{number:04d}", what, write) for number in range(rounds)]
            note = f"{rounds} writes beside {_BESIDE} services; first apply"
            yield Row(f"{what} → runtime, p50", median(waits), "ms", limit=P50, note=note)
            yield Row(f"{what} → runtime, p99", percentile(waits, 0.99), "ms", limit=P99)
        calls.close()


def _wait(folder: Path, calls: Calls, name: str, word: str, write: Callable[[Path, str, str], None]) -> float:
    """Milliseconds until the service that was written now is applied."""
    time.sleep(random.uniform(0.1, 0.4))  # not in step with any of the agent's own intervals
    calls.new()
    write(folder, name, specs.model_service(name, word))
    written = time.monotonic()
    call = calls.wait_for("apply", name)
    if call.at < written - 0.05:
        raise Failure(f"{name} was applied before it was written")
    return max(0.0, call.at - written) * 1000.0


def applied(path: Path) -> set[str]:
    return {call.name for call in Calls(path).new() if call.what == "apply"}

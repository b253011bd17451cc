"""Part `idle`: what the agent costs while nothing happens, at 1,000 services."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench import specs
from bench.agent_process import AgentProcess
from bench.calls import Calls
from bench.table import Row
from bench.workplace import Workplace

CPU, MEMORY = 1.0, 80.0  # % of one core; MiB. DESIGN §11


def run(place: Workplace, *, quick: bool) -> Iterator[Row]:
    count = 1000
    seconds = 30 if quick else 90
    with AgentProcess(place.folder("idle"), shimlet="pretend", instance=place.name("idle")) as agent:
        calls = Calls(agent.calls)
        began = time.monotonic()
        names = set(specs.fill(agent.specs, count))
        applied: set[str] = set()

        def all_applied() -> bool:
            applied.update(call.name for call in calls.new() if call.what == "record")
            return applied >= names

        agent.until(all_applied, 180, f"{count} services to be applied and recorded")
        yield Row(f"{count:,} files written → all converged", time.monotonic() - began, "s", note="pretend shimlet")
        time.sleep(15)
        calls.new()
        before, at = cpu_seconds(agent.pid), time.monotonic()
        time.sleep(seconds)
        used, passed = cpu_seconds(agent.pid) - before, time.monotonic() - at
        seen = Counter(call.what for call in calls.new())
        heard = ", ".join(f"{number} {what}" for what, number in sorted(seen.items())) or "none"
        yield Row(f"idle CPU at {count:,} services", 100 * used / passed, "%", limit=CPU, note=f"over {passed:.0f} s")
        yield Row(f"resident at {count:,} services", resident(agent.pid), "MiB", limit=MEMORY)
        lists = (seen.total() - seen["list"]) / count
        yield Row("calls to the runtime per service while idle", lists, "", limit=0.01, note=f"{passed:.0f} s: {heard}")
        calls.close()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no VmRSS")

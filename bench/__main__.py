"""`python -m bench [PART…] [--quick]`: measures, and prints a table with ratios and budgets.

Exit status: 0 measured (a missed budget is a fact, not a failure), 1 a part could not be measured.
"""

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator

from bench import docker_peers, git_latency, idle, latency, planning
from bench.agent_process import Failure
from bench.table import Row, render
from bench.workplace import Workplace

PARTS: dict[str, tuple[Callable[..., Iterator[Row]], str]] = {
    "latency": (latency.run, "write of a spec file → first call to the runtime"),
    "git": (git_latency.run, "update of a ref → first call to the runtime"),
    "docker": (docker_peers.run, "20 Docker services: agent, bare SDK and docker-compose on identical work"),
    "planning": (planning.run, "scan, parse and plan of 100, 1,000 and 10,000 specs"),
    "idle": (idle.run, "CPU and memory at 1,000 services"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures the agent.")
    known = "; ".join(f"{name}: {what}" for name, (_, what) in PARTS.items())
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: all. {known}")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: minutes become seconds, and numbers rougher"
    )
    asked = parser.parse_args()
    unknown = sorted(set(asked.parts) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    status = 0
    with Workplace() as place:
        for name in asked.parts or PARTS:
            status |= _measure(name, place, quick=asked.quick)
    return status


def _measure(name: str, place: Workplace, *, quick: bool) -> int:
    measure, what = PARTS[name]
    print(f"\n{name}: {what}", flush=True)
    began = time.monotonic()
    rows: list[Row] = []
    try:
        for row in measure(place, quick=quick):
            rows.append(row)
            print(".", end="", flush=True)
    except Failure as failure:
        print(f"\nnot measured: {failure}", file=sys.stderr)
        return 1
    finally:
        if rows:
            print(f"\n{render(rows)}\n({time.monotonic() - began:.0f} s)", flush=True)
    return 0


def _interrupt(*_: object) -> None:
    """The first one ends the run; what cleans up behind it is not to be interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

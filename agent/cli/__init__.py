"""The command line: `run` and `plan` build an agent, `validate` and `schema` need none, the rest speaks to a running one.

An expected error is one sentence on stderr and exit code 1, never a traceback; `plan` exits 2 if there is something to do.
"""

from agent.cli.app import app, main

__all__ = ["app", "main"]

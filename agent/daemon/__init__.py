"""Puts the parts together: `run` for the agent, `plan` for a dry run."""

from agent.daemon.dry_run import plan
from agent.daemon.running import run

__all__ = ["plan", "run"]

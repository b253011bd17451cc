"""A stranger's plugin file, for --plugin-dir: one goalset that does one thing more than the built-in one."""

from pathlib import Path

from agent.contracts import Achieved, Pending, compose
from goalsets.sets import SERVICE_DEPLOY


class Announced:
    """A list that some other program reads holds the service."""

    name = "announced"

    def __init__(self, path):
        self._path = path

    def is_achieved(self, ctx):
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return Achieved() if ctx.target.name in lines else Pending("NotListed", f"{self._path} does not name it")

    def ensure(self, ctx):
        with self._path.open("a") as out:
            out.write(f"{ctx.target.name}\n")


def register(plugins):
    announced = Announced(Path("announced.txt"))
    plugins.goalset(
        compose("announced-deploy").then(*SERVICE_DEPLOY.goals, announced).removed_by("service-delete").build()
    )

"""Carries out the steps of one apply.

A replica whose step is refused does not hold up the others; what was refused first is raised at the end. An engine that
cannot be reached ends it at once, and so does the bound: what was not done, the next apply does.
"""

import logging
import time
from collections.abc import Callable, Mapping

from agent.contracts import Conflict, Fate, Permanent, Placement, Service, Transient, XmodError, seal
from shimlets.docker import arguments
from shimlets.docker.arguments import Image
from shimlets.docker.container import Containers
from shimlets.docker.ending import Endings
from shimlets.docker.engine import Engine, Missing, PortTaken, Taken
from shimlets.docker.images import Images
from shimlets.docker.options import EngineOptions, workload_options
from shimlets.docker.steps import Step, There, Verb

_log = logging.getLogger("xmod.docker")
_BOUND = 4.0  # seconds after which nothing more is begun
_UNREACHED = frozenset({"Hung", "Unreachable", "Denied", "EngineChanged"})


class World:
    """What applying needs of one engine."""

    def __init__(
        self, engine: Engine, containers: Containers, endings: Endings, images: Images, options: EngineOptions
    ) -> None:
        self.engine = engine
        self.containers = containers
        self.endings = endings
        self.images = images
        self.options = options


class Applying:
    """One apply of one generation. `same`: whether a seal was made of these secrets."""

    def __init__(
        self,
        world: World,
        service: Service,
        there: There,
        *,
        secrets: Mapping[str, str],
        same: Callable[[str], bool],
    ) -> None:
        self._world = world
        self._service = service
        self._there = there
        self._secrets = secrets
        self._same = same
        self._strangers: Mapping[str, str] | None = None
        self._image: Image | None = None
        self._seal: str | None = None

    def run(self, todo: list[Step]) -> None:
        """Do it all, in order. Raises what was refused first."""
        ends, refused = time.monotonic() + _BOUND, None
        for step in todo:
            if time.monotonic() > ends:
                break
            try:
                self._do(step)
            except XmodError as error:
                if error.reason in _UNREACHED:
                    raise
                refused = refused or error
        if refused is not None:
            raise refused

    def _do(self, step: Step) -> None:
        containers, endings = self._world.containers, self._world.endings
        match step.verb:
            case Verb.STOP | Verb.RETIRE:
                grace = workload_options(self._service.workload.options).stop_grace
                endings.begin(step.id, grace=grace, remove=step.verb is Verb.RETIRE)
            case Verb.REMOVE:
                containers.remove(step.id)
            case Verb.RENAME:
                containers.rename(step.id, step.name)
            case Verb.UNPAUSE:
                containers.unpause(step.id)
            case Verb.UPDATE:
                containers.update(step.id, step.update)
            case Verb.CONNECT:
                containers.plug(step.id, self._service)
            case Verb.START:
                self._start(step.id, new=False)
            case Verb.CREATE if step.placement is not None:
                self._create(step, step.placement)

    def _create(self, step: Step, placement: Placement) -> None:
        self._check_place(step)
        body = arguments.creation(
            self._service,
            placement,
            owner=self._there.owner,
            image=self._chosen_image(),
            secrets=self._secrets,
            seal=self._sealed(),
            operator=self._world.options,
            engine=self._world.engine.known(),
        )
        if workload_options(self._service.workload.options).network == "bridge":
            self._world.containers.ensure_network()
        try:
            container = self._world.containers.create(step.name, body)
        except Taken as error:
            self._strangers = None
            self._check_place(step)
            raise Transient(str(error), reason="Busy", delay=1.0) from error  # our own, of a call that timed out
        self._start(container, new=True)

    def _check_place(self, step: Step) -> None:
        """Nothing without our mark has a name that this replica will need, now or later."""
        if self._strangers is None:
            self._strangers = self._world.containers.strangers(self._service.name)
        base = step.name.removesuffix(".new").removesuffix(".failed")
        for name in (base, f"{base}.new", f"{base}.failed"):
            if name in self._strangers:
                raise Conflict(stranger(name, self._strangers[name]), reason="NameTaken")

    def _start(self, container: str, *, new: bool) -> None:
        """Start it. What cannot be executed is no error of the world's: it is left there, and observe tells it."""
        containers = self._world.containers
        try:
            try:
                containers.start(container)
            except Missing as error:
                if "network" not in str(error):
                    raise
                containers.plug(container, self._service)  # the network was removed while the container was stopped
                containers.start(container)
        except PortTaken:
            if new:
                containers.remove(container)  # nothing of it holds the ledger to a port that it cannot have
            raise
        except XmodError as error:
            if error.reason in _UNREACHED or not self._cannot_run(container):
                raise
            extra = {"shimlet": "docker", "service": self._service.name, "error": str(error)}
            _log.info("cannot be executed", extra=extra)
        self._world.endings.started(container)

    def _cannot_run(self, container: str) -> bool:
        seen = self._world.containers.inspected(container, words=False)
        return seen is not None and seen.cannot_run

    def _chosen_image(self) -> Image:
        """What the generation runs already, else what the reference means now; a failed one tries what it means now."""
        if self._image is None:
            ref = self._service.workload.image
            if not ref:
                raise Permanent("docker: the service names no image; give container.image", reason="ImageMissing")
            ours = [one for one in self._there.containers if one.image_id]
            lasting = next((one.image_id for one in ours if one.fate is not Fate.FAILED), None)
            now = self._world.images.image_id(ref)
            image_id = lasting or now or next((one.image_id for one in ours), None)
            if image_id is None:
                raise Transient(f"docker: image {ref} is not here (any more)", reason="ImageMissing", delay=1.0)
            self._image = Image(self._world.images.local(ref) if image_id == now else image_id, image_id)
        return self._image

    def _sealed(self) -> str:
        if self._seal is None:
            marks = (one.seal for one in self._there.containers if one.seal and self._same(one.seal))
            self._seal = next(marks, "") or seal(self._secrets)
        return self._seal


def stranger(name: str, container: str) -> str:
    """The sentence about a container that stands in our place."""
    return f"docker: container {name} ({container[:12]}) does not carry our mark and has our name; rename or remove it"

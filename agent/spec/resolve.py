"""A file's bytes to the services that it wants: read, checked, bounded by policy, and resolved to what worlds run.

* A file with any problem wants nothing: no half of a file ever takes effect. All its problems are said at once.
* The digest is of what runs; replica count, port, priority, strategy and annotations are not in it. The spec digest is
  of the body as the user wrote it: the same spec digest with another digest means that the agent resolves it otherwise.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any

from pydantic import ValidationError

from agent.contracts import Digest, Service, ServiceName, digest_of
from agent.spec.bounds import excesses
from agent.spec.complaint import Fault, closest, empty_fields, faults, field, instead
from agent.spec.document import API_VERSION, KIND, DeploySpec, Spec
from agent.spec.engine import Engines
from agent.spec.policy import Policy
from agent.spec.reading import Document, Positions, Problem, read
from agent.spec.rules import contradictions, model_path, restarted_at
from agent.spec.workload import Found, Words, program_name, workload

_GROUP = "xmod.dev/"
_NEARLY = 0.85  # Kubernetes' "Deployment" is 0.7 of a DeploySpec
_MOST_PROBLEMS = 100  # of one file; each costs a search and a position
_ENOUGH = _MOST_PROBLEMS + 1


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the settings say for specs that do not. `goalset`: "" = as the engine says. `goalsets` includes aliases.

    `programs`: shimlets that run programs of the host, so that the policy's programs bound them, and not its images.
    """

    shimlet: str
    goalset: str = ""
    port_range: tuple[int, int] = (18000, 18999)
    shimlets: frozenset[str] = frozenset({"docker", "process"})
    goalsets: frozenset[str] = frozenset({"service-deploy", "llm-deploy"})
    programs: frozenset[str] = frozenset({"process"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """One service that a file wants. `line`: where its document begins."""

    service: Service
    suspended: bool
    restarted_at: datetime | None
    line: int


@dataclass(frozen=True, slots=True)
class FileReading:
    """What a file wants; with any problem, nothing."""

    wanted: tuple[Wanted, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Resolver:
    """Reads files under one policy, one engine table and one set of defaults. Looks at the host only to follow links."""

    policy: Policy
    engines: Engines
    defaults: Defaults

    def read_file(self, path: str, content: bytes) -> FileReading:
        """What a file wants, or all that is wrong with it. Never raises for what a file may hold."""
        reading = read(content)
        if reading.problems:
            return FileReading((), reading.problems)
        wanted: list[Wanted] = []
        wrong: list[tuple[Document, Fault]] = []
        lines: dict[str, int] = {}
        for document in reading.documents:
            outcome = self._document(document, path)
            if isinstance(outcome, Wanted):
                name = outcome.service.name
                if name in lines:
                    message = f'"{name}" is already the name of the document on line {lines[name]}; one of them must go'
                    wrong.append((document, Fault(("metadata", "name"), message)))
                lines[name] = document.line
                wanted.append(outcome)
            else:
                wrong += [(document, fault) for fault in outcome]
                if len(wrong) > _MOST_PROBLEMS:
                    break
        if wrong:
            return FileReading((), _problems(content, wrong))
        return FileReading(tuple(wanted), ())

    def _document(self, document: Document, file: str) -> Wanted | list[Fault]:
        data = document.data
        if not isinstance(data, dict):
            return [
                Fault((), f"a document must be a mapping that begins with apiVersion: {API_VERSION} and kind: {KIND}")
            ]
        envelope = _envelope(data)
        if envelope is not None:
            return envelope
        parsed = self._parsed(document)
        words = parsed if isinstance(parsed, list) else self._words(*parsed)
        if isinstance(words, list):
            return words
        said = chain(
            contradictions(words.document, words.row, words.port),
            excesses(words, self.policy, self.defaults.port_range),
        )
        wrong = list(islice(said, _ENOUGH))
        return wrong or _wanted(words, document, file)

    def _parsed(self, document: Document) -> tuple[DeploySpec, Mapping[str, Any]] | list[Fault]:
        """The document's schema checked, and the blocks that are named like a shimlet, which have none."""
        data = document.data
        wrong = [] if document.complete else list(islice(empty_fields(data), _ENOUGH))
        empty = {fault.path for fault in wrong}
        body = data.get("spec")
        blocks: dict[str, Any] = {}
        if isinstance(body, dict) and not self.defaults.shimlets.isdisjoint(body):
            blocks = {key: body[key] for key in self.defaults.shimlets if key in body and key not in _SPEC_FIELDS}
            data = {**data, "spec": {key: value for key, value in body.items() if key not in blocks}}
        for name, block in blocks.items():
            if block is not None and not isinstance(block, dict):
                wrong.append(Fault(("spec", name), f"must be a mapping, the options of the shimlet {name}"))
        try:
            parsed = DeploySpec.model_validate(data)
        except ValidationError as error:
            found = (fault for fault in faults(error, blocks=self.defaults.shimlets) if fault.path not in empty)
            return wrong + list(islice(found, _ENOUGH))
        return wrong or (parsed, blocks)

    def _words(self, document: DeploySpec, blocks: Mapping[str, Any]) -> Words | list[Fault]:
        """What engine, shimlet and goalset stand for."""
        spec, defaults = document.spec, self.defaults
        wrong: list[Fault] = []
        engine = spec.engine
        if engine is None and spec.container is None and model_path(spec):
            engine = self.engines.default
        row = self.engines.rows.get(engine) if engine is not None else None
        if engine is not None and row is None:
            wrong.append(_no_such("engine", engine, self.engines.rows))
        shimlet = spec.shimlet_name or defaults.shimlet
        if shimlet not in defaults.shimlets:
            wrong.append(_no_such("shimletName", shimlet, defaults.shimlets))
        goalset = spec.goal_set_name or defaults.goalset or (row.goalset if row is not None else "service-deploy")
        if goalset not in defaults.goalsets:
            wrong.append(_no_such("goalSetName", goalset, defaults.goalsets))
        if wrong:
            return wrong
        program = None
        if shimlet in defaults.programs:
            name = program_name(spec.container, row)
            program = Found(*self.policy.program(name)) if name else Found("")
        path = model_path(spec)
        model = Found(*self.policy.model(path)) if path else None
        return Words(document, shimlet, goalset, row, blocks.get(shimlet, {}), program, model)


def _wanted(words: Words, found: Document, file: str) -> Wanted:
    spec, metadata = words.spec, words.document.metadata
    made = workload(words)
    service = Service(
        name=ServiceName(metadata.name),
        workload=made,
        digest=digest_of(made),
        spec_digest=_spec_digest(found.data),
        shimlet=words.shimlet,
        goalset=words.goalset,
        replicas=spec.replica_count,
        port=spec.host_port,
        bind=spec.bind_address,
        strategy=spec.rollout.strategy,
        priority=spec.priority,
        protected=metadata.annotations.get("xmod.dev/prune") == "disabled",
        file=file,
    )
    suspended = metadata.annotations.get("xmod.dev/suspend") == "true"
    return Wanted(service, suspended, restarted_at(metadata), found.line)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_SPEC_FIELDS = frozenset(info.alias or name for name, info in Spec.model_fields.items())


def _problems(content: bytes, wrong: Sequence[tuple[Document, Fault]]) -> tuple[Problem, ...]:
    positions = Positions(content)
    problems = {
        Problem(*positions.of(document.index, fault.path, key=fault.key), field(fault.path), fault.message)
        for document, fault in wrong[:_MOST_PROBLEMS]
    }
    if len(wrong) > _MOST_PROBLEMS:
        last = wrong[_MOST_PROBLEMS][0].line
        problems.add(Problem(last, 1, "", f"more is wrong than these {_MOST_PROBLEMS} problems; mend them first"))
    return tuple(sorted(problems))


def _envelope(data: dict[str, Any]) -> list[Fault] | None:
    """None: a DeploySpec. No faults: a document of another kind, left alone.

    A document is another kind only if neither word is nearly ours: a typing error must not remove a service.
    """
    missing = [key for key in ("apiVersion", "kind") if not isinstance(data.get(key), str)]
    if missing:
        needs = {"apiVersion": API_VERSION, "kind": KIND}
        return [
            Fault((key,), f"is missing: a document begins with apiVersion: {API_VERSION} and kind: {KIND}")
            if data.get(key) is None
            else Fault((key,), f'must be "{needs[key]}"')
            for key in missing
        ]
    version, kind = data["apiVersion"], data["kind"]
    if (version, kind) == (API_VERSION, KIND):
        return None
    ours = version.startswith(_GROUP) or any(
        closest(word, [wanted], _NEARLY) for word, wanted in ((version, API_VERSION), (kind, KIND))
    )
    if not ours:
        return []
    words = (("apiVersion", version, API_VERSION), ("kind", kind, KIND))
    return [Fault((key,), f'must be "{wanted}", not "{word}"') for key, word, wanted in words if word != wanted]


def _no_such(key: str, word: str, known: Iterable[str]) -> Fault:
    return Fault(("spec", key), f'there is no "{word}" here; {instead(word, sorted(known))}')


def _spec_digest(data: dict[str, Any]) -> Digest:
    body = {"name": data["metadata"]["name"], "spec": data["spec"]}
    text = _CANONICAL.encode(body)
    return Digest(hashlib.sha256(text.encode()).hexdigest())

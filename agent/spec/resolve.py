"""A file's bytes to the services that it wants: read, checked, bounded by policy, and resolved to what worlds run.

* A file with any problem wants nothing: no half of a file ever takes effect. All its problems are said at once.
* The digest is of what runs; replica count, port, priority, strategy and annotations are not in it. The spec digest is
  of the body as the user wrote it for this host, overrides merged in, without hosts and dependsOn: the same spec digest
  with another digest means that the agent resolves it otherwise, and what is said of other hosts changes neither.
* A document for other hosts is held to the schema alone: rules and policy are asked where it is to run.
* An encrypted file is read as its plaintext, with its own positions; its secrets go beside the services, in no digest.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain, islice
from typing import Any, NamedTuple

from pydantic import ValidationError

from agent.contracts import Service, ServiceName, digest_of
from agent.spec.bounds import excesses
from agent.spec.complaint import Fault, closest, faults, field, instead
from agent.spec.document import API_VERSION, KIND, DeploySpec, Spec
from agent.spec.encrypted import NO_DECRYPTER, Decrypter, Locked, discreet, is_encrypted, laid_over, refusals
from agent.spec.engine import Engines
from agent.spec.hosts import HostId, Selection, meeting, selects
from agent.spec.overriding import Choice, choices, empty, merged, placed, refused
from agent.spec.policy import Policy
from agent.spec.reading import Document, Path, Positions, Problem, adornment, read
from agent.spec.rules import contradictions, model_path, restarted_at
from agent.spec.said import Said, said_by, spec_digest
from agent.spec.workload import IMAGE_PASSWORD, Found, Words, image_login, program_name, sealed_name, workload

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
    """One service that a file wants. `line`: where its document begins; `hosts`: what it says of the hosts it is for.

    `overridden`: it has overrides, for whatever hosts. `secrets`: decrypted values, by SecretRef.name.
    """

    service: Service
    suspended: bool
    restarted_at: datetime | None
    line: int
    hosts: Selection = None
    overridden: bool = False
    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def varies(self) -> bool:
        """On another host, another document or override may speak for this service."""
        return self.hosts is not None or self.overridden


@dataclass(frozen=True, slots=True)
class FileReading:
    """What a file wants; with any problem, nothing. `elsewhere`: the services that it wants on other hosts.

    `passing`: the problem may pass without a change of the file. `said`: what its documents say, whatever is thought of it.
    """

    wanted: tuple[Wanted, ...]
    problems: tuple[Problem, ...]
    elsewhere: tuple[ServiceName, ...] = ()
    passing: bool = False
    said: Mapping[ServiceName, Said] = dataclasses.field(default_factory=dict)


class _Elsewhere(NamedTuple):
    """A document that is for other hosts."""

    name: ServiceName


class _Parsed(NamedTuple):
    """A document whose schema is right, and its blocks for shimlets."""

    document: DeploySpec
    blocks: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resolver:
    """Reads files under one policy, one engine table and one set of defaults. Looks at the host only to follow links.

    `host`: for whom; None: for nobody in particular, so that every document is wanted, and checked as it is written and
    with each of its overrides.
    """

    policy: Policy
    engines: Engines
    defaults: Defaults
    host: HostId | None = None
    decrypter: Decrypter = NO_DECRYPTER

    def begin(self, contents: Iterable[bytes]) -> None:
        """These files will be read: what must be decrypted for that is begun, for all of them at once."""
        for content in contents:
            if b"sops" in content:
                reading = read(content)
                encrypted = not reading.problems and any(is_encrypted(found.data) for found in reading.documents)
                if encrypted and not _unopenable(content, reading.documents):
                    self.decrypter.begin(content)

    def read_file(self, path: str, content: bytes) -> FileReading:
        """What a file wants, or all that is wrong with it. Never raises for what a file may hold."""
        reading = read(content)
        if reading.problems:
            return FileReading((), reading.problems)
        encrypted = any(is_encrypted(document.data) for document in reading.documents)
        read_as = self._encrypted if encrypted else self._file
        return replace(read_as(path, content, reading.documents), said=said_by(reading.documents))

    def _encrypted(self, path: str, content: bytes, documents: Sequence[Document]) -> FileReading:
        problems = _unopenable(content, documents)
        if problems:
            return FileReading((), problems)
        try:
            return self._file(path, content, laid_over(documents, self.decrypter.plain(content)))
        except Locked as error:
            first = next(document for document in documents if is_encrypted(document.data))
            (problem,) = _problems(content, [(first, Fault(("sops",), str(error), key=True))])
            return FileReading((), (problem,), passing=error.passing)

    def _file(self, path: str, content: bytes, documents: Sequence[Document]) -> FileReading:
        wanted: list[Wanted] = []
        elsewhere: list[ServiceName] = []
        wrong: list[tuple[Document, Fault]] = []
        for document in documents:
            outcome = self._document(document, path)
            if isinstance(outcome, Wanted):
                wrong += [(document, fault) for fault in self._twice(outcome, wanted)]
                wanted.append(outcome)
            elif isinstance(outcome, _Elsewhere):
                elsewhere.append(outcome.name)
            else:
                wrong += [(document, fault) for fault in outcome]
                if len(wrong) > _MOST_PROBLEMS:
                    break
        if wrong:
            return FileReading((), _problems(content, wrong))
        return FileReading(tuple(wanted), (), tuple(elsewhere))

    def _document(self, document: Document, file: str) -> Wanted | _Elsewhere | list[Fault]:
        data = document.data
        if not isinstance(data, dict):
            return [
                Fault((), f"a document must be a mapping that begins with apiVersion: {API_VERSION} and kind: {KIND}")
            ]
        envelope = _envelope(data)
        if envelope is not None:
            return envelope
        wrong = [] if document.complete else list(islice(empty(data), _ENOUGH))
        parsed = self._parsed(data, frozenset(fault.path for fault in wrong))
        if wrong or isinstance(parsed, list):
            return wrong + (parsed if isinstance(parsed, list) else [])
        if parsed.document.spec.overrides:
            return self._overridden(data, parsed, document, file)
        if not self._meant(parsed):
            return _Elsewhere(ServiceName(parsed.document.metadata.name))
        return self._judged(data["spec"], parsed, document, file)

    def _meant(self, parsed: _Parsed) -> bool:
        return self.host is None or selects(parsed.document.spec.hosts, self.host)

    def _overridden(
        self, data: dict[str, Any], parsed: _Parsed, document: Document, file: str
    ) -> Wanted | _Elsewhere | list[Fault]:
        """What a document with overrides says here. Its schema is checked with each of them, whomever it is for."""
        overrides = parsed.document.spec.overrides
        wrong = list(islice(refused(overrides), _ENOUGH))
        if wrong:
            return wrong
        checked = choices(overrides, self.host)
        bodies = {
            choice: merged(data["spec"], overrides, choice)
            for choice in dict.fromkeys((*choices(overrides, None), *checked))
        }
        read = {choice: self._parsed({**data, "spec": body}) for choice, body in bodies.items()}
        for choice, outcome in read.items():
            if isinstance(outcome, list):
                wrong += placed(outcome, data, choice)
        if wrong:
            return list(islice(dict.fromkeys(wrong), _ENOUGH))
        if not self._meant(parsed):
            return _Elsewhere(ServiceName(parsed.document.metadata.name))
        judged: dict[Choice, Wanted | list[Fault]] = {
            choice: self._judged(bodies[choice], outcome, document, file)
            for choice in dict.fromkeys(((), *checked))
            if not isinstance(outcome := read[choice], list)
        }
        plain, wanted = judged[()], judged[checked[0]]
        for choice in checked:
            outcome_here = judged[choice]
            if isinstance(outcome_here, list):
                wrong += placed(outcome_here, data, choice, without=plain if isinstance(plain, list) else ())
        if wrong or isinstance(wanted, list):
            return list(islice(dict.fromkeys(wrong), _ENOUGH))
        return dataclasses.replace(wanted, overridden=True)

    def _judged(self, body: Mapping[str, Any], parsed: _Parsed, document: Document, file: str) -> Wanted | list[Fault]:
        """What a spec without overrides stands for, or what rules and policy have against it."""
        words = self._words(*parsed)
        if isinstance(words, list):
            return words
        said = chain(
            contradictions(words.document, words.row, words.port),
            excesses(words, self.policy, self.defaults.port_range),
        )
        host = str(self.host) if self.host is not None else ""
        return list(islice(said, _ENOUGH)) or _wanted(words, body, host=host, file=file, found=document)

    def _twice(self, found: Wanted, others: Iterable[Wanted]) -> Iterator[Fault]:
        """Another document of the file has this one's name, and both are for one host."""
        name = found.service.name
        for other in others:
            if other.service.name == name and (self.host is not None or meeting(found.hosts, other.hosts) is not None):
                message = f'"{name}" is already the name of the document on line {other.line}; one of them must go'
                yield Fault(("metadata", "name"), message)

    def _parsed(self, data: dict[str, Any], known: frozenset[Path] = frozenset()) -> _Parsed | list[Fault]:
        """The document's schema checked, and the blocks that are named like a shimlet, which have none."""
        wrong: list[Fault] = []
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
            found = (fault for fault in faults(error, blocks=self.defaults.shimlets) if fault.path not in known)
            return wrong + list(islice(found, _ENOUGH))
        return wrong or _Parsed(parsed, blocks)

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


def _wanted(words: Words, body: Mapping[str, Any], *, host: str, file: str, found: Document) -> Wanted:
    spec, metadata = words.spec, words.document.metadata
    made = workload(words)
    service = Service(
        name=ServiceName(metadata.name),
        workload=made,
        digest=digest_of(made),
        spec_digest=spec_digest(metadata.name, body),
        shimlet=words.shimlet,
        goalset=words.goalset,
        replicas=spec.replica_count,
        port=spec.host_port,
        bind=spec.bind_address,
        strategy=spec.rollout.strategy,
        priority=spec.priority,
        protected=metadata.annotations.get("xmod.dev/prune") == "disabled",
        image_login=image_login(words),
        depends_on=tuple(map(ServiceName, spec.depends_on)),
        file=file,
        host=host,
    )
    suspended = metadata.annotations.get("xmod.dev/suspend") == "true"
    return Wanted(service, suspended, restarted_at(metadata), found.line, spec.hosts, secrets=_secrets(words, found))


def _secrets(words: Words, found: Document) -> dict[str, str]:
    """What the document's SecretRefs to itself stand for."""
    if not found.secrets:
        return {}
    values = {v.key: found.secrets.get(v.value or "") for v in words.spec.env}
    login = words.container.image_credentials
    if login is not None:
        values[IMAGE_PASSWORD] = found.secrets.get(login.password or "")
    return {sealed_name(words.document, key): value for key, value in values.items() if value is not None}


_SPEC_FIELDS = frozenset(info.alias or name for name, info in Spec.model_fields.items())


def _unopenable(content: bytes, documents: Sequence[Document]) -> tuple[Problem, ...]:
    """Why an encrypted file is not even given to what decrypts."""
    adorned = adornment(content)
    wrong = list(refusals(documents))
    return ((adorned,) if adorned is not None else ()) + (_problems(content, wrong) if wrong else ())


def _problems(content: bytes, wrong: Sequence[tuple[Document, Fault]]) -> tuple[Problem, ...]:
    positions = Positions(content)
    problems = {
        Problem(*positions.of(document.index, fault.path, key=fault.key), field(fault.path), told.message)
        for document, fault in wrong[:_MOST_PROBLEMS]
        for told in (discreet(fault, document.hidden) if document.hidden else fault,)
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

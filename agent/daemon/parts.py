"""From settings to parts: the same source, specs, plugins and shimlets for a run and for a dry run.

What cannot be made raises StartError with a sentence for the operator.
"""

import fcntl
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from agent.clock import Clock
from agent.contracts import GoalSet, Service, Shimlet
from agent.control.words import Words
from agent.host.secret import HostSecrets
from agent.host.sops import Sops
from agent.journal import Bounds, Journal
from agent.registry import PluginError, Registry
from agent.settings import Settings
from agent.source.choice import ChosenSource
from agent.source.directory import DirectorySource
from agent.source.git.place import work_tree
from agent.source.git.remote import Access, BadRemote, remote
from agent.source.git.repository import RepositorySource
from agent.source.git.signature import Keys
from agent.source.git.trust import Trust
from agent.source.git.worktree import WorkTreeSource
from agent.source.snapshot import Source
from agent.spec.encrypted import NO_DECRYPTER, Decrypter
from agent.spec.engine import Engines
from agent.spec.hosts import HostId
from agent.spec.permission import Permission
from agent.spec.policy import Policy
from agent.spec.resolve import Defaults, Resolver

_PATIENCE = 3.0  # seconds that a scan waits for an encrypted file that it sees for the first time
_TOGETHER = 20.0  # the same for all of them: the watchdog starves meanwhile


class StartError(Exception):
    """Why the agent cannot start."""


def registry_of(settings: Settings) -> Registry:
    """All plugins that the settings bring in, with the default shimlet among them."""
    registry = Registry()
    try:
        registry.load_entry_points()
        if settings.plugins.plugin_dir is not None:
            registry.load_folder(settings.plugins.plugin_dir)
        registry.preload(settings.plugins.preload)
        registry.check()
        registry.shimlet_factory(settings.plugins.default_shimlet)
        if settings.plugins.default_pipeline:
            registry.goalset(settings.plugins.default_pipeline)
    except PluginError as error:
        raise StartError(str(error)) from error
    return registry


def sops_of(settings: Settings) -> Sops:
    """What decrypts specs, for a command that reads them once and may wait for that."""
    return Sops(os.environ, key_file=_key_file(settings))


def sops_beside(settings: Settings, source: Source) -> Sops:
    """What decrypts specs while the agent runs: nobody waits for it long, and the source is read again when it is done."""
    return Sops(os.environ, key_file=_key_file(settings), patience=_PATIENCE, together=_TOGETHER, wake=source.kick)


def _key_file(settings: Settings) -> str:
    return str(settings.secrets.age_key_file or "")


def resolver_of(settings: Settings, registry: Registry, decrypter: Decrypter = NO_DECRYPTER) -> Resolver:
    """What turns files into services, within the operator's policy."""
    try:
        policy = Policy.load(
            settings.policy,
            specs=settings.directory,
            search=os.environ.get("PATH", os.defpath),
            as_root=os.geteuid() == 0,
        )
        engines = Engines.load(settings.engines)
    except ValueError as error:
        raise StartError(f"{settings.file or 'settings'}: {error}") from error
    defaults = Defaults(
        shimlet=settings.plugins.default_shimlet,
        goalset=settings.plugins.default_pipeline,
        port_range=(settings.ports.range.first, settings.ports.range.last),
        shimlets=registry.shimlets,
        goalsets=registry.goalsets,
    )
    return Resolver(policy=policy, engines=engines, defaults=defaults, host=host_of(settings), decrypter=decrypter)


def host_of(settings: Settings) -> HostId:
    """Which host this is, to specs."""
    return HostId(settings.agent.host, settings.agent.labels)


def permits_of(resolver: Resolver) -> Callable[[Service], str]:
    """What says why a service may not be started now, under the policy that its file is held to."""
    return Permission(resolver.policy, resolver.engines, resolver.defaults).refusal


def bin_dir(settings: Settings) -> Path:
    """Where the programs of a spec folder are by convention: its sibling bin/."""
    return Path(os.path.abspath(settings.directory)).parent / "bin"  # noqa: PTH100 - links are the source's business


def source_of(settings: Settings, clock: Clock, *, dry: bool = False) -> Source:
    """Where the specs come from: a repository, or DIR in the mode that was set. `dry`: nothing is noted of it."""
    trust = _trust(settings)
    if settings.source.repo:
        return _repository(settings, clock, trust, tidy=not dry)

    def git() -> Source:
        notes = None if dry else settings.agent.state_dir / "git"
        return WorkTreeSource(settings.directory, clock=clock, trust=trust, notes=notes)

    def folder() -> Source:
        return DirectorySource(settings.directory, clock=clock)

    match settings.source.mode:
        case "git":
            return git()
        case "folder":
            return folder()
        case "auto" if trust is not None:
            return git()  # a folder has no commits: a demand for signatures is never dropped
        case "auto":
            return ChosenSource(settings.directory, git=git, folder=folder)


def _trust(settings: Settings) -> Trust | None:
    """Whose signatures the commits need, None if none."""
    given = settings.source
    if given.verify == "none":
        return None
    keys = Keys(given.allowed_signers, given.keyring)
    tree = None if given.repo else work_tree(os.path.realpath(settings.directory))
    if tree is not None and (wrong := keys.misplaced(tree.top)):
        raise StartError(wrong)
    return Trust(given.verify, keys)


def _repository(settings: Settings, clock: Clock, trust: Trust | None, *, tidy: bool) -> RepositorySource:
    given = settings.source
    access = Access(given.token_file, given.ssh_key, given.known_hosts)
    try:
        wanted = remote(given.repo, ref=given.ref, path=given.path, access=access)
    except BadRemote as error:
        raise StartError(str(error)) from error
    state = settings.agent.state_dir / "git"
    return RepositorySource(wanted, state=state, clock=clock, interval=given.interval, trust=trust, tidy=tidy)


def shimlet_of(settings: Settings, registry: Registry, name: str) -> Shimlet:
    """One shimlet, with its own options and its own folder for state."""
    options = dict(settings.shimlets.get(name, {}))
    if name == "process":
        options.setdefault("path", [str(bin_dir(settings))])
    try:
        return registry.shimlet_factory(name)(settings.agent.instance, options, settings.agent.state_dir / name)
    except (PluginError, ValueError) as error:
        raise StartError(f"shimlet {name}: {error}") from error


def goalsets_of(registry: Registry) -> Callable[[str], GoalSet]:
    """Goalsets by name, with LookupError for one that does not exist."""

    def goalset(name: str) -> GoalSet:
        try:
            return registry.goalset(name)
        except PluginError as error:
            raise LookupError(str(error)) from error

    return goalset


def secrets_of(resolver: Resolver) -> HostSecrets:
    """Secrets of this host, those that the policy allows."""
    return HostSecrets(os.environ, resolver.policy.secret)


def hold(folder: Path) -> int | None:
    """Keep other agents out of a state folder while this descriptor is open: their words would be taken for ours.

    A folder that cannot be had now is no reason to end. Raises StartError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(held)
        raise StartError(f"{folder}: another agent keeps its state there; give each one its own --state-dir") from error
    except OSError:  # a file system without locks
        os.close(held)
        return None
    return held


def journal_of(settings: Settings, clock: Clock, told: Callable[[str, int], None]) -> Journal:
    """The agent's memory, within its bounds."""
    bounds = Bounds(timedelta(seconds=settings.journal.max_age), settings.journal.max_size)
    return Journal(settings.agent.state_dir, bounds=bounds, clock=clock, told=told)


def words_of(journal: Journal) -> tuple[Words, bool]:
    """The operator's words, and whether there was any memory of them. What is no memory is set aside."""
    words, wrong = words_read(journal)
    if wrong:
        journal.set_aside(wrong)
    return words or Words(), words is not None


def words_read(journal: Journal) -> tuple[Words | None, str]:
    """The operator's words, None if there are none, and what is wrong with their file. Changes nothing."""
    try:
        data = journal.load()
        return (None if data is None else Words.from_plain(data)), ""
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return None, repr(error)

"""A repository elsewhere: its URL, which of its commits is meant, and how git gets in.

A token is read from its file by git's own credential protocol at the moment it is needed, for that host alone; so it
is in no command line, environment, URL, log or file of ours. ssh asks nobody and knows its hosts. Without a token or
key of ours, git's own credential helpers and the user's ssh settings hold, and its proxies always do.
"""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

_SCP = re.compile(r"(?:[^/@:\s]+@)?[^/:\s@]+:(?!//).+")
_SCHEMES = ("https", "http", "ssh", "git", "file")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TOKEN = re.compile(
    r"(?:gh[oprsu]_|github_pat_|gl[a-z]{2,5}-)\w{16}|[0-9a-fA-F]{40}$"
)  # git servers take one as a user, too
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class BadRemote(ValueError):
    """A URL, ref or path that cannot be meant, and why."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to get in. `token_file`: for https; `ssh_key`, `known_hosts`: for ssh."""

    token_file: Path | None = None
    ssh_key: Path | None = None
    known_hosts: Path | None = None


@dataclass(frozen=True, slots=True)
class Remote:
    """`url`: without secrets; `ref`: a branch, tag, full ref name or full commit id, "" for the remote's HEAD.

    `path`: of the specs in it, "" for its root.
    """

    url: str
    ref: str = ""
    path: str = ""
    access: Access = Access()

    @property
    def id(self) -> str:
        """What marks say: the repository and the path, not the ref: another branch of it is the same source."""
        return f"git:{self.url}" + (f"//{self.path}" if self.path else "")

    @property
    def location(self) -> str:
        """For people."""
        return self.url + (f" at {self.ref}" if self.ref else "") + (f", {self.path}" if self.path else "")

    @property
    def pinned(self) -> bool:
        """The ref is a commit's id: it never changes."""
        return is_commit(self.ref)

    @property
    def asked_cheaply(self) -> bool:
        """Whether to ask for the ref before a fetch: over ssh the handshake is all the cost, and a fetch has the same."""
        return urlsplit(self.url).scheme in ("http", "https", "file") and not self.pinned

    def env(self) -> Mapping[str, str]:
        """The environment that lets git in."""
        env = {"GIT_NO_LAZY_FETCH": "0"}
        for name, value in (("GIT_HTTP_LOW_SPEED_LIMIT", "1000"), ("GIT_HTTP_LOW_SPEED_TIME", "30")):  # bytes/s, s
            env[name] = os.environ.get(name, value)
        return {**env, **self._credentials(), **self._ssh()}

    def _credentials(self) -> Mapping[str, str]:
        """The token by a helper of our own, added to what GIT_CONFIG_… of the agent's environment says."""
        token = self.access.token_file
        if token is None:
            return {}
        parts = urlsplit(self.url)
        scope = f"credential.{parts.scheme}://{parts.netloc.rpartition('@')[2]}.helper"
        name = shlex.quote(f"username={parts.username or 'git'}")
        helper = (
            f'!f() {{ test "$1" = get || exit 0; echo {name}; '
            f'printf "password=%s\n" "$(cat {shlex.quote(str(token))})"; }}; f'
        )
        given = os.environ.get("GIT_CONFIG_COUNT", "")
        first = int(given) if given.isdigit() else 0
        env = {"GIT_CONFIG_COUNT": str(first + 2)}
        for number, value in enumerate(("", helper), first):  # the empty one drops the helpers that were set before
            env |= {f"GIT_CONFIG_KEY_{number}": scope, f"GIT_CONFIG_VALUE_{number}": value}
        return env

    def trouble(self) -> str:
        """What of the files named is not there, "" if all are."""
        named = (
            ("tokenFile", self.access.token_file),
            ("sshKey", self.access.ssh_key),
            ("knownHosts", self.access.known_hosts),
        )
        for setting, file in named:
            if file is not None:
                try:
                    if not file.read_bytes().strip():
                        return f"source.{setting}: {file} is empty"
                except OSError as error:
                    return f"source.{setting}: {file} cannot be read ({error.strerror})"
        return ""

    def _ssh(self) -> Mapping[str, str]:
        key, hosts = self.access.ssh_key, self.access.known_hosts
        if key is None and hosts is None and (os.environ.get("GIT_SSH_COMMAND") or os.environ.get("GIT_SSH")):
            return {}
        options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=15"]
        options += ["ServerAliveInterval=10", "ServerAliveCountMax=3"]
        if key is not None:
            options += ["IdentitiesOnly=yes", f"IdentityFile={_quoted(key)}"]
        if hosts is not None:
            options += [f"UserKnownHostsFile={_quoted(hosts)}", "GlobalKnownHostsFile=none"]
        words = ["ssh", *(word for option in options for word in ("-o", option))]
        return {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}


def is_commit(ref: str) -> bool:
    """Whether it is a commit's full id."""
    return _SHA.fullmatch(ref) is not None


def remote(url: str, *, ref: str = "", path: str = "", access: Access | None = None) -> Remote:
    """Check what was set. Raises BadRemote."""
    access = access or Access()
    path = path.strip("/")
    if any(part in ("", ".", "..") for part in path.split("/")) and path:
        raise BadRemote(f'source.path: must be a path inside the repository such as "hosts/edge", got {path!r}')
    if ref.startswith(("-", "refs/xmod/")) or re.search(r"[\s~^:?*\[\\\x00-\x1f]|\.\.|@\{", ref):
        raise BadRemote(f"source.ref: must be a branch, a tag or a full commit id, got {ref!r}")
    url = _url(url)
    parts = urlsplit(url)
    if access.token_file is not None:
        if parts.scheme not in ("https", "http"):
            raise BadRemote("source.tokenFile: is for an https URL; for ssh there is source.sshKey")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise BadRemote("source.tokenFile: a token must not travel in the clear; use an https URL")
    return Remote(url, ref, path, access)


def _url(url: str) -> str:
    if not url or url.startswith("-") or re.search(r"[\s\x00-\x1f]", url):
        raise BadRemote(f"source.repo: must be a URL, got {url!r}")
    if "://" in url:
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            raise BadRemote(f"source.repo: git over {parts.scheme!r} is not spoken; use {', '.join(_SCHEMES)}")
        if parts.password is not None or _TOKEN.match(parts.username or ""):
            bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
            raise BadRemote(
                f"source.repo: a secret does not belong into a URL; write it into a file and name that as "
                f"source.tokenFile, with the URL {bare}"
            )
        return url.rstrip("/")
    if _SCP.fullmatch(url):
        return url
    return Path(url).expanduser().absolute().as_uri()


def _quoted(path: Path) -> str:
    """As ssh's option parser wants a path, which knows quotes and %-tokens."""
    return '"' + str(path).replace("%", "%%") + '"'

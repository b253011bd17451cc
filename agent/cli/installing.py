"""`install-systemd`: this program as a service of the host.

The unit is made of a template in the package, and what it needs is put there: a user of its own, /etc/xmod-agent with an
example of the settings, which is never overwritten. Doing it twice is doing it once. Nothing is started.
"""

import grp
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

import agent
from agent.cli import show
from agent.cli.options import of_setting, refuse
from agent.settings import load

UNIT = Path("/etc/systemd/system/xmod-agent.service")
CONFIG = Path("/etc/xmod-agent/config.yaml")
SPECS = Path("/etc/xmod-agent/specs")
HOME = Path("/var/lib/xmod-agent")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]*\$?")
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f\udc80-\udcff]")  # in a unit: what ends a line or a word, and no UTF-8
_ODD = re.compile(rf"[ \"'\\;]|{_UNSPEAKABLE.pattern}")
_SUBGROUP = 254  # the systemd that can put the agent into a group beside those of its programs


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("install-systemd")(install)


def install(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help=f"Folder of DeploySpecs, unless --repo. [default: {SPECS}]")
    ] = None,
    repo: Annotated[str | None, of_setting("--repo", "URL")] = None,
    ref: Annotated[str | None, of_setting("--ref", "REF")] = None,
    path: Annotated[str | None, of_setting("--path", "PATH")] = None,
    user: Annotated[
        str, typer.Option("--user", metavar="NAME", help="Whom it runs as; made if missing.")
    ] = "xmod-agent",
    *,
    only_print: Annotated[bool, typer.Option("--print", help="Print the unit, and change nothing.")] = False,
) -> None:
    """Install the systemd unit, or print it. Makes its user and /etc/xmod-agent. Starts nothing; may be repeated."""
    if directory is not None and repo:
        raise refuse("DIR and --repo are two sources; say which one is meant")
    if not repo and (ref or path):
        raise refuse("--ref and --path are of a repository: say which with --repo")
    if not _NAME.fullmatch(user):
        raise refuse(f"--user {user!r}: a user's name has letters, digits and _ . - @, and begins with a letter or _")
    source = ("--repo", repo) if repo else _folder(directory)
    more = [word for flag, value in (("--ref", ref), ("--path", path)) if value for word in (flag, value)]
    text = unit([str(_program()), "run", *source, *more], user=user, group=_group(user), version=_version())
    if only_print:
        typer.echo(text, nl=False)
        return
    _refuse_elsewhere()
    _refuse_unreachable(_program(), Path(sys.executable).resolve(), Path(agent.__file__))
    _make_user(user)
    try:
        _make_settings(pwd.getpwnam(user).pw_gid, specs=SPECS if str(SPECS) in source else None)
        _write(UNIT, text)
    except OSError as error:
        raise refuse(f"{error.filename}: {error.strerror}; nothing was started") from error
    _run("systemctl", "daemon-reload")
    show.say(f"installed {UNIT}; settings are in {CONFIG}")
    show.say("next: systemctl enable --now xmod-agent")
    show.say(f"then: xmod-agent status, as root or as a member of the group {_group(user)}")


def unit(words: Sequence[str], *, user: str, group: str, version: int) -> str:
    """The unit's text. `words`: the program's full path and its arguments; `version`: systemd's."""
    subgroup = "DelegateSubgroup=agent"
    if version < _SUBGROUP:
        subgroup = f"# From systemd {_SUBGROUP} on, limits of memory and cpu hold for programs too, by this: {subgroup}"
    text = files("agent.cli").joinpath("systemd/xmod-agent.service").read_text()
    values = {"EXEC": " ".join(map(_quoted, words)), "USER": user, "GROUP": _quoted(group), "SUBGROUP": subgroup}
    return re.sub("@([A-Z]+)@", lambda found: values[found[1]], text)  # in one go: a path may look like one of them


def _quoted(word: str) -> str:
    """A word as systemd reads it in ExecStart."""
    word = word.replace("%", "%%").replace("$", "$$")
    if word and not _ODD.search(word):
        return word
    word = word.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + _UNSPEAKABLE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", word) + '"'


def _folder(directory: Path | None) -> tuple[str, ...]:
    """The folder to run on; none if the settings name a repository."""
    if directory is not None:
        return (os.path.abspath(directory),)  # noqa: PTH100 - links are the source's business
    try:
        there = CONFIG.exists()
    except PermissionError as error:
        raise refuse(f"{CONFIG} cannot be read, and may name a repository; be root, or say DIR or --repo") from error
    if there and load(directory=SPECS, file=CONFIG, environ={}).source.repo:
        return ()
    return (str(SPECS),)


def _program() -> Path:
    """This program, as installed."""
    here = Path(sys.prefix) / "bin" / "xmod-agent"
    if not here.exists():
        raise refuse(f"{here} is not there: install the program into a virtual environment, and run it from there")
    return here


def _group(user: str) -> str:
    """The user's own group; of one that is to be made, the group of its name."""
    try:
        return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except KeyError:
        return user


def _version() -> int:
    """Of this host's systemd; 0 if there is none."""
    try:
        told = subprocess.run(["/usr/bin/systemctl", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return 0
    words = told.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def _refuse_elsewhere() -> None:
    if not Path("/run/systemd/system").is_dir():
        raise refuse("systemd does not run here; with --print the unit is only shown")
    if os.geteuid() != 0:
        raise refuse("only root can install a service; with --print the unit is only shown")


def _refuse_unreachable(program: Path, *needed: Path) -> None:
    """Another user must be able to start it, and to read what it needs for that."""
    for path in (program, *needed):
        for place in (*path.parents, path):
            right = stat.S_IROTH if place == path and path.suffix == ".py" else stat.S_IXOTH
            if not place.stat().st_mode & right:
                raise refuse(
                    f"{path}: other users may not enter or read {place}, so the service could not start; install the"
                    " program, and its Python, where they may, such as /opt/xmod-agent"
                )
    if program.stat().st_uid != 0:
        show.complain(f"{program} does not belong to root: whoever it belongs to could become the service, and root")


def _make_user(user: str) -> None:
    try:
        pwd.getpwnam(user)
    except KeyError:
        _run("useradd", "--system", "--user-group", "--home-dir", str(HOME), "--no-create-home",
             "--shell", "/usr/sbin/nologin", user)  # fmt: skip
    try:
        members = grp.getgrnam("docker").gr_mem
    except KeyError:
        show.complain(f"there is no group docker; once there is: usermod -aG docker {user}")
        return
    if user not in members and user != "root":
        _run("usermod", "-aG", "docker", user)


def _make_settings(gid: int, *, specs: Path | None) -> None:
    """Root's, readable for the service's group. What is there already stays, and is told if the service cannot read it."""
    folder = CONFIG.parent
    if not folder.exists():
        _make_folder(folder, gid)
    if not CONFIG.exists():
        _write(CONFIG, files("agent.cli").joinpath("systemd/config.yaml").read_text(), mode=0o640, gid=gid)
    if specs is not None and not specs.exists() and not specs.is_symlink():
        _make_folder(specs, gid)
    for path, group, other in ((folder, 0o010, 0o001), (CONFIG, 0o040, 0o004)):
        found = path.stat()
        if not found.st_mode & (group if found.st_gid == gid else other):
            show.complain(f"{path}: the service may not read it; chgrp {gid} {path} && chmod g+rX {path}")


def _make_folder(path: Path, gid: int) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, 0, gid)
    path.chmod(0o750)  # whatever root's umask is


def _write(path: Path, text: str, *, mode: int = 0o644, gid: int = 0) -> None:
    """Put a whole file there, root's; through no link that somebody laid."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
        out.flush()
        os.fchown(descriptor, 0, gid)
        os.fchmod(descriptor, mode)
    part.replace(path)


def _run(*words: str) -> None:
    if shutil.which(words[0]) is None:
        raise refuse(f"{words[0]} is not installed; please do what it would: {shlex.join(words)}")
    ran = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 words of ours
    if ran.returncode != 0:
        raise refuse(f"{shlex.join(words)} failed: {ran.stderr.strip() or ran.returncode}")

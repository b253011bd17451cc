"""`install-systemd`: this program as a service of the host.

The unit is made of a template in the package, and what it needs is put there: a user of its own, /etc/xmod-agent with an
example of the settings, which is never overwritten. Doing it twice is doing it once. Nothing is started.
"""

import grp
import os
import pwd
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

from agent.cli import show
from agent.cli.options import of_setting, refuse
from agent.settings import load

UNIT = Path("/etc/systemd/system/xmod-agent.service")
CONFIG = Path("/etc/xmod-agent/config.yaml")
SPECS = Path("/etc/xmod-agent/specs")
HOME = Path("/var/lib/xmod-agent")
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
    source = ("--repo", repo) if repo else _folder(directory)
    more = [word for flag, value in (("--ref", ref), ("--path", path)) if value for word in (flag, value)]
    text = unit([str(_program()), "run", *source, *more], user=user, group=_group(user), version=_version())
    if only_print:
        typer.echo(text, nl=False)
        return
    _refuse_elsewhere()
    _refuse_unreachable(_program())
    _make_user(user)
    _make_settings(user, specs=SPECS if str(SPECS) in source else None)
    _write(UNIT, text)
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
    for name, value in {
        "EXEC": " ".join(map(_quoted, words)),
        "USER": user,
        "GROUP": group,
        "SUBGROUP": subgroup,
    }.items():
        text = text.replace(f"@{name}@", value)
    return text


def _quoted(word: str) -> str:
    """A word as systemd reads it in ExecStart."""
    word = word.replace("%", "%%").replace("$", "$$")
    plain = word and not set(word) & set(" \t\n\"'\\;")
    return word if plain else '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _folder(directory: Path | None) -> tuple[str, ...]:
    """The folder to run on; none if the settings name a repository."""
    if directory is not None:
        return (os.path.abspath(directory),)  # noqa: PTH100 - links are the source's business
    if CONFIG.exists() and load(directory=SPECS, file=CONFIG, environ={}).source.repo:
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


def _refuse_unreachable(program: Path) -> None:
    """Another user must be able to start it."""
    for folder in (*program.parents, program):
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise refuse(
                f"{program}: other users may not enter {folder}, so the service could not start it; install the program"
                " where they may, such as /opt/xmod-agent"
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


def _make_settings(user: str, *, specs: Path | None) -> None:
    """Root's, readable for the service."""
    gid = pwd.getpwnam(user).pw_gid
    if not CONFIG.parent.exists():
        CONFIG.parent.mkdir(mode=0o750)
        os.chown(CONFIG.parent, 0, gid)
    if not CONFIG.exists():
        _write(CONFIG, files("agent.cli").joinpath("systemd/config.yaml").read_text(), mode=0o640)
        os.chown(CONFIG, 0, gid)
    if specs is not None and not specs.exists():
        specs.mkdir(mode=0o750)
        os.chown(specs, 0, gid)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.chmod(mode)
    part.replace(path)


def _run(*words: str) -> None:
    if shutil.which(words[0]) is None:
        raise refuse(f"{words[0]} is not installed; please do what it would: {shlex.join(words)}")
    ran = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 words of ours
    if ran.returncode != 0:
        raise refuse(f"{shlex.join(words)} failed: {ran.stderr.strip() or ran.returncode}")

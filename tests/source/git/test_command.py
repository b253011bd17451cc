"""Git is bounded in time, asks nobody, and hears nothing of whoever started the agent."""

import os
import resource
import shlex
import sys
import threading
import time
from pathlib import Path

import pytest

from agent.contracts import Transient
from agent.source.git.command import GitFailed, Repository, ask, run, sentence


def sleeping(tmp_path) -> list[str]:
    """A git that starts a child, tells its process id, and sleeps with it."""
    script = tmp_path / "sleep.sh"
    script.write_text(f"sleep 60 & echo $! > {shlex.quote(str(tmp_path / 'pid'))}; wait\n")
    return ["-c", f"alias.nap=!sh {shlex.quote(str(script))}", "nap"]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_what_takes_too_long_is_killed_with_its_children(tmp_path):
    began = time.monotonic()
    with pytest.raises(GitFailed, match="did not end within 1 s"):
        run(sleeping(tmp_path), seconds=1)
    assert time.monotonic() - began < 5
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while not gone(pid):
        assert time.monotonic() < deadline, "its child lives on"
        time.sleep(0.02)


def test_a_stop_ends_a_command(tmp_path):
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    with pytest.raises(GitFailed, match="was stopped"):
        run(sleeping(tmp_path), seconds=60, stop=stop)
    assert time.monotonic() - began < 5


def test_the_callers_own_repository_is_not_meant(repo, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert ask(Repository(("-C", str(repo.root))), ["rev-parse", "HEAD"], seconds=10).strip() == repo.head


def test_no_hook_of_a_repository_runs(repo, tmp_path):
    hook = repo.root / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    ask(Repository(("-C", str(repo.root))), ["update-ref", "refs/heads/x", "HEAD"], seconds=10)
    assert not (tmp_path / "ran").exists()


def test_strange_transports_are_refused(tmp_path):
    with pytest.raises(GitFailed, match="not allowed"):
        run(["ls-remote", f"ext::touch {tmp_path}/ran"], seconds=10)
    assert not (tmp_path / "ran").exists()


def test_without_git_the_reason_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Transient, match="git is not installed") as caught:
        run(["version"], seconds=10)
    assert caught.value.reason == "NoGit"


def test_a_host_that_has_nothing_left_for_git_is_waited_for(repo):
    repository = Repository(("-C", str(repo.root)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(Transient, match="cannot be started now") as caught:
            ask(repository, ["rev-parse", "HEAD"], seconds=10)
        assert caught.value.reason == "SourceSlow", "NoGit would make a plain folder of it"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ask(repository, ["rev-parse", "HEAD"], seconds=10).strip() == repo.head


def test_a_failure_carries_gits_own_sentence(tmp_path):
    with pytest.raises(GitFailed) as caught:
        run(["-C", str(tmp_path), "rev-parse", "HEAD"], seconds=10)
    assert caught.value.code == 128
    assert "not a git repository" in str(caught.value)
    assert sentence(b"hint: x\nfatal: it is so\nmore\n") == "it is so"
    assert sentence(b"ssh: no such host\n") == "ssh: no such host"


def test_a_plain_folder_needs_neither_git_nor_gitpython():
    words = "import sys; from agent.daemon import parts; assert not {'git', 'gitdb'} & sys.modules.keys()"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", words]) == 0

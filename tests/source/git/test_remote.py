"""What a repository may be named by, and that no secret gets anywhere."""

import subprocess
from pathlib import Path

import pytest

from agent.source.git.remote import Access, BadRemote, remote

TOKEN = Access(token_file=Path("/etc/token"))


@pytest.mark.parametrize(
    "url",
    [
        "https://h.example/x.git",
        "https://x-access-token@h.example/x",
        "ssh://git@h.example:22/x",
        "git@h.example:team/x.git",
        "git://h.example/x",
    ],
)
def test_a_url_of_each_kind_is_taken_as_it_is(url):
    assert remote(url).url == url


def test_a_path_is_a_url_too():
    assert remote("/srv/x.git").url == "file:///srv/x.git"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "https://me:secret@h.example/x"}, "does not belong into a URL"),
        ({"url": f"https://ghp_{'x' * 29}secret@h.example/x"}, "does not belong into a URL"),
        ({"url": f"https://glpat-{'x' * 14}secret@h.example/x"}, "does not belong into a URL"),
        ({"url": f"https://{'0a' * 20}@h.example/x"}, "does not belong into a URL"),
        ({"url": "ext::sh -c x"}, "must be a URL"),
        ({"url": "ext://x"}, "is not spoken"),
        ({"url": "--upload-pack=x"}, "must be a URL"),
        ({"url": "https://h/x", "ref": "-x"}, "source.ref"),
        ({"url": "https://h/x", "ref": "a..b"}, "source.ref"),
        ({"url": "https://h/x", "ref": "refs/xmod/current"}, "source.ref"),  # where the mirror says what is in force
        ({"url": "https://h/x", "ref": "a b"}, "source.ref"),
        ({"url": "https://h/x", "path": "../up"}, "source.path"),
        ({"url": "https://h/x", "path": "a//b"}, "source.path"),
        ({"url": "http://h.example/x", "access": TOKEN}, "in the clear"),
        ({"url": "git@h.example:x", "access": TOKEN}, "source.sshKey"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, said):
    with pytest.raises(BadRemote, match=said) as caught:
        remote(**given)
    assert "secret@" not in str(caught.value)


def test_the_id_names_repository_and_path_but_not_the_ref():
    one = remote("https://h/x", ref="main", path="/specs/")
    assert one.id == remote("https://h/x/", ref="v2", path="specs").id == "git:https://h/x//specs"
    assert one.location == "https://h/x at main, specs"


def test_the_token_is_for_its_host_alone(tmp_path):
    (tmp_path / "a token's").write_text("s3cret\n")
    env = remote("https://h.example/x", access=Access(token_file=tmp_path / "a token's")).env()
    asked = {}
    for host in ("h.example", "evil.example"):
        done = subprocess.run(
            ["git", "credential", "fill"],
            input=f"protocol=https\nhost={host}\n\n",
            env={"PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0", "HOME": str(tmp_path), **env},
            capture_output=True,
            text=True,
            check=False,
        )
        asked[host] = done.stdout
    assert "password=s3cret\n" in asked["h.example"]
    assert "s3cret" not in asked["evil.example"]


def test_settings_in_the_agents_own_environment_are_kept(monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    env = remote("https://h/x", access=TOKEN).env()
    assert env["GIT_CONFIG_COUNT"] == "3"
    assert "GIT_CONFIG_KEY_0" not in env


def test_ssh_checks_host_keys_and_asks_nobody(monkeypatch):
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -v")
    assert "GIT_SSH_COMMAND" not in remote("git@h:x").env(), "the user's own stays"
    access = Access(ssh_key=Path("/etc/a key"), known_hosts=Path("/etc/known_hosts"))
    command = remote("git@h:x", access=access).env()["GIT_SSH_COMMAND"]
    for option in ("StrictHostKeyChecking=yes", "BatchMode=yes", 'IdentityFile="/etc/a key"', "ConnectTimeout=15"):
        assert option in command
    assert 'UserKnownHostsFile="/etc/known_hosts"' in command


def test_a_missing_file_is_named_by_its_setting(tmp_path):
    assert "source.sshKey" in remote("git@h:x", access=Access(ssh_key=tmp_path / "none")).trouble()
    (tmp_path / "empty").touch()
    assert "is empty" in remote("https://h/x", access=Access(token_file=tmp_path / "empty")).trouble()
    assert remote("git@h:x").trouble() == ""

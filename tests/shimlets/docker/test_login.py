"""Who pulls an image, and that nobody is told their password."""

import base64
import json
import os
from pathlib import Path

import pytest

from agent.contracts import Credentials, Permanent, Transient
from shimlets.docker.login import Logins, carried, discreet
from shimlets.docker.options import RegistryLogin


def shown(header: dict[str, str]) -> dict[str, str]:
    return dict(json.loads(base64.urlsafe_b64decode(header["X-Registry-Auth"])))


@pytest.fixture
def logins(tmp_path: Path) -> Logins:
    (tmp_path / "password").write_text("geheim\n")
    (tmp_path / "docker.json").write_text(json.dumps({"auths": {"r.example": {"auth": "bWU6ZG9ja2Vycw=="}}}))
    return Logins(
        str(tmp_path / "docker.json"), [("q.example:5000", RegistryLogin("robot", str(tmp_path / "password")))]
    )


def test_the_operators_login_is_for_its_registry_alone(logins: Logins):
    assert logins.of("q.example:5000/team/x:v1") == Credentials("robot", "geheim")
    assert [logins.of(ref) for ref in ("q.example/x", "x", "docker.io/x", "q.example:5000.evil/x")] == [None] * 4


def test_a_login_goes_before_dockers_own(logins: Logins):
    told = shown(logins.header("r.example/x", Credentials("a", "b")))
    assert (told["username"], told["password"], told["serveraddress"]) == ("a", "b", "r.example")
    assert shown(logins.header("r.example/x", None))["username"] == "me"
    assert logins.header("s.example/x", None) == {}


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff", b"x" * (64 * 1024 + 1)])
def test_a_password_that_cannot_be_read_is_said_without_it(logins: Logins, tmp_path: Path, content: bytes | None):
    file = tmp_path / "password"
    file.unlink()
    if content is None:
        os.mkfifo(file)
    else:
        file.write_bytes(content)
    with pytest.raises(Transient, match=r"q\.example:5000: passwordFile") as refusal:
        logins.of("q.example:5000/x")
    assert (refusal.value.reason, "xx" in str(refusal.value)) == ("Credentials", False)


def test_a_reference_that_is_none_is_permanent(logins: Logins):
    with pytest.raises(Permanent) as refusal:
        logins.of("-bad.example/x")
    assert refusal.value.reason == "ImageInvalid"


@pytest.mark.parametrize(
    ("said", "password"),
    [
        ({"username": "robot", "password": "geheim", "email": None}, "geheim"),
        ({"ServerAddress": "r", "Username": "robot", "Password": "geheim"}, "geheim"),
        ({"ServerAddress": "r", "IdentityToken": "t0k3n"}, "t0k3n"),
        ({}, ""),
    ],
)
def test_what_a_header_shows_is_known_whoever_set_it(said: dict[str, str | None], password: str):
    found = carried({"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(said).encode()).decode()})
    assert found is not None
    assert found.password == password
    assert carried({}) is None


def test_an_error_is_told_without_the_password_in_any_form():
    login = Credentials("robot", "geheim")
    forms = ["geheim", base64.b64encode(b"robot:geheim").decode(), base64.b64encode(b"geheim").decode()]
    error = discreet(Transient(" ".join(forms), reason="X", delay=3.0), login)
    assert (str(error), error.reason, error.delay) == ("… … …", "X", 3.0)
    assert str(discreet(Permanent("as it was"), login)) == str(discreet(Permanent("as it was"), None)) == "as it was"
    assert str(discreet(Permanent("as it was"), Credentials("robot", ""))) == "as it was"

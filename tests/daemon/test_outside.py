"""What is made of the settings for the outside, and what is refused at the start."""

from pathlib import Path
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.daemon import outside
from agent.daemon.parts import StartError
from agent.settings import Settings
from agent.surface.metrics import Metrics
from tests.fakes.operations import FakeOperations


def settings(tmp_path: Path, **given: Any) -> Settings:
    return Settings.model_validate({"directory": tmp_path, **given})


def webhook_of(settings: Settings):
    return outside.webhook_of(settings, kick=lambda: None, count=lambda result: None)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text("s3cr3t\n")
    return path


def test_there_is_a_webhook_only_with_a_secret(tmp_path: Path, secret: Path):
    assert webhook_of(settings(tmp_path)) is None
    assert webhook_of(settings(tmp_path, webhook={"secretFile": secret})) is not None


def test_an_empty_secret_keeps_the_agent_from_starting(tmp_path: Path, secret: Path):
    secret.write_text("\n")
    with pytest.raises(StartError, match=r"webhook\.secretFile: .* is empty"):
        webhook_of(settings(tmp_path, webhook={"secretFile": secret}))


def test_a_port_without_a_secret_is_a_mistake(tmp_path: Path):
    with pytest.raises(StartError, match=r"of no use without webhook\.secretFile"):
        webhook_of(settings(tmp_path, webhook={"port": 8081}))


def test_it_answers_at_the_agents_address_unless_it_has_its_own(tmp_path: Path):
    assert outside.webhook_at(settings(tmp_path)) is None
    assert outside.webhook_at(settings(tmp_path, webhook={"port": 0, "bind": "0.0.0.0"})) == ("0.0.0.0", 0)


@pytest.mark.parametrize(
    ("source", "follows"),
    [
        ({}, ""),
        ({"repo": "https://git.example/x.git"}, ""),
        ({"repo": "https://git.example/x.git", "ref": "prod"}, "prod"),
        ({"repo": "https://git.example/x.git", "ref": "a" * 40}, ""),
    ],
)
def test_only_a_branch_or_tag_that_is_followed_can_tell_others_apart(
    tmp_path: Path, secret: Path, source, follows: str
):
    made = webhook_of(settings(tmp_path, webhook={"secretFile": secret}, source=source))
    assert made._follows == follows


def tellers(tmp_path: Path, **given: Any) -> list[str]:
    clock = SystemClock()
    view = FakeOperations().view
    made = outside.tellers_of(settings(tmp_path, **given), view=view, metrics=Metrics(clock=clock), clock=clock)
    return [teller.name for teller in made]


def test_only_who_is_named_is_told(tmp_path: Path, secret: Path):
    assert tellers(tmp_path) == []
    assert tellers(tmp_path, notify={"url": "https://hooks.example/x", "secretFile": secret}) == ["notify"]
    assert tellers(tmp_path, report={"url": "https://hub.example/x"}) == ["report"]


def test_a_url_may_be_in_a_file(tmp_path: Path):
    file = tmp_path / "url"
    file.touch(0o600)
    file.write_text("https://hooks.example/t0k3n\n")
    assert tellers(tmp_path, notify={"urlFile": file}) == ["notify"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"url": "hooks.example/t0k3n"}, r"^notify\.url: must be a URL such as"),
        ({"url": "https://h/t0k3n", "urlFile": "/x"}, "are two places"),
        ({"urlFile": "/nowhere/url"}, r"^notify\.urlFile: /nowhere/url cannot be read"),
        ({"url": "https://h/t0k3n", "secretFile": "/nowhere/secret"}, r"^notify\.secretFile: .* cannot be read"),
        ({"secretFile": "/nowhere/secret"}, "of no use without"),
    ],
)
def test_what_cannot_be_meant_keeps_the_agent_from_starting(tmp_path: Path, given: dict[str, str], why: str):
    with pytest.raises(StartError, match=why) as refused:
        tellers(tmp_path, notify=given)
    assert "t0k3n" not in str(refused.value)


def test_a_url_is_not_shown_with_the_settings(tmp_path: Path):
    assert "t0k3n" not in repr(settings(tmp_path, notify={"url": "https://h/t0k3n"}))

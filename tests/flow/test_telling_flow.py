"""The real program tells the outside: one POST for trouble, one for its end, and reports of how it is."""

import json
import sys
from pathlib import Path

import pytest

from tests.fakes.program import Program, eventually, program
from tests.fakes.receiver import receiver
from tests.flow.test_git_flow import spec

SECRET = "correct horse battery staple"


def failing(name: str) -> str:
    body = json.loads(spec(name))
    body["spec"]["container"]["command"] = [sys.executable, "-c", "raise SystemExit(3)"]
    return json.dumps(body)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(SECRET)
    return path


def put(agent: Program, name: str, text: str) -> None:
    new = agent.root / "new"
    new.write_text(text)
    new.replace(agent.specs / f"{name}.yaml")


def test_trouble_is_one_post_and_its_end_another_and_reports_say_how_it_is(secret: Path):
    with receiver(secret=SECRET) as hook, receiver(secret=SECRET) as hub:
        settings = {
            "policy": {"programs": [sys.executable]},
            "notify": {"secretFile": str(secret)},
            "report": {"secretFile": str(secret), "interval": "1h"},
        }
        with program("process", settings) as agent:
            agent.source = (str(agent.specs), "--notify-url", f"{hook.url}/t0k3n", "--report-url", f"{hub.url}/t0k3n")
            put(agent, "good", spec("good"))
            agent.start()
            agent.serving("good")

            put(agent, "web", failing("web"))
            eventually(lambda: hook.bodies, "the failure is told")
            eventually(lambda: reported(hub).get("web", {}).get("phase") == "Failed", "the failure is reported")
            put(agent, "web", spec("web"))
            agent.serving("web")
            eventually(lambda: len(hook.bodies) == 2, "its end is told")
            eventually(lambda: reported(hub).get("web", {}).get("phase") == "Ready", "its end is reported")

            put(agent, "bad", "spec: [")
            eventually(lambda: len(hook.bodies) == 3, "the invalid file is told")
            assert [(body["event"], body["service"], body["file"]) for body in hook.bodies] == [
                ("service.failed", "web", "web.yaml"),
                ("service.recovered", "web", "web.yaml"),
                ("file.invalid", "", "bad.yaml"),
            ]
            assert hook.bodies[0]["revision"]
            assert hook.wrong == hub.wrong == 0
            assert {body["instance"] for body in (*hook.bodies, *hub.bodies)} == {agent.instance}

            hook.answers = [500] * 1000
            (agent.specs / "bad.yaml").unlink()
            eventually(lambda: agent.status()["notices"], "it is said that nothing arrives")
            assert (
                f"notifications do not arrive: http://127.0.0.1:{hook.port}/…: answers 500" in agent.status()["notices"]
            )
            said = agent.output.read_text() + json.dumps(agent.status()) + json.dumps(hub.bodies)
            assert "t0k3n" not in said
            assert SECRET not in said
            assert agent.stop() == 0


def reported(hub) -> dict[str, dict]:
    """The services of the last report, by name."""
    return {service["name"]: service for body in hub.bodies[-1:] for service in body["services"]}


def test_a_url_that_cannot_be_meant_ends_the_start_with_a_sentence_without_it(tmp_path: Path):
    with program("process", {"notify": {"url": "hooks.example/t0k3n"}}) as agent:
        said = agent.says("run", str(agent.specs), "--port", "0", *agent.options, code=1)
        assert "t0k3n" not in said

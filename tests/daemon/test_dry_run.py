"""A dry run reads, and leaves everything as it was."""

import logging
import secrets
from pathlib import Path

import pytest

from agent.daemon.dry_run import plan
from agent.settings import load
from agent.surface.plan_view import PlanView


def planned(tmp_path: Path) -> PlanView:
    flags = {
        "plugins.defaultShimlet": "process",
        "agent.stateDir": tmp_path / "state",
        "agent.instance": f"t-{secrets.token_hex(4)}",
    }
    return plan(load(directory=tmp_path / "specs", flags=flags, environ={}))


def everything(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    folder = tmp_path / "specs"
    folder.mkdir()
    (folder / "bad.yaml").write_text("kind: DeploySpec\n")
    return folder


@pytest.mark.parametrize("words", [None, b"{", b"[]", b'{"approved": 7}', b'{"held": {"a": 1}}', b"[" * 100_000, b"{}"])
def test_a_plan_changes_nothing_whatever_the_memory_is(
    specs: Path, tmp_path: Path, words: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    if words is not None:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "words.json").write_bytes(words)
    before = everything(tmp_path)
    with caplog.at_level(logging.WARNING):
        view = planned(tmp_path)
    assert everything(tmp_path) == before
    assert (view.error, [row.name for row in view.rows]) == ("", ["bad.yaml"])
    told = [record for record in caplog.records if "corrupt" in record.message]
    assert len(told) == (words not in (None, b"{}"))


def test_a_plan_of_a_missing_folder_changes_nothing_either(tmp_path: Path) -> None:
    assert planned(tmp_path).error
    assert everything(tmp_path) == {}

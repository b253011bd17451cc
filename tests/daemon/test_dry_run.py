"""A dry run reads, and leaves everything as it was."""

import logging
import secrets
from pathlib import Path

import pytest

from agent.daemon.dry_run import plan
from agent.settings import load
from agent.surface.plan_view import PlanView


def planned(tmp_path: Path, *, here: bool = True) -> PlanView:
    flags = {
        "plugins.defaultShimlet": "process",
        "agent.stateDir": tmp_path / "state",
        "agent.instance": f"t-{secrets.token_hex(4)}",
        "agent.host": "a",
        "policy": {"programs": ["/bin/sh"]},
    }
    return plan(load(directory=tmp_path / "specs", flags=flags, environ={}), here=here)


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


def fleet(folder: Path, name: str, more: str = "") -> None:
    (folder / f"{name}.yaml").write_text(
        f"apiVersion: xmod.dev/v1\nkind: DeploySpec\nmetadata: {{name: {name}}}\n"
        f"spec:\n  container: {{command: [/bin/sh, -c, 'sleep 1'], health: {{none: true}}}}\n{more}"
    )


def rows(view: PlanView) -> list[str]:
    return [f"{row.action} {row.name}: {row.message}" for row in view.rows]


@pytest.mark.parametrize("here", [True, False])
def test_what_would_start_is_shown_in_the_order_in_which_it_would(tmp_path: Path, here: bool) -> None:
    folder = tmp_path / "specs"
    folder.mkdir()
    fleet(folder, "app", "  dependsOn: [mid]\n")
    fleet(folder, "mid", "  dependsOn: [queue]\n")
    fleet(folder, "queue")
    fleet(folder, "lost", "  dependsOn: [nobody]\n")
    fleet(folder, "other", "  hosts: [b]\n")
    view = planned(tmp_path, here=here)
    word = "create" if here else "run"
    assert rows(view) == [
        "keep lost: DependencyMissing: for nobody, which no document describes",
        f"{word} queue: replicas: 1",
        f"{word} mid: waits for queue, which does not serve yet",
        f"{word} app: waits for mid, which does not serve yet",
    ]
    assert (view.host, view.elsewhere, view.something) == ("" if here else "a", 1, here)
    assert everything(tmp_path).keys() == {*folder.iterdir(), folder}, "and nothing was written"

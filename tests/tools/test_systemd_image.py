"""The image of a host with systemd: made once, and the wheel that goes into it. That it boots is seen in tests/flow."""

import zipfile
from pathlib import Path

import pytest

from tools import systemd_image


def test_another_dependency_is_another_image(monkeypatch: pytest.MonkeyPatch):
    before = systemd_image.name()
    assert systemd_image.name() == before
    monkeypatch.setattr(systemd_image, "_dependencies", lambda: ["docker>=7.1"])
    assert systemd_image.name() != before


def test_the_wheel_holds_what_is_installed_and_leaves_the_work_tree_alone(tmp_path: Path):
    before = set(systemd_image.ROOT.iterdir())
    with zipfile.ZipFile(systemd_image.wheel(tmp_path)) as wheel:
        names = set(wheel.namelist())
    assert {"agent/cli/systemd/xmod-agent.service", "agent/cli/systemd/config.yaml", "agent/spec/engines.yaml"} <= names
    assert not any(name.startswith(("tests/", "tools/")) for name in names)
    assert set(systemd_image.ROOT.iterdir()) == before

"""The settings' names, defaults and bounds."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.settings.model import (
    AgentBlock,
    PortsBlock,
    ServiceBlock,
    default_socket,
    default_state_dir,
    socket_to_ask,
    table,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("500ms", 0.5), ("1m30s", 90), ("2h", 7200), ("1d", 86400), ("1.5s", 1.5), (7, 7)],
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert ServiceBlock(read_timeout=text).read_timeout == seconds


@pytest.mark.parametrize("text", ["30", "s", "-1s", "1 s", "30sec", "", "0s", 0, -3, "31d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValidationError):
        ServiceBlock(read_timeout=text)


@pytest.mark.parametrize("text", ["18000", "2-1", "0-5", "1-70000", "a-b", 5, [1, 2]])
def test_what_is_no_port_range_is_refused(text):
    with pytest.raises(ValidationError, match="FIRST-LAST"):
        PortsBlock(range=text)


def test_a_port_range_has_both_its_ends():
    assert PortsBlock(range="20000-20010").range == (20000, 20010)


@pytest.mark.parametrize("name", ["", "Upper", "a_b", "-a", "a-", "a" * 64, "../x", "a.b"])
def test_an_instance_is_a_dns_label(name):
    with pytest.raises(ValidationError):
        AgentBlock(instance=name)


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_loopback_needs_no_word(bind):
    assert ServiceBlock(bind=bind).loopback


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_addresses_must_be_meant(bind):
    with pytest.raises(ValidationError, match=r"set service\.allowRemote: true"):
        ServiceBlock(bind=bind)
    assert ServiceBlock(bind=bind, allow_remote=True).bind == bind


def test_a_bind_that_is_no_address_is_refused():
    with pytest.raises(ValidationError, match="must be an IP address"):
        ServiceBlock(bind="gpu-7.example")


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        ServiceBlock().port = 1


def test_every_setting_has_a_name_an_environment_variable_and_a_description():
    rows = table()
    assert len({row.env for row in rows}) == len(rows)
    assert all(row.description for row in rows)
    by_name = {row.name: row for row in rows}
    assert by_name["service.readTimeout"].env == "XMOD_SERVICE__READ_TIMEOUT"
    assert by_name["service.readTimeout"].default == "30s"
    assert by_name["agent.workers"].default == "4"
    assert by_name["plugins.defaultPipeline"].flag == "--goalset"
    assert by_name["policy"].env == "XMOD_POLICY"


def test_the_references_keys_are_there_with_its_defaults():
    shown = {row.name: row.default for row in table()}
    for name, default in {
        "service.port": "8080",
        "plugins.defaultShimlet": "docker",
        "plugins.defaultPipeline": "",
        "plugins.pluginDir": "",
        "logging.level": "info",
        "logging.output": "stdout",
    }.items():
        assert shown[name] == default


def test_the_socket_does_not_depend_on_the_state_folder():
    assert str(default_socket("a", {}, 0)) == "/run/xmod-agent/a.sock"
    assert str(default_socket("a", {"XDG_RUNTIME_DIR": "/run/user/7"}, 7)) == "/run/user/7/xmod-agent/a.sock"
    assert str(default_socket("a", {}, 7)) == "/tmp/xmod-agent-7/a.sock"


def test_a_user_without_an_agent_asks_the_hosts_service_if_there_is_one(monkeypatch, tmp_path: Path):
    own = tmp_path / "xmod-agent" / "a.sock"
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    monkeypatch.setattr("agent.settings.model.SYSTEM_FOLDER", tmp_path / "system")
    assert socket_to_ask("a", environ, 7) == own
    (tmp_path / "system").mkdir()
    assert socket_to_ask("a", environ, 7) == tmp_path / "system" / "a.sock"
    own.parent.mkdir()
    own.touch()
    assert socket_to_ask("a", environ, 7) == own


def test_two_instances_have_two_memories():
    assert str(default_state_dir("default", {}, 0)) == "/var/lib/xmod-agent"
    assert str(default_state_dir("b", {}, 0)) == "/var/lib/xmod-agent/b"
    assert str(default_state_dir("default", {"HOME": "/home/u"}, 7)) == "/home/u/.local/state/xmod-agent"
    assert str(default_state_dir("default", {"XDG_STATE_HOME": "/s"}, 7)) == "/s/xmod-agent"

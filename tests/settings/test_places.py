"""Where memory and socket are unless that was set."""

from pathlib import Path

from agent.settings.places import default_socket, default_state_dir, socket_to_ask


def test_the_socket_does_not_depend_on_the_state_folder():
    assert str(default_socket("a", {}, 0)) == "/run/xmod-agent/a.sock"
    assert str(default_socket("a", {"XDG_RUNTIME_DIR": "/run/user/7"}, 7)) == "/run/user/7/xmod-agent/a.sock"
    assert str(default_socket("a", {}, 7)) == "/tmp/xmod-agent-7/a.sock"


def test_a_user_without_an_agent_asks_the_hosts_service_if_there_is_one(monkeypatch, tmp_path: Path):
    own = tmp_path / "xmod-agent" / "a.sock"
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    monkeypatch.setattr("agent.settings.places.SYSTEM_FOLDER", tmp_path / "system")
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

"""Whose the sockets are, and what is said when one cannot be had."""

import os
import socket
import stat

import pytest

from agent.surface.client import Client
from agent.surface.socket_file import CannotListen
from tests.fakes.surface import a_surface


def test_the_socket_is_for_its_owner_alone(surface, folder):
    socket_mode = (folder / "run" / "t.sock").stat().st_mode
    assert stat.S_ISSOCK(socket_mode)
    assert stat.S_IMODE(socket_mode) == 0o600
    assert stat.S_IMODE((folder / "run").stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file to another group")
def test_members_of_the_group_that_was_named_may_speak_to_it_too(operations, folder):
    surface = a_surface(operations, folder, group="daemon")
    surface.start()
    try:
        for path, mode in ((folder / "run" / "t.sock", 0o660), (folder / "run", 0o750)):
            assert (stat.S_IMODE(path.stat().st_mode), path.group()) == (mode, "daemon")
    finally:
        surface.stop()


def test_a_group_that_does_not_exist_is_said_so(operations, folder):
    with pytest.raises(CannotListen, match="socketGroup: no-such-group: there is no such group"):
        a_surface(operations, folder, group="no-such-group").start()


def test_the_socket_is_gone_after_a_stop(operations, folder):
    surface = a_surface(operations, folder)
    surface.start()
    surface.stop()
    assert not (folder / "run" / "t.sock").exists()
    assert not surface.running


def test_a_second_agent_of_the_instance_is_refused_and_the_first_goes_on(surface, operations, folder):
    with pytest.raises(CannotListen, match="another agent of this instance is running"):
        a_surface(operations, folder).start()
    assert Client(folder / "run" / "t.sock").status()["instance"] == "t"


def test_a_socket_left_behind_by_a_killed_agent_is_replaced(operations, folder):
    (folder / "run").mkdir(mode=0o700)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(folder / "run" / "t.sock"))
    left.close()
    surface = a_surface(operations, folder)
    surface.start()
    try:
        assert Client(folder / "run" / "t.sock").status()["instance"] == "t"
    finally:
        surface.stop()


def test_a_file_in_the_sockets_place_is_not_removed(operations, folder):
    (folder / "run").mkdir(mode=0o700)
    (folder / "run" / "t.sock").write_text("mine")
    with pytest.raises(CannotListen, match="no socket is there"):
        a_surface(operations, folder).start()
    assert (folder / "run" / "t.sock").read_text() == "mine"


def test_a_folder_that_others_can_write_is_refused(operations, folder):
    (folder / "run").mkdir()
    (folder / "run").chmod(0o777)
    with pytest.raises(CannotListen, match="must belong to this user"):
        a_surface(operations, folder).start()


def test_a_socket_path_that_is_too_long_is_refused(operations, folder):
    with pytest.raises(CannotListen, match="at most 107 bytes"):
        a_surface(operations, folder, socket=folder / ("x" * 120)).start()


def test_a_port_in_use_is_said_so_and_the_socket_is_let_go(operations, folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            CannotListen, match=f"port {port}: another program has the port; choose another with --port"
        ):
            a_surface(operations, folder, port=port).start()
    surface = a_surface(operations, folder)
    surface.start()
    surface.stop()


def test_an_address_of_another_host_is_said_so(operations, folder):
    with pytest.raises(CannotListen, match="does not have that address"):
        a_surface(operations, folder, bind="192.0.2.1", allow_remote=True).start()

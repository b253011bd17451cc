"""The lock is one owner's, names its holder, and is free when the holder dies."""

import os
import uuid

import pytest

from agent.contracts import Conflict
from shimlets.process.lock import Lock
from tests.contract.shimlet_contract import rival_process
from tests.shimlets.process.place import FACTORY


def owner() -> str:
    return f"t-{uuid.uuid4().hex[:10]}"


def test_a_second_one_is_refused_until_the_first_lets_go():
    name, uid = owner(), os.geteuid()
    first, second = Lock(name, uid), Lock(name, uid)
    first.acquire()
    first.acquire()
    with pytest.raises(Conflict, match="this very process"):
        second.acquire()
    others = [Lock(owner(), uid), Lock(name, uid + 1)]
    for other in others:
        other.acquire()
        other.release()
    assert (first.held, second.held) == (True, False)
    first.release()
    second.acquire()
    second.release()


def test_the_refusal_names_the_holder_and_kill_9_frees_it(tmp_path):
    name = owner()
    with rival_process(FACTORY, name, {}, tmp_path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "\n"
        with pytest.raises(Conflict, match=f"pid {holder.pid}"):
            Lock(name, os.geteuid()).acquire()
        holder.kill()
        holder.wait()
        mine = Lock(name, os.geteuid())
        mine.acquire()
        mine.release()


def test_a_long_name_has_a_lock_of_its_own():
    one, other = Lock("x" * 300, 0), Lock("x" * 300 + "y", 0)
    one.acquire()
    other.acquire()
    with pytest.raises(Conflict):
        Lock("x" * 300, 0).acquire()
    one.release()
    other.release()

"""The engine's words become ours, by tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent.contracts import Digest, Fate, Placement, Service, ServiceName, State, Workload, encode
from shimlets.docker import naming
from shimlets.docker.arguments import Engine
from shimlets.docker.observing import (
    Detail,
    Drift,
    Found,
    Ours,
    all_found,
    detail,
    drift,
    found,
    listed,
    observed,
    replica,
    state_of,
    streak,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
NEVER = '{"restart":"never"}'


def service(digest: str = "d", name: str = "web", **workload: Any) -> Service:
    return Service(
        ServiceName(name), Workload(**workload), Digest(digest * 64), Digest("s"), "docker", "service-deploy"
    )


def one(
    index: int = 0, *, suffix: str = "", word: str = "running", of: Service | None = None, created: int = 0
) -> Found:
    of = of or service()
    name = f"xmod-edge-{of.name}-{of.digest[:8]}-{index}{suffix}"
    return Found(
        f"{of.digest[0]}{index}{suffix}", name, word, created, of, Placement(index, 18000 + index), "sha256:1", ""
    )


def summary(container: Found, **fields: Any) -> dict[str, Any]:
    labels = {
        naming.MARK: encode(container.service, container.placement),
        naming.IMAGE: container.image_id,
        naming.SECRETS: container.seal,
    }
    return {
        "Id": container.id,
        "Names": ["/else/link", f"/{container.name}"],
        "State": container.word,
        "Created": container.created,
        "Labels": labels,
    } | fields


def ran(word: str = "running", **fields: Any) -> Detail:
    known = {
        "started_at": NOW - timedelta(seconds=30),
        "policy": "unless-stopped",
        "networks": frozenset({"xmod-edge"}),
    }
    return Detail(**{"word": word, **known, **fields})


def test_a_summary_is_read_back_whole():
    container = one(2, suffix=".new", word="paused", created=7)
    assert found(summary(container)) == container


@pytest.mark.parametrize("labels", [None, {}, {naming.MARK: "{"}, {naming.MARK: "[]"}, {naming.MARK: '{"service":{}}'}])
def test_what_has_no_mark_that_can_be_read_is_not_ours(labels: dict[str, str] | None):
    assert found(summary(one(), Labels=labels)) is None


def test_the_engine_answers_youngest_first_and_we_see_oldest_first_also_within_a_second():
    ages = [one(3, created=2), one(2, created=1), one(1, created=1)]
    assert [c.placement.index for c in all_found([summary(c) for c in ages])] == [1, 2, 3]


@pytest.mark.parametrize(
    ("word", "options", "ours", "cannot_run", "state"),
    [
        ("created", "{}", Ours(), False, State.STOPPED),
        ("created", "{}", Ours(), True, State.EXITED),
        ("running", "{}", Ours(), False, State.RUNNING),
        ("paused", "{}", Ours(), False, State.RUNNING),
        ("restarting", "{}", Ours(), False, State.STARTING),
        ("removing", "{}", Ours(), False, State.STOPPING),
        ("dead", "{}", Ours(), False, State.EXITED),
        ("exited", "{}", Ours(), False, State.STOPPED),
        ("exited", "{}", Ours(), True, State.EXITED),
        ("exited", NEVER, Ours(), False, State.EXITED),
        ("exited", NEVER, Ours(stopped=frozenset({"d0"})), False, State.STOPPED),
        ("exited", NEVER, Ours(stopping=frozenset({"d0"})), False, State.STOPPED),
        ("running", "{}", Ours(stopping=frozenset({"d0"})), False, State.STOPPING),
        ("paused", "{}", Ours(stopping=frozenset({"d0"})), False, State.STOPPING),
        ("restarting", "{}", Ours(stopping=frozenset({"d0"})), False, State.STOPPING),
        ("running", "{}", Ours(stopped=frozenset({"d0"})), False, State.RUNNING),
    ],
)
def test_each_word_of_the_engine_is_one_state(word: str, options: str, ours: Ours, cannot_run: bool, state: State):
    container = one(word=word, of=service(options=options))
    assert state_of(container, word, ours, cannot_run=cannot_run) is state


@pytest.mark.parametrize(
    ("suffixes", "fate"),
    [
        (["", ""], Fate.SERVED),
        ([".new", ".new"], Fate.NEW),
        ([".failed", ".failed"], Fate.FAILED),
        (["", ".new"], Fate.SERVED),
        ([".failed", ".new"], Fate.FAILED),
        ([".failed", ""], Fate.FAILED),
    ],
)
def test_renames_that_were_cut_short_still_tell_the_fate(suffixes: list[str], fate: Fate):
    containers = [one(index, suffix=suffix) for index, suffix in enumerate(suffixes)]
    (generation,) = listed(containers, Ours())[ServiceName("web")].generations
    assert generation.fate is fate


def test_a_list_groups_by_service_and_digest_oldest_first_with_replicas_by_index():
    old, new, other = service("a"), service("b"), service("c", name="x")
    seen = listed([one(1, of=old), one(0, of=new), one(0, of=old), one(0, of=other)], Ours(), "far")
    assert list(seen) == ["web", "x"]
    first, second = seen[ServiceName("web")].generations
    assert (first.service, second.service) == (old, new)
    assert [(r.placement.index, r.address) for r in first.replicas] == [(0, "far:18000"), (1, "far:18001")]


def test_a_paused_container_is_drift_already_in_a_list():
    (generation,) = listed([one(word="paused")], Ours())[ServiceName("web")].generations
    assert generation.drift == "replica 0 is paused"


def test_the_oldest_container_speaks_for_its_generation():
    stale, fresh = replace(one(1), seal="old"), replace(one(0), seal="new")
    (generation,) = listed([stale, fresh], Ours())[ServiceName("web")].generations
    assert generation.secrets == "old"


def test_an_inspect_is_read_and_the_engines_zero_time_is_none():
    answer = {
        "State": {
            "Status": "exited",
            "StartedAt": "2026-11-01T11:59:30.123456789Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            "ExitCode": 3,
            "OOMKilled": True,
            "Error": "",
        },
        "RestartCount": 2,
        "HostConfig": {"NanoCpus": 5, "Memory": 6, "CpuQuota": 7, "RestartPolicy": {"Name": "no"}},
        "NetworkSettings": {"Networks": {"xmod-edge": {}}},
    }
    assert detail(answer, ["a"]) == Detail(
        word="exited",
        started_at=datetime(2026, 11, 1, 11, 59, 30, 123456, tzinfo=UTC),
        exit_code=3,
        restarts=2,
        out_of_memory=True,
        nano_cpus=5,
        cpu_quota=7,
        memory=6,
        policy="no",
        networks=frozenset({"xmod-edge"}),
        last=("a",),
    )


def test_a_crash_loop_tells_how_often_with_which_code_and_its_last_words():
    seen = ran("restarting", restarts=4, exit_code=127, finished_at=NOW, last=("no such file", "bye"))
    told = replica(one(word="restarting"), seen, Ours(), now=NOW)
    assert (told.state, told.restarts, told.exit_code, told.finished_at) == (State.STARTING, 4, 127, NOW)
    assert told.message == ("restarted 4 times by the engine; exited with code 127; it last said: no such file | bye")


def test_what_was_killed_for_memory_says_so():
    seen = ran("exited", exit_code=137, out_of_memory=True, finished_at=NOW)
    assert replica(one(), seen, Ours(), now=NOW).message == "exited with code 137 (out of memory)"


def test_what_runs_has_neither_an_end_nor_a_code_though_the_engine_remembers_the_last_ones():
    told = replica(one(), ran(finished_at=NOW - timedelta(hours=1), exit_code=0), Ours(), now=NOW)
    assert (told.finished_at, told.exit_code, told.message) == (None, None, "")


def test_what_was_created_and_never_started_is_stopped_without_a_code():
    told = replica(one(), Detail("created"), Ours(), now=NOW)
    assert (told.state, told.started_at, told.exit_code, told.message) == (State.STOPPED, None, None, "")


def test_a_start_that_failed_by_the_workloads_fault_is_an_exit_with_the_engines_sentence():
    told = replica(one(), Detail("created", exit_code=127, error='exec: "/x": not found'), Ours(), now=NOW)
    assert (told.state, told.exit_code, told.message) == (State.EXITED, 127, 'exec: "/x": not found')


def test_a_start_that_failed_by_the_worlds_fault_is_no_exit():
    told = replica(one(), Detail("created", exit_code=128, error="port is already allocated"), Ours(), now=NOW)
    assert (told.state, told.exit_code, told.message) == (State.STOPPED, None, "port is already allocated")


@pytest.mark.parametrize(
    ("seen", "row"),
    [
        (ran(restarts=3), 3),
        (ran(restarts=3, started_at=NOW - timedelta(minutes=11)), 0),
        (ran("restarting", restarts=3, finished_at=NOW), 3),
        (ran("restarting", restarts=3, started_at=NOW - timedelta(days=1), finished_at=NOW), 1),
        (ran("exited", restarts=3, started_at=NOW - timedelta(days=1), finished_at=NOW), 0),
        (Detail("created"), 0),
    ],
)
def test_a_long_run_ends_a_row_of_restarts(seen: Detail, row: int):
    assert streak(seen, NOW) == row


def test_drift_of_what_is_kept_is_not_told():
    seen = observed(
        ServiceName("web"), [one()], {"d0": ran("exited", memory=7)}, Ours(), now=NOW, owner="edge", engine=Engine()
    )
    assert seen.generations[0].drift == ""


def test_a_container_that_vanished_between_list_and_inspect_is_left_out():
    seen = observed(ServiceName("web"), [one(0), one(1)], {"d1": ran()}, Ours(), now=NOW, owner="edge", engine=Engine())
    assert [r.placement.index for r in seen.generations[0].replicas] == [1]


POLICY = {"Name": "unless-stopped", "MaximumRetryCount": 0}


@pytest.mark.parametrize(
    ("workload", "seen", "wanted"),
    [
        ({}, ran(), Drift()),
        ({}, ran("exited", networks=frozenset()), Drift()),
        ({"cpu": 1.0}, ran("exited", nano_cpus=5), Drift(("has cpu 5e-09 instead of 1",), {"NanoCpus": 10**9})),
        ({"cpu": 1.0, "memory": 2**30}, ran(nano_cpus=10**9, memory=2**30), Drift()),
        ({}, ran(memory=-1), Drift()),
        (
            {"cpu": 2.0},
            ran(nano_cpus=10**9),
            Drift(("has cpu 1 instead of 2",), {"NanoCpus": 2 * 10**9}),
        ),
        (
            {"memory": 2**20 * 64},
            ran(memory=0),
            Drift(("has memory unlimited instead of 64Mi",), {"Memory": 2**26, "MemorySwap": 2**27}),
        ),
        ({}, ran(memory=2**26), Drift(("has memory 64Mi instead of unlimited",), {"Memory": 0}, anew=True)),
        ({}, ran(cpu_quota=5), Drift(("has a cpu quota that nobody asked for",), anew=True)),
        (
            {},
            ran(policy="no"),
            Drift(("has restart policy no instead of unless-stopped",), {"RestartPolicy": POLICY}),
        ),
        ({}, ran("paused"), Drift(("is paused",), paused=True)),
        ({}, ran(networks=frozenset()), Drift(("is not in network xmod-edge",), unplugged=True)),
        ({"options": '{"network":"none"}'}, ran(networks=frozenset({"none"})), Drift()),
    ],
)
def test_drift_is_told_in_words_and_with_what_mends_it(workload: dict[str, Any], seen: Detail, wanted: Drift):
    assert drift(one(of=service(**workload)), seen, owner="edge", engine=Engine()) == wanted


def test_a_limit_that_the_kernel_does_not_have_is_no_drift():
    engine = Engine(memory_limits=False, cpu_limits=False)
    assert drift(one(of=service(cpu=1.0, memory=7)), ran(), owner="edge", engine=engine) == Drift()

"""Options are checked by name, and each complaint says what was expected."""

import re

import pytest

from agent.contracts import Permanent
from shimlets.docker.options import (
    DEFAULT_HOST,
    EngineOptions,
    RegistryLogin,
    WorkloadOptions,
    engine_options,
    workload_options,
)


def test_an_empty_block_is_the_defaults(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert engine_options({}) == EngineOptions(host=DEFAULT_HOST)
    assert engine_options({}).local
    assert workload_options("{}") == WorkloadOptions()


def test_without_a_host_docker_host_counts_and_a_given_one_wins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.7:2375")
    assert engine_options({}).host == "tcp://10.0.0.7:2375"
    assert not engine_options({}).local
    assert engine_options({"host": "unix:///x.sock"}).host == "unix:///x.sock"


def test_every_engine_option_is_read():
    options = {
        "host": "unix:///x",
        "timeout": "3s",
        "auditInterval": 1,
        "credentialsFile": "/c.json",
        "registries": {"r.example:5000": {"username": "robot", "passwordFile": "/p"}},
        "logMaxSize": "1m",
        "logMaxFiles": 2,
    }
    assert engine_options(options) == EngineOptions(
        host="unix:///x",
        timeout=3.0,
        audit_interval=1.0,
        credentials_file="/c.json",
        registries=(("r.example:5000", RegistryLogin("robot", "/p")),),
        log_max_size="1m",
        log_max_files=2,
    )


def test_every_workload_option_is_read():
    text = """{"restart": "never", "stopGrace": "1m", "user": "1000:1000", "shmSize": "1Gi", "runtime": "nvidia",
      "labels": {"a": "b"}, "ulimits": {"memlock": -1}, "capAdd": ["SYS_PTRACE"], "privileged": true,
      "network": "host", "ipc": "host", "logMaxSize": "5m", "logMaxFiles": 1}"""
    assert workload_options(text) == WorkloadOptions(
        restart="never",
        stop_grace=60.0,
        user="1000:1000",
        shm_size=2**30,
        runtime="nvidia",
        labels=(("a", "b"),),
        ulimits=(("memlock", -1),),
        cap_add=("SYS_PTRACE",),
        privileged=True,
        network="host",
        ipc="host",
        log_max_size="5m",
        log_max_files=1,
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"restrat": "never"}', "unknown option 'restrat'; known are capAdd, ipc"),
        ('{"restart": "always"}', "restart: must be unless-stopped or never, got 'always'"),
        ('{"stopGrace": true}', "stopGrace: must be a duration like 10s, got True"),
        ('{"stopGrace": "soon"}', "stopGrace: must be a duration like 10s, got 'soon'"),
        ('{"shmSize": "1Zi"}', "shmSize: must be a size like 1Gi, got '1Zi'"),
        ('{"privileged": "yes"}', "privileged: must be true or false, got 'yes'"),
        ('{"user": 7}', "user: must be a text, got 7"),
        ('{"labels": {"xmod.dev/service": "x"}}', "labels of xmod.dev/ are the agent's own"),
        ('{"labels": ["a"]}', "labels: must be a mapping"),
        ('{"ulimits": {"memlock": "all"}}', "ulimits: must be a mapping of names to whole numbers"),
        ('{"capAdd": "ALL"}', "capAdd: must be a list"),
        ('{"logMaxFiles": 0}', "logMaxFiles: must be a whole number above 0"),
        ('{"logMaxSize": "big"}', "logMaxSize: must be a size like 10m"),
        ("[]", "must be a mapping, got []"),
        ("{", "docker: "),
    ],
)
def test_a_wrong_workload_option_is_permanent_and_says_what_was_expected(text: str, complaint: str):
    with pytest.raises(Permanent, match=re.escape(complaint)):
        workload_options(text)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"hots": "x"}, "shimlets.docker: unknown option 'hots'"),
        ({"host": "ssh://x"}, "shimlets.docker: host: must begin with unix:// or tcp://"),
        ({"timeout": -1}, "shimlets.docker: timeout: must be a duration"),
        ({"registries": []}, "registries: must be a mapping"),
        ({"registries": {"r": {"username": "x", "password": "p"}}}, "registries: r: must be {username, passwordFile}"),
        ({"registries": {"r/x": {"username": "x", "passwordFile": "/p"}}}, "r/x: must be a registry"),
        ({"registries": {"r": {"username": "x", "passwordFile": "p"}}}, "an absolute path as passwordFile"),
    ],
)
def test_a_wrong_engine_option_is_a_value_error(options: dict[str, object], complaint: str):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        engine_options(options)


def test_a_password_that_stands_in_the_settings_by_mistake_is_not_repeated():
    with pytest.raises(ValueError, match="must be") as refusal:
        engine_options({"registries": {"r": {"username": "x", "password": "geheim"}}})
    assert "geheim" not in str(refusal.value)

"""Secrets of this host: read when needed, compared slowly, and told to nobody."""

import os
import time
from pathlib import Path

import pytest

from agent.contracts import SecretRef, ServiceName, Transient, Workload, seal
from agent.host.secret import HostSecrets


def wants(**refs: SecretRef | str) -> Workload:
    return Workload(env=tuple(refs.items()))


def test_values_are_read_from_files_and_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("geheim\n\n")
    secrets = HostSecrets({"XMOD_SECRET_X": " with blanks "})
    workload = wants(A=SecretRef("file", str(tmp_path / "token")), B=SecretRef("env", "XMOD_SECRET_X"), C="plain")
    assert secrets.read(workload) == {"A": "geheim", "B": " with blanks "}
    assert secrets.read(wants(C="plain")) == {}


def test_they_are_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    secrets = HostSecrets({})
    workload = wants(A=SecretRef("file", str(file)))
    assert secrets.read(workload) == {"A": "one"}
    file.write_text("two")
    assert secrets.read(workload) == {"A": "two"}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b", b"x" * (64 * 1024 + 1)])
def test_what_is_no_secret_is_refused_without_its_value(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(Transient) as refusal:
        HostSecrets({}).read(wants(A=SecretRef("file", str(tmp_path / "token"))))
    assert refusal.value.reason == "SecretUnreadable"
    assert "env A" in str(refusal.value)
    assert "xxxx" not in str(refusal.value)


@pytest.mark.parametrize("ref", [SecretRef("file", "/nowhere/token"), SecretRef("file", "/"), SecretRef("env", "NO")])
def test_what_cannot_be_read_is_transient_and_named(ref: SecretRef) -> None:
    with pytest.raises(Transient, match=ref.name) as refusal:
        HostSecrets({}).read(wants(A=ref))
    assert (refusal.value.reason, refusal.value.delay) == ("SecretUnreadable", 30.0)


def test_a_pipe_is_no_secret_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")
    began = time.monotonic()
    with pytest.raises(Transient):
        HostSecrets({}).read(wants(A=SecretRef("file", str(tmp_path / "token"))))
    assert time.monotonic() - began < 2


def test_a_value_that_changed_is_seen_and_one_that_did_not_is_not() -> None:
    environment = {"X": "one"}
    secrets = HostSecrets(environment)
    workload = wants(A=SecretRef("env", "X"))
    mark = seal({"A": "one"})
    assert not secrets.changed(workload, mark)
    environment["X"] = "two"
    assert secrets.changed(workload, mark)
    environment["X"] = "one"
    assert not secrets.changed(workload, mark)


def test_no_secrets_and_no_mark_is_no_change_but_one_of_them_is() -> None:
    secrets = HostSecrets({"X": "one"})
    assert not secrets.changed(wants(C="plain"), "")
    assert secrets.changed(wants(C="plain"), seal({"A": "one"}))
    assert secrets.changed(wants(A=SecretRef("env", "X")), "")


@pytest.mark.parametrize("mark", ["rubbish", "zz:00", ":", "ab:cd"])
def test_a_mark_that_is_none_is_another_value(mark: str) -> None:
    """Whoever tampers with a mark gets a replacement, not a dead agent."""
    assert HostSecrets({"X": "one"}).changed(wants(A=SecretRef("env", "X")), mark)


def test_asking_again_costs_nothing() -> None:
    secrets = HostSecrets({"X": "one"})
    workload, mark = wants(A=SecretRef("env", "X")), seal({"A": "one"})
    secrets.changed(workload, mark)
    began = time.perf_counter()
    for _ in range(200):
        assert not secrets.changed(workload, mark)
    assert time.perf_counter() - began < 0.5, "a slow hash each time would take 10 s"


def test_what_is_remembered_holds_no_value() -> None:
    secrets = HostSecrets({"X": "geheim"})
    secrets.changed(wants(A=SecretRef("env", "X")), seal({"A": "geheim"}))
    assert "geheim" not in repr(secrets._known)


def test_a_file_that_is_being_written_is_not_an_empty_secret(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("")
    with pytest.raises(Transient, match="no secret"):
        HostSecrets({}).read(wants(A=SecretRef("file", str(tmp_path / "token"))))


def test_what_the_policy_does_not_allow_now_is_not_handed_out_but_still_compared() -> None:
    """A look at what runs needs no leave: nothing of the value gets out."""
    refused: list[SecretRef] = []
    secrets = HostSecrets({"X": "one"}, lambda ref: f"{ref.name} is not allowed" if ref in refused else "")
    workload = wants(A=SecretRef("env", "X"))
    assert secrets.read(workload) == {"A": "one"}
    refused.append(SecretRef("env", "X"))
    with pytest.raises(Transient, match="env A: X is not allowed") as told:
        secrets.read(workload)
    assert told.value.reason == "PolicyRefused"
    assert not secrets.changed(workload, seal({"A": "one"}))


WEB = ServiceName("web")
SEALED = SecretRef("sops", "web/A")


def test_what_was_encrypted_in_a_spec_is_answered_from_memory() -> None:
    secrets = HostSecrets({})
    with pytest.raises(Transient, match="not decrypted") as refusal:
        secrets.read(wants(A=SEALED))
    assert refusal.value.reason == "SecretUnreadable"
    secrets.keep({WEB: {"web/A": "geheim"}})
    assert secrets.read(wants(A=SEALED, B="plain")) == {"A": "geheim"}
    assert not secrets.changed(wants(A=SEALED), seal({"A": "geheim"}))


def test_a_rotated_value_is_seen() -> None:
    secrets = HostSecrets({})
    secrets.keep({WEB: {"web/A": "1"}, ServiceName("other"): {}})
    secrets.keep({WEB: {"web/A": "2"}, ServiceName("other"): {"other/B": "1"}})
    assert secrets.changed(wants(A=SEALED), seal({"A": "1"}))
    assert not secrets.changed(wants(A=SEALED), seal({"A": "2"}))


def test_a_value_that_a_newer_spec_dropped_is_kept_for_an_older_generation_until_the_service_goes() -> None:
    secrets = HostSecrets({})
    secrets.keep({WEB: {"web/A": "1"}})
    secrets.keep({WEB: {}})
    assert secrets.read(wants(A=SEALED)) == {"A": "1"}
    secrets.keep({})
    with pytest.raises(Transient):
        secrets.read(wants(A=SEALED))


def test_one_value_is_revealed_for_what_is_no_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("geheim\n")
    ref = SecretRef("file", str(tmp_path / "token"))
    assert HostSecrets({}).reveal(ref, "token for model x") == "geheim"
    with pytest.raises(Transient, match="token for model x: the agent's environment has no X"):
        HostSecrets({}).reveal(SecretRef("env", "X"), "token for model x")
    with pytest.raises(Transient, match="token for model x: not here") as refusal:
        HostSecrets({}, lambda ref: "not here").reveal(ref, "token for model x")
    assert refusal.value.reason == "PolicyRefused"

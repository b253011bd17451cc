"""A spec with overrides: what it says on one host, and where it is wrong."""

from dataclasses import replace
from typing import Any

import pytest

from agent.contracts import Service
from agent.spec.hosts import HostId
from agent.spec.resolve import FileReading
from tests.spec.making import document, resolver

A, B, H100 = HostId("a"), HostId("b"), HostId("c", {"gpu": "h100"})
BODY: dict[str, Any] = {
    "container": {"image": "mini", "port": 80, "args": ["-v"]},
    "env": [{"key": "X", "value": "1"}, {"key": "Y", "value": "2"}],
    "docker": {"stopGrace": "20s"},
}


def read(host: HostId | None, *overrides: dict[str, Any], **body: Any) -> FileReading:
    text = document({**BODY, **body, **({"overrides": list(overrides)} if overrides else {})})
    return replace(resolver(), host=host).read_file("a.yaml", text.encode())


def service(host: HostId, *overrides: dict[str, Any], **body: Any) -> Service:
    found = read(host, *overrides, **body)
    assert found.problems == ()
    return found.wanted[0].service


def on(*hosts: object, **spec: Any) -> dict[str, Any]:
    return {"hosts": list(hosts), "spec": spec}


def wrong(host: HostId | None, *overrides: dict[str, Any], **body: Any) -> list[str]:
    return [f"{problem.field}: {problem.message}" for problem in read(host, *overrides, **body).problems]


def test_mappings_are_merged_lists_replaced_and_null_takes_away() -> None:
    patch = on(
        "a", container={"args": ["-q"], "port": None}, env=[{"key": "Z", "value": "3"}], docker={"labels": {"a": "b"}}
    )
    here = service(A, patch).workload
    assert (here.image, here.args, here.port, here.env) == ("mini", ("-q",), None, (("Z", "3"),))
    assert here.options == '{"labels":{"a":"b"},"stopGrace":"20s"}'


def test_overrides_apply_in_their_order_to_the_hosts_they_name() -> None:
    patches = (on("*", replicaCount=2), on({"matchLabels": {"gpu": "h100"}}, replicaCount=3, priority=5))
    assert [service(host, *patches).replicas for host in (A, H100)] == [2, 3]
    assert service(H100, *reversed(patches)).replicas == 2


def test_null_in_a_mapping_that_the_body_lacks_says_nothing() -> None:
    assert service(A, on("a", resourceRequirements={"cpu": None, "memory": "1Gi"})).workload.memory == 1 << 30


def test_what_is_said_of_other_hosts_is_in_no_digest() -> None:
    plain = service(A)
    for other in (
        service(A, on("b", replicaCount=2)),
        service(A, hosts=["a", "b"]),
        service(A, dependsOn=["db"]),
    ):
        assert (other.digest, other.spec_digest) == (plain.digest, plain.spec_digest)
    assert service(A, on("a", priority=2)).spec_digest == service(A, priority=2).spec_digest != plain.spec_digest


def test_a_document_for_other_hosts_is_not_wanted_and_counted() -> None:
    found = read(A, hosts=["b"])
    assert (found.wanted, found.problems, found.elsewhere) == ((), (), ("web",))
    assert read(B, hosts=["b"]).wanted[0].service.host == "b"


def test_a_document_is_read_for_one_host_and_its_mark_says_which() -> None:
    assert service(H100).host == "c (gpu=h100)"
    assert read(None).wanted[0].service.host == ""


def test_the_shimlet_may_differ_by_host() -> None:
    spec = {"shimletName": "process", "container": {"command": ["/bin/true"], "image": None}, "docker": None}
    assert service(B, on("a", **spec)).shimlet == "docker"


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        (on("b", replicas=3), 'spec.overrides[0].spec.replicas: is not a known field; did you mean "replicaCount"?'),
        (on("b", hosts=["c"]), "spec.overrides[0].spec.hosts: cannot be overridden"),
        (on("b", overrides=[]), "spec.overrides[0].spec.overrides: cannot be overridden"),
        (on("b", name="x"), "spec.overrides[0].spec.name: does not belong here but to metadata"),
        (on("b"), "spec.overrides[0].spec: says nothing"),
        (on("b", container={"port": "x"}), 'spec.overrides[0].spec.container.port: must be a whole number, not "x"'),
        (on("b", container=None, docker="x"), "spec.overrides[0].spec.docker: must be a mapping, the options"),
        (on("b", container={"args": ["-v", None]}), "spec.overrides[0].spec.container.args[1]: is empty"),
        (on("b", model={"revision": "x"}), "spec.overrides[0].spec.model.source: is missing"),
        (on("ed ge", priority=1), "spec.overrides[0].hosts[0]: must be the name of a host"),
        ({"hosts": ["b"]}, "spec.overrides[0].spec: is missing"),
        ({"hosts": ["b"], "spec": {"priority": 1}, "if": 1}, "spec.overrides[0].if: is not a known field"),
    ],
)
def test_the_schema_of_an_override_is_checked_whomever_it_is_for(patch: dict[str, Any], said: str) -> None:
    for host in (A, B, None):
        (sentence,) = wrong(host, patch)
        assert said in sentence


@pytest.mark.parametrize("is_meant", [True, False])
def test_rules_and_policy_are_asked_where_an_override_applies(is_meant: bool) -> None:
    patch = on("a" if is_meant else "b", env=[{"key": "X"}], bindAddress="0.0.0.0")
    found = wrong(A, patch)
    assert bool(found) is is_meant
    assert not is_meant or sorted(line.partition(":")[0] for line in found) == [
        "spec.overrides[0].spec.bindAddress",
        "spec.overrides[0].spec.env[0]",
    ]
    assert len(wrong(None, patch)) == 2, "without a host each override is checked"


def test_a_field_of_the_body_that_an_override_makes_wrong_is_said_with_the_override() -> None:
    (sentence,) = wrong(A, on("a", container={"port": None}), hostPort=18000)
    assert sentence == "spec.hostPort: needs container.port, the port that the service listens on (with overrides[0])"


def test_what_is_wrong_without_overrides_is_not_blamed_on_them() -> None:
    assert wrong(A, on("a", priority=3), env=[{"key": "X"}]) == [
        'spec.env[0]: "X": give one of value and valueFrom',
    ]


def test_an_item_of_a_replaced_list_is_the_overrides() -> None:
    (sentence,) = wrong(A, on("a", container={"volumes": [{"hostPath": "/a"}]}))
    assert sentence.startswith("spec.overrides[0].spec.container.volumes[0].mountPath: is missing")


def test_overrides_that_break_only_together_break_where_they_meet() -> None:
    patches = (on("a", model={"source": "/models/x"}), on("a", modelFile="/models/x"))
    assert any("is given beside modelFile" in sentence for sentence in wrong(A, *patches, engine="llama.cpp"))


def test_a_broken_spec_for_another_host_is_not_this_hosts_trouble_but_its_schema_is() -> None:
    assert wrong(A, hosts=["b"], bindAddress="0.0.0.0") == []
    assert wrong(B, hosts=["b"], bindAddress="0.0.0.0") != []
    assert wrong(A, hosts=["b"], bindAddress="nowhere") != []


@pytest.mark.parametrize(
    ("first", "second", "host", "fine"),
    [
        (["a"], ["b"], None, True),
        (["a"], ["b"], A, True),
        (["a"], ["*"], None, False),
        (["a"], ["*"], A, False),
        (["a"], ["*"], B, True),
        (["a*"], ["*1"], HostId("a1"), False),
        (["a*"], ["*1"], None, True),  # nobody knows such a host; validate --host does
    ],
)
def test_a_name_may_stand_twice_in_a_file_for_different_hosts(
    first: list[str], second: list[str], host: HostId | None, fine: bool
) -> None:
    text = document({**BODY, "hosts": first}) + "---\n" + document({**BODY, "hosts": second})
    found = replace(resolver(), host=host).read_file("a.yaml", text.encode())
    assert (found.problems == ()) is fine


def test_a_service_cannot_wait_for_itself() -> None:
    assert wrong(A, dependsOn=["db", "web"]) == [
        'spec.dependsOn[1]: "web" is the service itself, which cannot wait for itself'
    ]
    assert service(A, dependsOn=["db"]).depends_on == ("db",)

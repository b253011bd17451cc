"""Which hosts a document is for: names, globs, labels."""

import pytest

from agent.spec.document import DeploySpec
from agent.spec.hosts import HostId, Selection, meeting, selects, witnesses
from tests.spec.making import says

EDGE = HostId("edge-01", {"gpu": "h100", "zone": "eu"})
FULL = HostId("Edge-01.Example.com")
RUNS = {"container": {"image": "mini", "port": 80}}


def read(*hosts: object) -> Selection:
    whole = {"apiVersion": "xmod.dev/v1", "kind": "DeploySpec", "metadata": {"name": "a"}, "spec": {"hosts": [*hosts]}}
    return DeploySpec.model_validate(whole).spec.hosts


def where(key: str, operator: str, *values: str) -> dict[str, object]:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": values} if values else {})}]}


@pytest.mark.parametrize(
    ("entry", "host", "is_meant"),
    [
        ("edge-01", EDGE, True),
        ("EDGE-01", EDGE, True),
        ("edge-02", EDGE, False),
        ("edge-0", EDGE, False),
        ("edge-01", FULL, True),
        ("edge-*", FULL, True),
        ("edge-01.example.com", FULL, True),
        ("*.example.com", FULL, True),
        ("edge-01.example.org", FULL, False),
        ("edge-01.example.com", EDGE, False),
        ("edge-??", EDGE, True),
        ("edge-?", EDGE, False),
        ("*", EDGE, True),
        ("*01", FULL, True),
        ({"matchLabels": {"gpu": "h100"}}, EDGE, True),
        ({"matchLabels": {"gpu": "H100"}}, EDGE, False),
        ({"matchLabels": {"gpu": "h100", "zone": "us"}}, EDGE, False),
        ({"matchLabels": {"gpu": "h100"}}, FULL, False),
        (where("gpu", "In", "a100", "h100"), EDGE, True),
        (where("gpu", "In", "a100"), EDGE, False),
        (where("gpu", "In", "a100"), FULL, False),
        (where("gpu", "NotIn", "a100"), EDGE, True),
        (where("gpu", "NotIn", "h100"), EDGE, False),
        (where("gpu", "NotIn", "h100"), FULL, True),
        (where("gpu", "Exists"), EDGE, True),
        (where("gpu", "Exists"), FULL, False),
        (where("gpu", "DoesNotExist"), EDGE, False),
        (where("gpu", "DoesNotExist"), FULL, True),
        ({"matchLabels": {"gpu": "h100"}, **where("zone", "NotIn", "eu")}, EDGE, False),
    ],
)
def test_an_entry_selects_by_name_glob_or_labels(entry: object, host: HostId, is_meant: bool) -> None:
    assert selects(read(entry), host) is is_meant
    assert selects(read("nobody", entry), host) is is_meant, "any entry is enough"


def test_without_hosts_every_host_is_meant() -> None:
    assert selects(None, EDGE)
    assert selects(None, HostId(""))


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ([], 'spec.hosts: names no host; "*" means every host'),
        ("edge", 'spec.hosts: must be a list, not "edge": write ["edge"]'),
        (["ed ge"], 'spec.hosts[0]: must be the name of a host or a glob with * and ?, such as "edge-01" or "edge-*"'),
        (["edge-[0"], "spec.hosts[0]: must be the name of a host or a glob"),
        ([{}], "spec.hosts[0]: says nothing: give matchLabels or matchExpressions"),
        ([{"labels": {}}], "spec.hosts[0].labels: is not a known field"),
        ([{"matchLabels": {"gpu": True}}], 'spec.hosts[0].matchLabels.gpu: must be a text, not true: write "true"'),
        ([where("a", "Is")], 'operator: must be "In", "NotIn", "Exists" or "DoesNotExist", not "Is"'),
        ([where("a", "In")], "spec.hosts[0].matchExpressions[0]: In needs values"),
        ([where("a", "Exists", "b")], "spec.hosts[0].matchExpressions[0]: Exists needs no values"),
    ],
)
def test_what_selects_nobody_for_sure_or_cannot_be_read_is_said(hosts: object, said: str) -> None:
    (sentence,) = says({**RUNS, "hosts": hosts})
    assert said in sentence


def test_a_host_is_told_by_its_name_and_sorted_labels() -> None:
    assert str(EDGE) == "edge-01 (gpu=h100, zone=eu)"
    assert str(HostId("Edge-01")) == "edge-01"


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (None, None, True),
        (None, ["a"], True),
        (["a"], ["b"], False),
        (["a", "b"], ["b", "c"], True),
        (["edge-*"], ["edge-*"], True),
        (["edge-*"], ["edge-07"], True),
        (["edge-*"], ["core-07"], False),
        ([{"matchLabels": {"gpu": "a"}}], [{"matchLabels": {"gpu": "b"}}], False),
        ([{"matchLabels": {"gpu": "a"}}], [where("gpu", "Exists")], True),
        ([where("gpu", "In", "a", "b")], [where("gpu", "NotIn", "b")], True),
        (["*"], [where("gpu", "DoesNotExist")], True),
    ],
)
def test_documents_meet_if_some_host_is_meant_by_both(
    one: list[object] | None, other: list[object] | None, meet: bool
) -> None:
    first, second = (read(*hosts) if hosts else None for hosts in (one, other))
    for left, right in ((first, second), (second, first)):
        found = meeting(left, right)
        assert (found is not None) is meet
        assert found is None or (selects(left, found) and selects(right, found))


@pytest.mark.parametrize("entry", ["edge-01", "edge-*", "*", {"matchLabels": {"a": "b"}}, where("a", "In", "b", "c")])
def test_a_witness_is_a_host_of_which_it_is_true(entry: object) -> None:
    assert any(selects(read(entry), host) for host in witnesses(read(entry)))

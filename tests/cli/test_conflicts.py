"""What is wrong between documents: names twice, and rings, on one host or on any that could be."""

from dataclasses import replace

import pytest

from agent.cli.conflicts import Found, together
from agent.spec.hosts import HostId
from tests.spec.making import document, resolver

RUNS = {"container": {"image": "mini", "port": 80}}


def findings(host: HostId | None, **docs: tuple[list[object] | None, list[str]]) -> set[str]:
    """Each document: its hosts and what it depends on; its file is the keyword, its name the first letter."""
    found = []
    for file, (hosts, needs) in docs.items():
        spec = {**RUNS, **({"hosts": hosts} if hosts else {}), **({"dependsOn": needs} if needs else {})}
        reading = replace(resolver(), host=host).read_file(file, document(spec, file[0]).encode())
        assert reading.problems == ()
        found += [Found(file, wanted) for wanted in reading.wanted]
    return {f"{finding.file} {finding.field}: {finding.message}" for finding in together(found, host)}


GPU: list[object] = [{"matchLabels": {"gpu": "a"}}]


@pytest.mark.parametrize(
    ("one", "other", "fine"),
    [
        (None, None, False),
        (["a"], ["b"], True),
        (["a"], None, False),
        (["a*"], ["a*"], False),
        (["a1"], ["a*"], False),
        (["a*"], GPU, True),
        (GPU, [{"matchLabels": {"gpu": "b"}}], True),
    ],
)
def test_one_name_may_stand_twice_for_different_hosts(
    one: list[object] | None, other: list[object] | None, fine: bool
) -> None:
    assert (findings(None, x1=(one, []), x2=(other, [])) == set()) is fine


def test_naming_a_host_finds_what_nobody_could_guess() -> None:
    host = HostId("a7", {"gpu": "a"})
    told = findings(host, x1=(["a*"], []), x2=(GPU, []), x3=(["b"], []))
    assert told == {
        "x1 metadata.name: the name x is taken: it is also in x2:1; a name is one service",
        "x2 metadata.name: the name x is taken: it is also in x1:1; a name is one service",
    }


def test_a_ring_is_one_only_where_all_of_it_is() -> None:
    ring = "spec.dependsOn: these wait for each other: a → b → a; one must not"
    both = {f"a {ring}", f"b {ring}"}
    assert findings(None, a=(None, ["b"]), b=(None, ["a"]), c=(None, ["a"])) == both
    assert findings(None, a=(["h1", "h2"], ["b"]), b=(["h2", "h3"], ["a"])) == both
    apart: dict[str, tuple[list[object] | None, list[str]]] = {"a": (["h1"], ["b"]), "b": (["h2"], ["a"])}
    assert findings(None, **apart) == set()
    assert findings(HostId("h1"), **apart) == set()
    assert findings(None, a1=(["h1"], ["b"]), a2=(["h2"], []), b1=(["h1"], []), b2=(["h2"], ["a"])) == set()

"""Graphs of dependencies: rings are found, orders hold, and nothing is slow or deep."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contracts import ServiceName
from agent.control.dependency import Edges, free_to_go, in_order, rings, told


def graph(text: str) -> Edges:
    """`a:b,c d:a` – a needs b and c, d needs a."""
    pairs = (item.partition(":") for item in text.split())
    return {ServiceName(n): tuple(ServiceName(d) for d in needs.split(",") if d) for n, _, needs in pairs}


@pytest.mark.parametrize(
    ("edges", "found"),
    [
        ("", {}),
        ("a:b b:c c:", {}),
        ("a:b,c b:d c:d", {}),
        ("a:nobody", {}),
        ("a:a", {"a": "a a"}),
        ("a:b b:a", {"a": "a b a", "b": "a b a"}),
        ("x:a a:b b:c c:a,y", dict.fromkeys("abc", "a b c a")),
        ("a:b b:a c:d d:c", {"a": "a b a", "b": "a b a", "c": "c d c", "d": "c d c"}),
        ("a:b,c b:c c:a", dict.fromkeys("abc", "a c a")),
    ],
)
def test_what_waits_for_itself_is_found_with_its_ring(edges: str, found: dict[str, str]) -> None:
    assert {name: " ".join(ring) for name, ring in rings(graph(edges)).items()} == found


def test_a_ring_is_told_and_a_long_one_shortened() -> None:
    a, b = ServiceName("a"), ServiceName("b")
    assert told((a, b, a)) == "these wait for each other: a → b → a; one must not"
    assert len(told(tuple(ServiceName(f"s{n}") for n in range(1000)))) < 120


def test_a_chain_of_ten_thousand_is_neither_deep_nor_slow() -> None:
    names = [ServiceName(f"s{number:05}") for number in range(10_000)]
    edges: dict[ServiceName, tuple[ServiceName, ...]] = {name: (needed,) for name, needed in itertools.pairwise(names)}
    began = time.process_time()
    assert rings(edges) == {}
    edges[names[-1]] = (names[0],)
    assert len(rings(edges)) == 10_000
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("names", "edges", "order"),
    [
        ("c b a", "", "a b c"),
        ("a b c", "a:b b:c", "c b a"),
        ("a b c d", "a:c b:nobody", "b c d a"),
        ("a b c", "a:b b:a", "c a b"),
    ],
)
def test_what_others_depend_on_comes_first(names: str, edges: str, order: str) -> None:
    assert in_order([ServiceName(name) for name in names.split()], graph(edges)) == order.split()


@pytest.mark.parametrize(
    ("names", "edges", "free"),
    [
        ("a b", "", "a b"),
        ("a b c", "a:b b:c", "a"),
        ("b c", "a:b b:c", "b"),
        ("a b", "a:b b:a", "a b"),
        ("a b c", "a:b b:a c:a", "c"),
        ("a", "a:a", "a"),
    ],
)
def test_what_nobody_depends_on_goes_first(names: str, edges: str, free: str) -> None:
    assert free_to_go(frozenset(map(ServiceName, names.split())), graph(edges)) == frozenset(free.split())


NAMES = [ServiceName(name) for name in "abcdefg"]


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=4)))
def test_a_name_has_a_ring_exactly_if_it_can_be_reached_from_itself(
    edges: dict[ServiceName, list[ServiceName]],
) -> None:
    def reached(start: ServiceName) -> set[ServiceName]:
        seen: set[ServiceName] = set()
        todo = list(edges.get(start, ()))
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += edges.get(name, ())
        return seen

    found = rings(edges)
    assert found.keys() == {name for name in NAMES if name in reached(name)}
    for ring in found.values():
        assert all(needed in edges[name] for name, needed in itertools.pairwise(ring))
        assert ring[0] == ring[-1]
        assert len(ring) > 1

"""Which services depend on which, as a graph: rings in it, and orders along it. Pure, and linear in its size.

An edge leads from a service to one that must serve before it. Names at the end of an edge need not be in the graph.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeAlias

from agent.contracts import ServiceName

Edges: TypeAlias = Mapping[ServiceName, Collection[ServiceName]]


def rings(edges: Edges) -> dict[ServiceName, tuple[ServiceName, ...]]:
    """Every name that waits for itself in the end, with a shortest ring of those that do so together ("a, b, a")."""
    found: dict[ServiceName, tuple[ServiceName, ...]] = {}
    for group in _groups(edges):
        first = min(group)
        if len(group) > 1 or first in edges.get(first, ()):
            found.update(dict.fromkeys(group, _ring(first, edges, frozenset(group))))
    return found


def told(ring: tuple[ServiceName, ...]) -> str:
    """A ring as a sentence."""
    shown = [*ring[:9], "…", ring[-1]] if len(ring) > 12 else ring
    return f"these wait for each other: {' → '.join(shown)}; one must not"


def in_order(names: Iterable[ServiceName], edges: Edges) -> list[ServiceName]:
    """What others depend on first, else by name; what waits in a ring last."""
    left, ordered = sorted(names), list[ServiceName]()
    while left:
        waiting = set(left)
        ready = [name for name in left if waiting.isdisjoint(edges.get(name, ()))] or left
        ordered += ready
        waiting.difference_update(ready)
        left = [name for name in left if name in waiting]
    return ordered


def free_to_go(names: Collection[ServiceName], edges: Edges) -> frozenset[ServiceName]:
    """Of those that go, the ones that none of the others depends on; all of them in a ring."""
    needed = {needed for name in names for needed in edges.get(name, ()) if needed != name}
    return frozenset(name for name in names if name not in needed) or frozenset(names)


def _groups(edges: Edges) -> Iterator[list[ServiceName]]:
    """Sets of names that all lead to each other (Tarjan), without recursion: strangers write long chains."""
    number: dict[ServiceName, int] = {}
    lowest: dict[ServiceName, int] = {}
    open_names: list[ServiceName] = []
    is_open: set[ServiceName] = set()
    for root in edges:
        if root in number:
            continue
        path: list[tuple[ServiceName, Iterator[ServiceName]]] = []
        step: ServiceName | None = root
        while step is not None or path:
            if step is not None:
                number[step] = lowest[step] = len(number)
                open_names.append(step)
                is_open.add(step)
                path.append((step, iter(edges.get(step, ()))))
            name, further = path[-1]
            step = None
            for needed in further:
                if needed not in number:
                    step = needed
                    break
                if needed in is_open:
                    lowest[name] = min(lowest[name], number[needed])
            if step is not None:
                continue
            path.pop()
            if path:
                lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[name])
            if lowest[name] == number[name]:
                group = [open_names.pop()]
                while group[-1] != name:
                    group.append(open_names.pop())
                is_open.difference_update(group)
                yield group


def _ring(start: ServiceName, edges: Edges, within: frozenset[ServiceName]) -> tuple[ServiceName, ...]:
    """The shortest way from a name back to itself."""
    came: dict[ServiceName, ServiceName] = {}
    queue = deque([start])
    while queue:
        name = queue.popleft()
        for needed in edges.get(name, ()):
            if needed == start:
                back = [start]
                while name != start:
                    back.append(name)
                    name = came[name]
                return (start, *reversed(back))
            if needed in within and needed not in came:
                came[needed] = name
                queue.append(needed)
    return (start, start)

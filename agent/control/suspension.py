"""Suspension: a service is left as it is, whatever git says, until somebody resumes it. Pure.

Three say so: an operator of one service, an operator of all, and a spec of itself (xmod.dev/suspend). What an operator
said an operator takes back; what a file says, that file. Under a word about all, `resume NAME` makes an exception.
"""

from collections.abc import Collection
from dataclasses import replace

from agent.contracts import ServiceName
from agent.control.words import Suspension, UnknownNameError, Words
from agent.spec.resolve import Wanted

SUSPENDED = "Suspended"


def why(words: Words, name: ServiceName, spec: Wanted | None = None, *, doubted: bool = False) -> str:
    """Why a service is left as it is, "" if it is not suspended. `doubted`: what its file says cannot be told now."""
    said = ["its spec says xmod.dev/suspend"] if spec is not None and spec.suspended else []
    if spec is None and doubted and words.still.get(name):
        said.append("its spec said xmod.dev/suspend when it could last be read")
    own = words.suspended.get(name)
    if own is not None:
        said.append(f"an operator suspended it{_because(own)}; xmod-agent resume {name}")
    elif words.all_suspended is not None and name not in words.excepted:
        said.append(f"an operator suspended all services{_because(words.all_suspended)}; xmod-agent resume --all")
    return ", and ".join(said)


def suspended(words: Words, name: ServiceName, said: Suspension, known: Collection[ServiceName]) -> Words:
    """The words with this one. UnknownNameError: nobody is called that."""
    _check_known(name, known)
    before = words.suspended.get(name)
    return replace(
        words,
        suspended={**words.suspended, name: _renewed(before, said)},
        excepted=words.excepted - {name},
    )


def all_suspended(words: Words, said: Suspension) -> Words:
    """The words with this one: all services, now and later, without exception."""
    return replace(words, all_suspended=_renewed(words.all_suspended, said), excepted=frozenset())


def resumed(words: Words, name: ServiceName, spec: Wanted | None, known: Collection[ServiceName]) -> Words:
    """The words without what suspends it. UnknownNameError: no word does."""
    _check_known(name, known)
    own = name in words.suspended
    under_all = words.all_suspended is not None and name not in words.excepted
    if not own and not under_all:
        if spec is not None and spec.suspended:
            place = f"{spec.service.file}:{spec.line}"
            raise UnknownNameError(f"{name} is suspended by its spec: take xmod.dev/suspend out of {place}")
        raise UnknownNameError(f"{name} is not suspended; by word are: {', '.join(sorted(words.suspended)) or 'none'}")
    left = {other: said for other, said in words.suspended.items() if other != name}
    excepted = words.excepted | {name} if words.all_suspended is not None else frozenset[ServiceName]()
    return replace(words, suspended=left, excepted=excepted)


def all_resumed(words: Words) -> Words:
    """The words without any that suspends. UnknownNameError: there is none."""
    if words.all_suspended is None and not words.suspended:
        raise UnknownNameError("nothing is suspended by word; what a spec suspends, its file resumes")
    return replace(words, suspended={}, all_suspended=None, excepted=frozenset())


def _check_known(name: ServiceName, known: Collection[ServiceName]) -> None:
    if name not in known:
        raise UnknownNameError(f"no service is called {name}; there are: {', '.join(sorted(known)) or 'none'}")


def _renewed(before: Suspension | None, said: Suspension) -> Suspension:
    """Said again it lasts since it was first said; a new reason counts."""
    return said if before is None else Suspension(before.since, said.reason or before.reason)


def _because(said: Suspension) -> str:
    return f" ({said.reason})" if said.reason else ""

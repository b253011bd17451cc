"""When two looks agree, and what may be said when they do not in time. Pure.

Two looks agree when nothing was touched between them: the same folders with the same ctimes, the same files with the
same stat and hash. Then, and only then, a missing file is absent. When time is up before that, each file that the last
two looks agree on counts, every other is "still being written", and so is each that was seen before and is missing:
git replaces a file by deleting it first.
"""

from collections.abc import Iterable, Mapping

from agent.source.scan import Entry, Scan, changing


def unchanged(before: Scan, after: Scan) -> bool:
    """All that a snapshot would say is the same, so that one look is enough."""
    return (
        before.identity == after.identity
        and before.way.real == after.way.real
        and before.entries.keys() == after.entries.keys()
        and all(_alike(before.entries[path], entry) for path, entry in after.entries.items())
    )


def agree(before: Scan, after: Scan) -> bool:
    """Nothing was touched between the two."""
    return (
        before.way == after.way
        and before.identity == after.identity
        and before.folders == after.folders
        and before.entries.keys() == after.entries.keys()
        and all(_same(before.entries[path], entry) for path, entry in after.entries.items())
    )


def doubtful(said: Iterable[str], held: Mapping[str, Entry], now: Mapping[str, Entry]) -> set[str]:
    """What was there and now is missing or empty: how git's work looks half-way."""
    emptied = {path for path, entry in now.items() if _empty(entry) and path in held and not _empty(held[path])}
    return emptied.union(path for path in said if path not in now)


def settled_in_part(
    before: Scan, after: Scan, *, seen: Iterable[str], doubted: Iterable[str], why: str = ""
) -> dict[str, Entry]:
    """What may be said of each file although the folder is still changing; `seen`: all paths that must not be lost."""
    entries = {
        path: entry if path in before.entries and _same(before.entries[path], entry) else changing(path)
        for path, entry in after.entries.items()
    }
    lost = {path for path in seen if path not in entries}
    return entries | {path: changing(path, why=why) for path in lost.union(doubted)}


def _alike(before: Entry, after: Entry) -> bool:
    if before is after:
        return True
    return after.sure and before.file.digest == after.file.digest and before.file.error == after.file.error


def _same(before: Entry, after: Entry) -> bool:
    return before is after or (before.sure and before.stamp == after.stamp and _alike(before, after))


def _empty(entry: Entry) -> bool:
    return entry.file.content == b""

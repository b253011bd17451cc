"""Which commit may be in force when signatures are asked for: the newest one that verifies.

A head that verifies is taken, with the unsigned commits below it: whoever signs vouches for what he signs on. Any other
head is held. Then the newest commit that verifies on its first-parent chain is in force, but none older than the one
that is in force already, which stays whatever becomes of keys: what runs, runs on. If there is none at all, nothing is said
to be wanted. Commits and tags are judged by the bytes that have their hash, once for the same keys.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agent.contracts import Transient
from agent.source.git.command import GitFailed, Repository, ask
from agent.source.git.object import Commit, Missing, Objects
from agent.source.git.signature import Finding, Keys, NoKeys, Verifier

_log = logging.getLogger("xmod.source")

Mode: TypeAlias = Literal["commit", "tag"]

_SECONDS = 30.0  # for listing tags
_JUDGING = 10.0  # seconds for signatures in one go; what was found is kept, so the next go gets further
_DEEPEST = 10_000  # commits of a chain
_REMEMBERED = 20_000  # findings
_SHORT = 12  # digits of a commit's id


class Unverified(Transient):
    """No commit may be in force."""


@dataclass(frozen=True, slots=True)
class Word:
    """What was said last. `asked`: what it was an answer to; `commit`: "" if there is none, and `error` says why.

    `notice`: for people, while a commit is held; `reason`: for metrics.
    """

    asked: tuple[object, ...] = ()
    commit: str = ""
    notice: str = ""
    reason: str = ""
    error: str = ""

    def given(self) -> str:
        """The commit. Raises Unverified."""
        if self.error:
            raise Unverified(self.error, reason="SourceUnverified")
        return self.commit


@dataclass(slots=True)
class _Court:
    """All that one question needs."""

    objects: Objects
    verifier: Verifier
    tags: Mapping[str, list[tuple[str, str]]]  # by commit: the names and ids of tags that are said to point at it
    unsure: bool = False  # something could not be checked
    until: float = field(default_factory=lambda: time.monotonic() + _JUDGING)

    @property
    def late(self) -> bool:
        return time.monotonic() > self.until


class Trust:
    """Says which commit may be in force. One thread asks; `notice` and `reason` may be read by any."""

    def __init__(self, mode: Mode, keys: Keys) -> None:
        self.mode = mode
        self.keys = keys
        self._word = Word()
        self._digest = ""
        self._findings: dict[tuple[str, str], Finding] = {}  # by commit, or by tag and its name

    @property
    def notice(self) -> str:
        """Why the newest commit is not in force, "" if it is."""
        return self._word.notice

    @property
    def reason(self) -> str:
        """The same in a word: one of snapshot.UNVERIFIED, or ""."""
        return self._word.reason

    @property
    def terms(self) -> tuple[str, ...]:
        """What is asked for, by whose word."""
        return (self.mode, str(self.keys.signers or ""), str(self.keys.keyring or ""))

    def settle(self, objects: Objects, head: str, *, in_force: str = "", tag: str = "") -> str:
        """The commit to be in force. `in_force`: the one that is; `tag`: whose target the head is. Raises Transient.

        Unverified if there is none.
        """
        try:
            return self._settle(objects, head, in_force, tag)
        except Missing as error:
            raise Transient(f"the repository lacks commit {error}", reason="SourceBroken") from error

    def _settle(self, objects: Objects, head: str, in_force: str, tag: str) -> str:
        try:
            keys = self.keys.read()
        except NoKeys as error:
            return self._settled((), objects, head, Finding("error", str(error)), in_force)
        if keys.digest != self._digest:
            self._digest = keys.digest
            self._findings.clear()
        tags = _tags(objects.repository) if self.mode == "tag" else {}
        asked = (head, in_force, tag, keys.digest, str(tags))
        if asked == self._word.asked:
            return self._word.given()
        with Verifier(keys) as verifier:
            court = _Court(objects, verifier, tags)
            found = self._found(court, head, tag=tag)
            if found.good:
                return self._said(Word((head, head, tag, keys.digest, str(tags)), head)).given()
            chosen = self._newest(court, head, in_force)
            return self._settled(() if court.late or court.unsure else asked, objects, head, found, chosen)

    def _settled(self, asked: tuple[object, ...], objects: Objects, head: str, found: Finding, chosen: str) -> str:
        """Hold the head, or, if nothing can be in force, say so. Raises Unverified."""
        name = f"commit {head[:_SHORT]}{_author(objects, head)}"
        cure = self._cure(found, head)
        wrong = ""
        if not chosen:
            wrong = "no commit that verifies was found" + ("" if asked else " so far")
        elif not _here(objects, chosen):
            wrong = f"commit {chosen[:_SHORT]}, which was in force, is gone from the repository"
        if wrong:
            error = f"{wrong}, and {name} does not verify: {found.why}; {cure}"
            return self._said(Word(asked, reason=found.reason, error=error)).given()
        if chosen == head:
            notice = f"{name} stays in force, but does not verify any more: {found.why}; {cure}"
        else:
            notice = f"{name} is held: {found.why}; {chosen[:_SHORT]} stays in force; {cure}"
        return self._said(Word(asked, chosen, notice, found.reason)).given()

    def _newest(self, court: _Court, head: str, in_force: str) -> str:
        """The newest commit that verifies on the head's chain, down to the one that is in force; "" if there is none."""
        candidate = ""
        for commit in _chain(court.objects, head):
            if commit.oid == in_force:
                return candidate or in_force
            if not candidate and not court.late and commit.oid != head and self._found(court, commit.oid).good:
                candidate = commit.oid
            if not in_force and (candidate or court.late):
                break
        return in_force or candidate

    # judging

    def _found(self, court: _Court, oid: str, *, tag: str = "") -> Finding:
        if self.mode == "commit":
            return self._judged(court, oid, oid)
        named = [(name, tag_oid) for name, tag_oid in court.tags.get(oid, ()) if tag in ("", name)]
        findings = [self._judged(court, oid, tag_oid, name=name) for name, tag_oid in named]
        wanted = f"tag {tag} is not a signed one" if tag else "no signed tag points at it"
        return next((f for f in findings if f.good), findings[0] if findings else Finding("unsigned", wanted))

    def _judged(self, court: _Court, commit: str, oid: str, *, name: str = "") -> Finding:
        known = self._findings.get((oid, name))
        if known is not None:
            return known
        if name:
            found = _judged_tag(court, commit, oid, name)
        else:
            found = court.verifier.finding("commit", oid, court.objects.content(oid, "commit"))
        court.unsure = court.unsure or found.reason == "error"
        if found.reason != "error":
            if len(self._findings) >= _REMEMBERED:
                self._findings.clear()
            self._findings[oid, name] = found
        return found

    # saying

    def _said(self, word: Word) -> Word:
        if word.notice != self._word.notice:
            if word.notice:
                _log.warning("a commit does not verify", extra={"reason": word.reason, "error": word.notice})
            else:
                _log.info("the newest commit verifies", extra={"revision": word.commit})
        self._word = word
        return word

    def _cure(self, found: Finding, head: str) -> str:
        if found.reason == "error":
            return "what was found before holds until that is cured"
        files = " or ".join(
            f"{setting} ({file})"
            for setting, file in (("source.allowedSigners", self.keys.signers), ("source.keyring", self.keys.keyring))
            if file is not None
        )
        if self.mode == "tag":
            return f"tag it with `git tag -s NAME {head[:_SHORT]}` by a key of {files}, and push the tag"
        return f"commit on top of it with `git commit -S`, or amend it so, by a key of {files}"


def _here(objects: Objects, oid: str) -> bool:
    try:
        objects.commit(oid)
    except Missing:
        return False
    return True


def _judged_tag(court: _Court, commit: str, oid: str, name: str) -> Finding:
    """A tag speaks for the commit that it names, under the name that it has: it may not be moved to another."""
    try:
        content = court.objects.content(oid, "tag")
    except Missing:
        return Finding("error", f"tag {name} cannot be read")
    head = content.partition(b"\n\n")[0].decode("utf-8", "replace").split("\n")
    if head[:2] != [f"object {commit}", "type commit"] or f"tag {name}" not in head[2:3]:
        return Finding("bad", f"tag {name} was made for another name or commit")
    found = court.verifier.finding("tag", oid, content)
    return found if found.good else found._replace(why=f"of tag {name}, {found.why}")


def _chain(objects: Objects, head: str) -> Iterator[Commit]:
    """A commit and its first parents, newest first, as far as history is here."""
    oid = head
    for _ in range(_DEEPEST):
        try:
            commit = objects.commit(oid)
        except Missing:
            return
        yield commit
        if not commit.parents:
            return
        oid = commit.parents[0]


def _tags(repository: Repository) -> dict[str, list[tuple[str, str]]]:
    """The names and ids of tag objects, by the commit that each points at. Only a hint. Raises Transient."""
    words = ["for-each-ref", "--format=%(objectname) %(*objectname) %(refname:lstrip=2)", "refs/tags"]
    try:
        printed = ask(repository, words, seconds=_SECONDS)
    except GitFailed as error:
        raise Transient(f"the tags cannot be read: {error}", reason="SourceBroken") from error
    found: dict[str, list[tuple[str, str]]] = {}
    for line in filter(None, printed.split("\n")):  # not splitlines(): a tag's name may hold what else ends a line
        oid, target, name = line.split(" ", 2)
        if target:
            found.setdefault(target, []).append((name, oid))
    return found


def _author(objects: Objects, oid: str) -> str:
    """The author's name, as far as it can be shown."""
    name = objects.commit(oid).author
    return " by " + "".join(sign if sign.isprintable() else "?" for sign in name) if name else ""

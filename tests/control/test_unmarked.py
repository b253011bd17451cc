"""What specs say by now and marks do not: what is noted, for how long, and what follows of it in the plan."""

from dataclasses import replace

from agent.contracts import Digest, Fate
from agent.control.gate import Candidate
from agent.control.intent import Run
from agent.control.plan import Inputs, candidates
from agent.control.unmarked import noted
from agent.control.words import Words
from agent.spec.resolve import Wanted
from tests.control.test_plan import EMPTY, HERE, NAME, UNSEEN, WEB, generation, of_web, sight, wants
from tests.control.test_turn import upgraded


def test_a_word_about_pruning_that_came_after_the_mark_counts() -> None:
    protected = replace(WEB, protected=True)
    words = noted(Inputs(wants(protected), HERE, Words()))
    assert words.protected == {NAME: True}
    assert candidates(Inputs(wants(), HERE, words)) == [Candidate(NAME, "folder:/specs", protected=True)]
    assert noted(Inputs(wants(), HERE, words)) is words, "it is remembered while it is there"
    assert noted(Inputs(wants(), EMPTY, words)).protected == {}
    assert noted(Inputs(wants(), UNSEEN, words)) is words
    assert noted(Inputs(wants(protected), UNSEEN, words)) is words
    assert noted(Inputs(wants(WEB), HERE, words)).protected == {}


def test_a_spec_that_changed_without_the_digest_is_still_the_same_when_it_resolves_differently() -> None:
    edited = replace(WEB, spec_digest=Digest("edited"), priority=5)
    words = noted(Inputs(wants(edited), HERE, Words()))
    assert words.agreed == {NAME: (Digest("edited"), WEB.digest)}
    new = upgraded(edited)
    assert noted(Inputs(wants(new), HERE, words)) is words
    intent = of_web(wants(new), HERE, words)
    assert isinstance(intent, Run)
    assert (intent.note, intent.service) == ("ResolvesDifferently", edited)
    changed = replace(new, spec_digest=Digest("changed"))
    assert of_web(wants(changed), HERE, words) == Run(changed)
    assert noted(Inputs(wants(changed), HERE, words)).agreed == {}


def test_what_the_mark_says_too_is_not_noted() -> None:
    words = Words()
    assert noted(Inputs(wants(WEB), HERE, words)) is words
    assert noted(Inputs(None, HERE, words)) is words


HERE_FOR_A = {"memory": sight(generation(replace(WEB, host="a")))}
FOR_B = replace(WEB, host="b", spec_digest=Digest("for b"), replicas=3)


def varies(of: object) -> Wanted:
    return Wanted(of, suspended=False, restarted_at=None, line=1, overridden=True)  # type: ignore[arg-type]


def test_what_another_name_of_the_host_brought_waits_and_only_where_it_can_have_brought_it() -> None:
    words = noted(Inputs(wants(varies(FOR_B)), HERE_FOR_A, Words()))
    assert (words.relabelled, words.hosts, words.agreed) == ({NAME: "for b"}, {NAME: "b"}, {})
    assert noted(Inputs(wants(varies(FOR_B)), HERE_FOR_A, words)) is words
    assert noted(Inputs(wants(), HERE_FOR_A, words)).relabelled == words.relabelled, "it may come back"
    assert noted(Inputs(wants(varies(FOR_B)), UNSEEN, words)) is words
    edited = replace(FOR_B, spec_digest=Digest("edited"))
    assert noted(Inputs(wants(varies(edited)), HERE_FOR_A, words)).relabelled == {}
    assert noted(Inputs(wants(varies(replace(WEB, host="a"))), HERE_FOR_A, words)).relabelled == {}
    assert noted(Inputs(wants(FOR_B), HERE_FOR_A, Words())).relabelled == {}
    failed = {"memory": sight(generation(replace(WEB, host="a"), Fate.FAILED))}
    assert noted(Inputs(wants(varies(FOR_B)), failed, Words())).relabelled == {}
    older = {"memory": sight(generation(WEB))}
    assert noted(Inputs(wants(varies(FOR_B)), older, Words())).relabelled == {}, (
        "nobody knows for which host it was read"
    )


def test_what_was_agreed_before_is_so_again_when_the_host_is_called_as_before() -> None:
    scaled = replace(WEB, host="a", spec_digest=Digest("scaled"))
    before = noted(Inputs(wants(varies(scaled)), HERE_FOR_A, Words()))
    assert before.agreed == {NAME: ("scaled", WEB.digest)}
    renamed = noted(Inputs(wants(varies(FOR_B)), HERE_FOR_A, before))
    assert (renamed.agreed, renamed.relabelled) == (before.agreed, {NAME: "for b"})
    assert noted(Inputs(wants(varies(scaled)), HERE_FOR_A, renamed)) == before

"""Histories are one source while they have something in common, and another one when not."""

from agent.source.git.command import Repository
from agent.source.git.history import History, knew
from agent.source.git.object import Objects


def where(repo) -> Repository:
    return Repository(("-C", str(repo.root)))


def identity(history: History, repo, *, ground: str = "") -> str:
    with Objects(where(repo), seconds=10) as objects:
        return history.identity(where(repo), objects, objects.commit("HEAD"), ground=ground)


def test_a_branch_and_a_rewritten_one_are_the_same_history(repo):
    history = History()
    first = identity(history, repo)
    repo.commit(a="a: 2\n")
    assert identity(history, repo) == first
    repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.commit(a="a: 3\n")
    assert identity(history, repo) == first
    assert identity(History(), repo) == first, "and so it is to another agent"


def test_what_is_far_back_is_the_same_history_too(repo):
    history = History()
    first = identity(history, repo)
    for number in range(40):
        repo.commit(a=f"a: {number}\n")
    assert identity(history, repo) == first


def test_unrelated_history_is_another_one(repo):
    history = History()
    first = identity(history, repo)
    repo.git("checkout", "-q", "--orphan", "other")
    repo.commit(a="a: 2\n")
    assert identity(history, repo) != first


def test_where_history_is_cut_off_the_ground_counts(repo):
    history = History()
    first = identity(history, repo, ground="1:2")
    repo.git("checkout", "-q", "--orphan", "other")
    repo.commit(a="a: 2\n")
    assert identity(history, repo, ground="1:2") == first
    repo.git("checkout", "-q", "--orphan", "another")
    repo.commit(a="a: 3\n")
    assert identity(history, repo, ground="1:3") != first


def test_a_path_that_was_removed_is_told_from_one_that_never_was(repo):
    repo.commit(a=None, b__c=None)
    with Objects(where(repo), seconds=10) as objects:
        commit = objects.commit("HEAD")
    assert knew(where(repo), commit, "specs")
    assert not knew(where(repo), commit, "spec")

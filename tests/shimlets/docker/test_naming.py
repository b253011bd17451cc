"""Names carry fates."""

import re

import pytest

from agent.contracts import Digest, Fate, ServiceName
from shimlets.docker import naming

NAME, DIGEST = ServiceName("qwen-test"), Digest("0123456789abcdef" * 4)


@pytest.mark.parametrize(
    ("fate", "name"),
    [
        (Fate.SERVED, "xmod-edge-qwen-test-01234567-2"),
        (Fate.NEW, "xmod-edge-qwen-test-01234567-2.new"),
        (Fate.FAILED, "xmod-edge-qwen-test-01234567-2.failed"),
    ],
)
def test_a_name_tells_its_fate_and_nothing_else_changes(fate: Fate, name: str):
    assert naming.container_name("edge", NAME, DIGEST, index=2, fate=fate) == name
    assert naming.fate_of(name) is fate


def test_a_name_that_somebody_changed_counts_as_served():
    assert naming.fate_of("my-precious") is Fate.SERVED


def test_the_pattern_finds_all_names_of_a_service_and_of_no_other():
    pattern = re.compile(naming.name_pattern("edge", NAME))
    assert all(pattern.search(f"/{name}") for name in naming.every_name("edge", NAME, DIGEST, index=17))
    others = [
        "xmod-edge-qwen-test-2-01234567-0",
        "xmod-edge-qwen-01234567-0",
        "xmod-edge-qwen-test-01234567-0.old",
        "qwen-test",
    ]
    assert not any(pattern.search(f"/{name}") for name in others)


@pytest.mark.parametrize("owner", ["", "Edge", "a_b", "-a", "a-", "a" * 64, "a.b"])
def test_an_owner_that_no_container_name_could_carry_is_refused(owner: str):
    with pytest.raises(ValueError, match="lower-case"):
        naming.checked_owner(owner)


def test_what_was_given_up_has_a_name_that_is_nobodys_and_never_the_same_twice():
    name = naming.container_name("edge", NAME, DIGEST, index=0, fate=Fate.FAILED)
    first, second = naming.forgotten_name(name, "a" * 64), naming.forgotten_name(name, "b" * 64)
    assert first == "xmod-edge-qwen-test-01234567-0.failed.aaaaaaaaaaaa.forgotten"
    assert first != second
    assert naming.is_forgotten(first)
    assert not any(naming.is_forgotten(one) for one in naming.every_name("edge", NAME, DIGEST, index=0))
    assert not re.search(naming.name_pattern("edge", NAME), f"/{first}")

"""The settings' names, defaults and bounds."""

import pytest
from pydantic import ValidationError

from agent.settings.model import AgentBlock, PortsBlock, ServiceBlock


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("500ms", 0.5), ("1m30s", 90), ("2h", 7200), ("1d", 86400), ("1.5s", 1.5), (7, 7)],
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert ServiceBlock(read_timeout=text).read_timeout == seconds


@pytest.mark.parametrize("text", ["30", "s", "-1s", "1 s", "30sec", "", "0s", 0, -3, "31d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValidationError):
        ServiceBlock(read_timeout=text)


@pytest.mark.parametrize("text", ["18000", "2-1", "0-5", "1-70000", "a-b", 5, [1, 2]])
def test_what_is_no_port_range_is_refused(text):
    with pytest.raises(ValidationError, match="FIRST-LAST"):
        PortsBlock(range=text)


def test_a_port_range_has_both_its_ends():
    assert PortsBlock(range="20000-20010").range == (20000, 20010)


@pytest.mark.parametrize("name", ["", "Upper", "a_b", "-a", "a-", "a" * 64, "../x", "a.b"])
def test_an_instance_is_a_dns_label(name):
    with pytest.raises(ValidationError):
        AgentBlock(instance=name)


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_loopback_needs_no_word(bind):
    assert ServiceBlock(bind=bind).loopback


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_addresses_must_be_meant(bind):
    with pytest.raises(ValidationError, match=r"set service\.allowRemote: true"):
        ServiceBlock(bind=bind)
    assert ServiceBlock(bind=bind, allow_remote=True).bind == bind


def test_a_bind_that_is_no_address_is_refused():
    with pytest.raises(ValidationError, match="must be an IP address"):
        ServiceBlock(bind="gpu-7.example")


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        ServiceBlock().port = 1

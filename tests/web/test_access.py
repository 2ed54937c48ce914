"""Who may open a page."""

from __future__ import annotations

import pytest

from framefold.errors import FramefoldError
from framefold.web.access import access_to, is_loopback, reachable_name


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("127.3.2.1", True), ("::1", True), ("0.0.0.0", False),
     ("192.168.1.5", False), ("::", False), ("detector.example", False), ("", False)],
)  # fmt: skip
def test_loopback(address, loopback):
    assert is_loopback(address) is loopback


def test_on_loopback_the_host_must_be_ours():
    access = access_to("127.0.0.1", 5006, None)
    assert access.token is None
    assert access.allows("127.0.0.1:5006", None)
    assert access.allows("LocalHost:5006", None)
    # a foreign name that was made to point here (DNS rebinding), another port
    assert not access.allows("evil.example:5006", None)
    assert not access.allows("127.0.0.1:80", None)


def test_elsewhere_a_token_is_needed():
    access = access_to("0.0.0.0", 5006, None)
    assert len(access.token) >= 32
    assert access.allows("beamline.example:5006", access.token)
    assert not access.allows("127.0.0.1:5006", None)
    assert not access.allows("127.0.0.1:5006", access.token[:-1])
    assert access_to("0.0.0.0", 5006, None).token != access.token


def test_short_tokens_are_refused():
    with pytest.raises(FramefoldError, match="at least 8 characters"):
        access_to("127.0.0.1", 5006, "secret")


@pytest.mark.parametrize(("address", "name"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_names_in_urls(address, name):
    assert reachable_name(address) == name

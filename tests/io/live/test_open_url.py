"""A URL finds its protocol; unknown names and wrong values are errors that say what is allowed."""

import pickle
from dataclasses import dataclass

import pytest

from framefold.errors import DataError
from framefold.io.live import LiveRequest, open_url, parse_address, protocol_names, register_protocol
from framefold.io.live.registry import _MODULES, frames_wanted, get_protocol
from framefold.io.registry import open_source


@dataclass(frozen=True)
class Nothing:
    request: LiveRequest
    modules: tuple[int, ...]
    source: tuple[str, ...]
    pattern: str
    lean: bool
    pace: float | None


@register_protocol("nothing", replace=True)
def open_nothing(
    request: LiveRequest,
    *,
    modules: tuple[int, ...] = (1, 1),
    source: tuple[str, ...] = (),
    pattern: str = "req",
    lean: bool = False,
    pace: float | None = 1.0,
) -> Nothing:
    return Nothing(request, modules, source, pattern, lean, pace)


def test_parts_of_a_url_arrive_with_their_types():
    got = open_url(
        "nothing://225.1.1.1:2001-2008?modules=2x1&source=*DET/*CH0*,b&pattern=sub&lean=yes&pace=none"
        "&missing=fill&fill_value=2.5&start_timeout=none&placement=0:hostA,1:hostB&n_frames=7",
        nav_shape=(2, 3),
        deadline=1,
    )
    assert got.modules == (2, 1)
    assert got.source == ("*DET/*CH0*", "b")
    assert (got.pattern, got.lean, got.pace) == ("sub", True, None)
    r = got.request
    assert r.address.host == "225.1.1.1"
    assert r.address.ports == tuple(range(2001, 2009))
    assert (r.options.missing, r.options.fill_value, r.options.start_timeout) == ("fill", 2.5, None)
    assert r.options.placement == {0: "hostA", 1: "hostB"}
    assert (r.options.n_frames, r.options.deadline, r.nav_shape) == (7, 1.0, (2, 3))
    assert pickle.loads(pickle.dumps(got)) == got


def test_the_registry_of_files_hands_urls_over():
    assert open_source("nothing://h:1", nav_shape=(4,)).request.nav_shape == (4,)


@pytest.mark.parametrize(
    "text, host, ports, path",
    [
        ("a://h", "h", (), ""),
        ("a://h:5/x/y", "h", (5,), "x/y"),
        ("a://h:1,3-4", "h", (1, 3, 4), ""),
        ("a://[::1]:9", "::1", (9,), ""),
        ("a://:9", "", (9,), ""),
        ("pva://13SIM1:Pva1:Image", "", (), "13SIM1:Pva1:Image"),
        ("replay:///data/x.mib", "", (), "/data/x.mib"),
    ],
)
def test_addresses(text, host, ports, path):
    a = parse_address(text)
    assert (a.host, a.ports, a.path) == (host, ports, path)


@pytest.mark.parametrize(
    "url, options, match",
    [
        ("nothin://h:1", {}, r"unknown protocol 'nothin'. Did you mean 'nothing'\? Protocols: .*nothing"),
        ("nothing://h:1?module=2", {}, r"no option 'module'. Did you mean 'modules'\? Its own: lean"),
        ("nothing://h:1", {"dead_line": 2}, "no option 'dead_line'.*of all live sources: block_time"),
        ("nothing://h:1?lean=perhaps", {}, "lean='perhaps' is not bool"),
        ("nothing://h:1?modules=2yx", {}, "modules='2yx' is not numbers such as 2x1"),
        ("nothing://h:1?missing=none", {}, "missing='none': allowed are skip, fill"),
        ("nothing://h:1?placement=a:b", {}, "placement='a:b' is not text such as"),
        ("nothing://h:1?deadline=-1", {}, "deadline=-1.0 must be at least 0"),
        ("nothing://h:1?n_frames=0", {}, "n_frames=0 must be at least 1"),
        ("nothing://h:1?n_frames=2.5", {}, "n_frames='2.5' is not int"),
        ("nothing://h:1?lean=1&lean=0", {}, "lean= is given twice"),
        ("nothing://h:1?lean=1", {"lean": True}, "lean= is given in the URL .* and as an option"),
        ("nothing://h:70000", {}, "70000 are not a range"),
        ("nothing://h:8-5", {}, "8-5 are not a range"),
        ("nothing://h:1-5000", {}, "5000 ports, at most 1024"),
        ("nothing://h:-", {}, "neither a port nor a range"),
        ("nothing://h:x", {}, "is not host:port"),
        ("://h", {}, "is no URL of a live source"),
    ],
)
def test_what_is_wrong_is_said(url, options, match):
    with pytest.raises(DataError, match=match):
        open_url(url, **options)


def test_one_port():
    assert parse_address("a://h").port(6342) == 6342
    assert parse_address("a://h:7").port(6342) == 7
    with pytest.raises(DataError, match="takes one port, the URL gives 2"):
        parse_address("a://h:7-8").port(1)


def test_names_are_not_taken_twice():
    with pytest.raises(DataError, match="'nothing' exists"):
        register_protocol("nothing")(lambda request: None)
    assert "nothing" in protocol_names()


@pytest.mark.parametrize("name", sorted(_MODULES))
def test_every_name_of_the_table_opens(name):
    assert callable(get_protocol(name))


@pytest.mark.parametrize("options, nav, offset, frames", [
    ({}, None, 0, None), ({}, (4, 5), 0, 20), ({}, (4, 5), 3, 23), ({}, (4, 5), -3, 17), ({"n_frames": 9}, (4,), 0, 9),
])  # fmt: skip
def test_frames_of_an_acquisition(options, nav, offset, frames):
    assert (
        frames_wanted(open_url("nothing://h:1", nav_shape=nav, sync_offset=offset, **options).request)
        == frames
    )

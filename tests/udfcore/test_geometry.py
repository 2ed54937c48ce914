"""Shapes, slices, tilings, rows and partitions: pure laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framefold.errors import DataError
from framefold.udfcore.partitioning import PartitionLimits, PartitionPlanner, TaskFeed
from framefold.udfcore.roi import as_roi, row_map
from framefold.udfcore.shapes import Shape, Slice
from framefold.udfcore.task import Partial
from framefold.udfcore.tiling import cache_target, cut_rows, frame_scheme, tile_scheme

extents = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(extents, st.data())
def test_shape_splits_nav_and_sig(shape, data):
    sig_dims = data.draw(st.integers(0, len(shape)))
    s = Shape(shape, sig_dims)
    assert (*s.nav, *s.sig) == tuple(shape)
    assert s.size == s.nav.size * s.sig.size
    assert tuple(s.flatten_nav()) == (s.nav.size, *s.sig)
    assert s == Shape(shape, sig_dims)
    assert s == tuple(shape)
    assert hash(s) == hash(Shape(shape, sig_dims))


@given(extents, st.data())
def test_slice_arithmetic_equals_numpy(shape, data):
    arr = np.arange(math.prod(shape)).reshape(shape)

    def draw():
        origin = [data.draw(st.integers(0, n - 1)) for n in shape]
        return Slice(
            origin, Shape([data.draw(st.integers(1, n - o)) for n, o in zip(shape, origin, strict=True)], 1)
        )

    a, b = draw(), draw()
    assert set(a.intersection_with(b).get(arr).ravel()) == set(a.get(arr).ravel()) & set(b.get(arr).ravel())
    assert a.intersection_with(b).is_null() == (not set(a.get(arr).ravel()) & set(b.get(arr).ravel()))
    inner = a.intersection_with(b)
    if not inner.is_null():
        np.testing.assert_array_equal(inner.shift(a).get(a.get(arr)), inner.get(arr))
    step = [data.draw(st.integers(1, 4)) for _ in shape]
    pieces = [v for s in a.subslices(step) for v in s.get(arr).ravel()]
    assert sorted(pieces) == sorted(a.get(arr).ravel())


def test_slice_is_immutable_and_checks_its_axes():
    s = Slice.from_shape((2, 3), sig_dims=1)
    with pytest.raises(AttributeError, match="Slice is immutable"):
        s.origin = (1, 1)
    with pytest.raises(DataError, match="differ in their number of axes"):
        Slice((0,), Shape((2, 3), 1))
    with pytest.raises(DataError, match="is not contiguous"):
        Slice((0, 0, 0), Shape((2, 2, 4), 1)).flatten_nav((3, 3, 4))


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_slices_of_partitions_compress_like_the_roi(h, w, data):
    roi = np.array(data.draw(st.lists(st.booleans(), min_size=h * w, max_size=h * w))).reshape(h, w)
    start = data.draw(st.integers(0, h * w))
    stop = data.draw(st.integers(start, h * w))
    compressed = Slice((start, 0), Shape((stop - start, 5), 1)).adjust_for_roi(roi)
    ids = np.flatnonzero(roi.ravel())
    want = [i for i, f in enumerate(ids) if start <= f < stop]
    assert list(range(compressed.origin[0], compressed.origin[0] + compressed.shape[0])) == want or not want


@given(
    st.lists(st.integers(1, 600), min_size=1, max_size=3), st.integers(1, 8), st.integers(1, 64),
    st.one_of(st.just(math.inf), st.integers(1, 10**7)), st.integers(1, 40), st.booleans(),
)  # fmt: skip
def test_parts_tile_the_frame_and_stay_in_budget(sig, itemsize, depth, total, chunk, whole):
    scheme = tile_scheme(
        sig, itemsize, depth=depth, total_size=total, budget=2**18, chunk_rows=min(chunk, sig[0]), whole=whole
    )
    seen = np.zeros(sig, dtype=int)
    for part in scheme.parts:
        seen[part] += 1
    assert (seen == 1).all(), "parts are disjoint and complete"
    sizes = [p[0].stop - p[0].start for p in scheme.parts]
    if not whole and chunk == 1:
        assert max(sizes) - min(sizes) <= 1
    assert scheme.depth >= 1
    tile = scheme.depth * max(scheme[i].shape.size for i in range(len(scheme))) * itemsize
    limit = total if total != math.inf else 2**18
    frame_row = math.prod(sig[1:]) * itemsize
    if scheme.depth > 1 and not whole and len(scheme) > 1:
        assert tile <= max(limit, frame_row * chunk)


def test_frames_are_taken_as_many_as_fit_the_cache():
    assert 256 * 1024 <= cache_target() <= 2 * 1024**2
    scheme = frame_scheme((16, 16), 4)
    assert scheme.depth == cache_target() // 1024
    assert frame_scheme((4096, 4096), 4).depth == 1
    assert len(cut_rows((), 1)) == 1


@given(st.integers(0, 60), st.data())
def test_rows_runs_and_segments_describe_exactly_the_wanted_frames(n, data):
    flags = st.one_of(
        st.none(), st.lists(st.booleans(), min_size=n, max_size=n).map(lambda f: np.array(f, bool))
    )
    roi, valid = data.draw(flags), data.draw(flags)
    offset = data.draw(st.integers(-5, 5))
    rows = row_map(n, valid, offset, roi)
    wanted = [i for i in range(n) if roi is None or roi[i]]
    assert rows.n_rows == len(wanted)
    assert rows.frame_ids(0, rows.n_rows).tolist() == wanted
    delivered = [
        frame - offset
        for a, b in rows.segments(0, rows.n_rows)
        for s, e in rows.runs(a, b)
        for frame in range(s, e)
    ]
    assert delivered == [i for i in wanted if valid is None or valid[i]]
    values = np.arange(rows.n_rows, dtype=float)
    assert rows.expand(values, np.nan)[wanted].tolist() == values.tolist()


@given(
    st.integers(0, 2000), st.integers(1, 7), st.integers(1, 500), st.integers(1, 100), st.integers(1, 8),
    st.one_of(st.none(), st.integers(1, 300)), st.lists(st.floats(1e-6, 2), max_size=20),
)  # fmt: skip
def test_planner_hands_out_every_row_once(n, chunk, max_rows, first, lanes, fixed, times):
    planner = PartitionPlanner(PartitionLimits(n, chunk, max(max_rows, chunk), first, lanes, fixed=fixed))
    at, index = 0, 0
    durations = iter(times)
    while (found := planner.next()) is not None:
        i, start, stop = found
        assert i == index
        assert start == at
        assert stop > start
        if fixed is None:
            assert stop - start <= max(max_rows, chunk)
            assert stop == n or stop % chunk == 0
        else:
            assert stop - start == min(fixed, n - start)
        planner.done(Partial(((i, start, stop),), (), seconds=next(durations, 0.1)))
        at, index = stop, index + 1
    assert at == n
    assert planner.exhausted


@pytest.mark.parametrize(
    "lanes, rows, why", [(2, 2000, "0.2 s"), (256, 10240, "256 lanes keep the head busy")]
)
def test_partitions_grow_to_the_time_they_should_take(lanes, rows, why):
    planner = PartitionPlanner(PartitionLimits(10**8, 1, 10**8, 10, lanes))
    sizes = []
    for _ in range(12):
        i, start, stop = planner.next()
        sizes.append(stop - start)
        planner.done(Partial(((i, start, stop),), (), seconds=(stop - start) * 1e-4))
    assert sizes[:4] == [10, 40, 160, 640], "at most four times the last"
    assert sizes[-1] == rows, f"rows of 0.1 ms: {why}"


def test_feed_stops_when_cancelled_and_stamps_parameters():
    feed = TaskFeed(PartitionPlanner(PartitionLimits(10, 1, 10, 2, 1, fixed=2)))
    assert feed.next().params_version == 0
    feed.update(3, ({"a": 1},))
    task = feed.next()
    assert (task.params_version, task.patches) == (3, ({"a": 1},))
    feed.cancelled.set()
    assert feed.next() is None
    assert feed.exhausted


NAV = (3, 4)
MASK = np.zeros(NAV, bool)
MASK[1, 2] = MASK[2, 3] = True


@pytest.mark.parametrize(
    "roi",
    [
        MASK,
        MASK.ravel(),
        [(1, 2), (2, 3)],
        [((1, 2), True), ((2, 3), True)],
        __import__("scipy.sparse").sparse.csr_array(MASK),
    ],
    ids=["nav shape", "flat", "coordinates", "pairs", "scipy"],
)
def test_all_forms_of_a_roi_mean_the_same(roi):
    assert np.array_equal(as_roi(roi, NAV), MASK)


def test_one_coordinate_and_switching_off():
    one = np.zeros(NAV, bool)
    one[1, 2] = True
    assert np.array_equal(as_roi((1, 2), NAV), one)
    assert np.array_equal(as_roi([((1, 2), False)], NAV), ~one)
    assert as_roi(None, NAV) is None


def test_roi_is_copied_and_cast_with_a_warning():
    mask = MASK.copy()
    roi = as_roi(mask, NAV)
    mask[:] = False
    assert roi.any()
    with pytest.warns(UserWarning, match=r"^ROI dtype is int64, expected bool\. Attempting cast to bool\.$"):
        assert np.array_equal(as_roi(MASK.astype("int64"), NAV), MASK)
    with pytest.raises(
        DataError, match=r"roi coordinate \(7, 0\) lies outside the navigation shape \(3, 4\)"
    ):
        as_roi([(7, 0)], NAV)

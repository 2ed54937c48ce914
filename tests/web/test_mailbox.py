"""Latest wins, one in flight: against a plain model of the rule."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from framefold.web.mailbox import Mailbox


@given(st.lists(st.sampled_from(["put", "take", "confirm", "stale", "again"]), max_size=60))
def test_any_order_of_calls(calls):
    box, waiting, last, in_flight, sent = Mailbox(), None, None, None, 0
    for n, call in enumerate(calls):
        if call == "put":
            box.put(n)
            waiting = n
        elif call == "again":
            box.again()
            waiting = last if waiting is None else waiting
        elif call == "take":
            got = box.take()
            if in_flight is not None or waiting is None:
                assert got is None
            else:
                sent += 1
                assert got == (sent, waiting)
                last, waiting, in_flight = waiting, None, sent
        elif call == "confirm" and in_flight is not None:
            assert box.confirm(in_flight)
            in_flight = None
        else:
            assert not box.confirm(sent + 1)
        assert box.in_flight == in_flight
        assert box.empty == (waiting is None)


def test_a_reader_that_never_confirms_costs_nothing():
    box = Mailbox()
    for n in range(1000):
        box.put(n)
        taken = box.take()
        assert (taken is None) == (n > 0)
    assert box.dropped == 998

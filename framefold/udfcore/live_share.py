"""The share of a run that one process folds: some of its UDFs, on its own sectors or on whole frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from framefold.udfcore.plan import Plan, UDFPlan


@dataclass(frozen=True)
class Share:
    """What a process folds of a run whose sectors arrive in several processes.

    Attributes
    ----------
    plan
        Of these UDFs only.
    members
        Their numbers in the run.
    """

    plan: Plan
    members: tuple[int, ...]

    @property
    def udfs(self) -> tuple[UDFPlan, ...]:
        """The UDFs, as the plan has them."""
        return self.plan.udfs


def shares(plan: Plan, own: Sequence[int] | None) -> tuple[Share | None, Share | None]:
    """Return what is folded where sectors arrive, and what on whole frames.

    Parameters
    ----------
    plan
        Of the whole run.
    own
        Positions of the sectors that the process receives; None: all of them, no others receive.
    """
    assert plan.live is not None
    everything = tuple(range(len(plan.udfs)))
    if own is None:
        return Share(plan, everything), None
    apart = tuple(i for i in everything if plan.live.apart[i])
    joined = tuple(i for i in everything if i not in apart)
    here, whole = share_of(plan, joined), share_of(plan, apart)
    if here is not None and here.plan.live is not None:
        here = replace(here, plan=replace(here.plan, live=replace(here.plan.live, own=tuple(own))))
    return here, whole


def share_of(plan: Plan, members: tuple[int, ...]) -> Share | None:
    """Return the plan with these UDFs only, None if there are none."""
    assert plan.live is not None
    if not members:
        return None
    at = {m: i for i, m in enumerate(members)}
    lanes, modes = [], []
    for lane, mode in zip(plan.lanes, plan.live.modes, strict=True):
        inside = tuple(at[i] for i in lane.udfs if i in at)
        if inside:
            lanes.append(replace(lane, udfs=inside))
            modes.append(mode)
    live = replace(plan.live, modes=tuple(modes), apart=tuple(plan.live.apart[i] for i in members))
    own = replace(plan, udfs=tuple(plan.udfs[i] for i in members), lanes=tuple(lanes), live=live)
    return Share(own, members)

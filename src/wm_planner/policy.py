"""The hook for a policy of one's own: what it proposes is searched around, and has to win on energy.

    planner.policies.append(my_policy)

So a policy can only make a plan better as the model sees it: a proposal that costs more than what
the search finds by itself is dropped (the idea of guided search with a learned proposal, as in
TD-MPC2, Hansen et al. 2024). Proposals take the place of random candidates, so they cost no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from wm_planner.errors import PlannerError
from wm_planner.goals import Goal


class ProposalPolicy(Protocol):
    """Proposes action sequences for the present frame."""

    def __call__(self, z: Tensor, state: Tensor, goal: Goal, horizon: int) -> Tensor:
        """Propose.

        Args:
            z: (1, D) latent of the present frame. state: (1, 2A) see ``WorldModel.proprioception``.
            goal: what is to be reached; goals about an object do not ask policies.
            horizon: H.

        Returns:
            (P, H, A) as shares of the action box; what lies outside box or limits is projected, and
            a proposal that is not finite is counted as a NaN cost and never chosen.
        """


def proposed(policies: Sequence[ProposalPolicy], z: Tensor, state: Tensor, goal: Goal, horizon: int) -> list[Tensor]:
    """What each policy proposes, (P, H, A) each.

    Raises:
        PlannerError: a policy answered with another shape.
    """
    joints = state.shape[-1] // 2
    found = [policy(z, state, goal, horizon).to(z) for policy in policies]
    for policy, proposals in zip(policies, found, strict=True):
        if proposals.ndim != 3 or proposals.shape[1:] != (horizon, joints):
            raise PlannerError(
                f"policy {getattr(policy, '__name__', type(policy).__name__)} proposed {tuple(proposals.shape)}; "
                f"expected (P, {horizon}, {joints}): proposals, periods, joints"
            )
    return found

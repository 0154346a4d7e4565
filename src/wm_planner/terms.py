"""The terms of an objective: small costs with one face, which can be added and averaged over time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from wm_planner.actions import ActionSpec
from wm_planner.posture import Forward
from wm_planner.world_model import Readout, WorldModel

Intrusion = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # (N, A) rad -> (N,) m too near
Uncertainty = Callable[[Tensor, Tensor, Tensor], Tensor]  # latents, states, actions (S, H, ...) -> (S, H)


@dataclass(frozen=True)
class Seen:
    """What terms judge: frames, seen or imagined; of imagined ones the shape (...) is (S, H).

    Attributes:
        model: reads the latents.
        latents: (..., D). states: (..., 2A), see ``WorldModel.proprioception``.
        references: (..., A) as ``WorldModel.scaled_joints`` gives them.
        start: (A,) rad, references before the actions. actions: (S, H, A) that led there, as shares of
            the action box. Both are missing where a frame was seen.
        drift: (H, A) rad that is taken off the imagined joints, see ``Planner.drift``; None: nothing.
    """

    model: WorldModel
    latents: Tensor
    states: Tensor
    references: Tensor
    start: Tensor | None = None
    actions: Tensor | None = None
    drift: Tensor | None = None

    @cached_property
    def raw(self) -> Tensor:
        """(..., R) readout in network units."""
        raw: Tensor = self.model.readout_head(self.latents)
        return raw

    @cached_property
    def readout(self) -> Readout:
        """The decoded scenes."""
        return self.model.split_readout(self.raw)

    @property
    def joints(self) -> Tensor:
        """(..., A) rad, the measured joints: not decoded but part of the state."""
        model = self.model
        joints = self.states[..., : len(model.joint_centre)] * model.joint_half_range + model.joint_centre
        return joints if self.drift is None else joints - self.drift

    @property
    def path(self) -> tuple[Tensor, Tensor]:
        """Start and actions of what was imagined."""
        if self.start is None or self.actions is None:
            raise ValueError("a frame that was seen has no actions; give this term to rollouts only")
        return self.start, self.actions


class Term(Protocol):
    """A cost: smaller is better."""

    def __call__(self, seen: Seen) -> Tensor:
        """Cost (...,) of each frame; of terms that judge whole rollouts (S,)."""


@dataclass(frozen=True)
class Sum:
    """All terms together; there has to be one at least."""

    terms: tuple[Term, ...]

    def __call__(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        return reduce(torch.add, (term(seen) for term in self.terms))


@dataclass(frozen=True)
class OverTime:
    """(S,) weighted mean over the frames of a rollout. weight: (H,), sums to one."""

    term: Term
    weight: Tensor

    def __call__(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        return self.term(seen) @ self.weight


@dataclass(frozen=True)
class HandDistance:
    """Of the decoded hand to a place (..., 3) m, in decimetres."""

    place: Tensor
    weight: float

    def __call__(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        return self.weight * 10 * soft_norm(seen.readout.hand - self.place)


@dataclass(frozen=True)
class JointDistance:
    """Of the decoded joints to joints (..., A) rad: mean."""

    joints: Tensor
    weight: float

    def __call__(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        return self.weight * (seen.readout.joints - self.joints).abs().mean(-1)


@dataclass(frozen=True)
class PostureDistance:
    """Of the joints that the model imagines to be measured to joints (A,) rad: mean."""

    joints: Tensor
    weight: float

    def __call__(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        return self.weight * (seen.joints - self.joints).abs().mean(-1)


@dataclass(frozen=True)
class ToolDistance:
    """Of the tool, placed by the robot's kinematics at the joints that the model imagines, to a pose.

    In decimetres, and in rad of turn (as twice the sine of half the angle). It has no slope.

    Attributes:
        position: (3,) m. rotation: (3, 3), None: free. weight: of the way, turn: of the turn.
    """

    forward: Forward
    position: Tensor
    rotation: Tensor | None
    weight: float
    turn: float

    def __call__(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        joints = seen.joints.detach()
        T = torch.from_numpy(self.forward(joints.double().reshape(-1, joints.shape[-1]).numpy())).float()
        cost = self.weight * 10 * soft_norm(T[:, :3, 3] - self.position)
        if self.rotation is not None:
            cost = cost + self.turn * (T[:, :3, :3] - self.rotation).square().sum((-2, -1)).div(2.0).sqrt()
        return cost.view(joints.shape[:-1])


@dataclass(frozen=True)
class LatentDistance:
    """Of the latent to a latent (..., D): "l1" mean absolute, "l2" mean square, "cosine" one less their cosine."""

    latent: Tensor
    weight: float
    kind: str = "l2"

    def __call__(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        if self.kind == "cosine":
            return self.weight * (1 - functional.cosine_similarity(seen.latents, self.latent, dim=-1))
        apart = seen.latents - self.latent
        return self.weight * (apart.abs() if self.kind == "l1" else apart.square()).mean(-1)


@dataclass(frozen=True)
class ObjectDistance:
    """Of the first decoded object to a place (2,) m in the table plane, in decimetres."""

    place: Tensor
    weight: float

    def __call__(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        return 10 * self.weight * soft_norm(seen.readout.objects[..., 0, :2] - self.place)


@dataclass(frozen=True)
class TimeLeft:
    """Periods that a demonstrator would still need to bring the object to a place (2,) m (``skill.ObjectSkill``)."""

    place: Tensor
    weight: float

    def __call__(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        model, here = seen.model, seen.readout.objects[..., 0, :2]
        periods = model.object_skill.periods(model.table_place(here), seen.references, model.table_place(self.place))
        return self.weight * periods


@dataclass(frozen=True)
class Effort:
    """(S,) how large the actions are, and how much they change: mean squares, as shares of the action box.

    Attributes:
        weight: of the actions. smoothness: of their changes.
    """

    weight: float
    smoothness: float

    def __call__(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        _, actions = seen.path
        change = (actions[:, 1:] - actions[:, :-1]).square().mean((1, 2))
        if self.weight == 0.0:
            return self.smoothness * change
        share = self.smoothness / self.weight
        return self.weight * (actions.square().mean((1, 2)) + (change if share == 1.0 else share * change))


@dataclass(frozen=True)
class Intruding:
    """(S,) how deep the references reach into what has to be kept free, in decimetres.

    The mean over every second posture; it has no slope, so a gradient search does not see it.
    """

    depth: Intrusion
    actions: ActionSpec
    weight: float

    def __call__(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        some = self.actions.references(*seen.path)[:, 1::2]
        deep = self.depth(some.detach().flatten(0, 1).double().numpy())
        return self.weight * 10.0 * torch.from_numpy(deep).float().view(some.shape[:2]).mean(1)


@dataclass(frozen=True)
class Uncertain:
    """What the model does not know of the frames it imagines: ``estimate`` in its own unit, (S, H)."""

    estimate: Uncertainty
    weight: float

    def __call__(self, seen: Seen) -> Tensor:
        """See ``Term``."""
        _, actions = seen.path
        return self.weight * self.estimate(seen.latents, seen.states, actions)


def soft_norm(x: Tensor, rounding: float = 0.003) -> Tensor:
    """Euclidean length of the last axis, rounded off within ``rounding`` metres of zero."""
    return (x.square().sum(-1) + rounding**2).sqrt() - rounding

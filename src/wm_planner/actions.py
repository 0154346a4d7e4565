"""Action spaces: names, units, bounds and spread of what the planner may ask for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wm_planner.config import EFFECTOR_NAMES, ModelConfig, PlannerConfig
from wm_planner.errors import PlannerError
from wm_planner.vjepa.pose import euler, matrix

XYZ, TURN = slice(0, 3), slice(3, 6)


@dataclass(frozen=True)
class ActionSpec:
    """Changes per control period, searched as shares of the action box.

    Every optimiser takes bounds, deviations and momentum per dimension from here.

    Attributes:
        names, units: (D,) of the dimensions. frame: in which they are changes; "joints", or the name of a frame.
        scale: (D,) largest change per period.
        lower, upper: (D,) limits of what the changes lead to; infinite where there is none.
        period_s: control period.
        spread: (D,) factor on every deviation and step of the search; 0: not searched. None: 1 for all.
        momentum: (D,) share of the old distribution in the next one (of the old slope in gradient descent).
            None: what the optimiser has by itself.
        R_base_frame: (3, 3) turns end-effector actions into the robot's base frame; None: they are in it.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    frame: str
    scale: Tensor
    lower: Tensor
    upper: Tensor
    period_s: float
    spread: Tensor | None = None
    momentum: Tensor | None = None
    R_base_frame: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        for name in ("units", "scale", "lower", "upper", "spread", "momentum"):
            value = getattr(self, name)
            if value is not None and len(value) != count:
                raise PlannerError(f"action space {self.names}: {name} has {len(value)} entries, expected {count}")
        if not bool((self.scale > 0).all() and self.scale.isfinite().all()):
            raise PlannerError(f"action space {self.names}: every scale must be positive and finite, got {self.scale.tolist()}")
        spread, momentum = self.deviation_factor, self.momentum
        if not bool(((spread >= 0) & spread.isfinite()).all()) or not bool((spread > 0).any()):
            raise PlannerError(f"action space {self.names}: spread must be finite, >= 0 and somewhere above 0, got {spread.tolist()}")
        if momentum is not None and not bool(((momentum >= 0) & (momentum < 1)).all()):
            raise PlannerError(f"action space {self.names}: momentum must be in 0..1, below 1, got {momentum.tolist()}")
        turn = self.R_base_frame
        if turn is not None and not (
            turn.shape == (3, 3) and torch.allclose(turn @ turn.mT, torch.eye(3).to(turn), atol=1e-4) and float(turn.det()) > 0
        ):
            raise PlannerError(f"action space {self.frame}: R_base_frame must be a rotation (3, 3), got {turn.tolist()}")

    @classmethod
    def from_model(cls, config: ModelConfig) -> ActionSpec:
        """The joint space that a compact model was trained in."""
        return cls(
            config.joint_names,
            ("rad",) * config.action_dim,
            "joints",
            torch.tensor(config.action_scale),
            torch.tensor(config.lower),
            torch.tensor(config.upper),
            config.period_s,
        )

    @classmethod
    def shares(cls, count: int, period_s: float = 0.1) -> ActionSpec:
        """``count`` numbers in [-1, 1] without meaning."""
        one = torch.ones(count)
        return cls(tuple(f"a{k}" for k in range(count)), ("",) * count, "none", one, -torch.inf * one, torch.inf * one, period_s)

    @classmethod
    def end_effector(cls, config: PlannerConfig, period_s: float, frame: str = "base_link") -> ActionSpec:
        """Changes of the end effector's pose as in V-JEPA 2-AC and DROID: xyz [m], xyz-Euler angles [rad], gripper.

        Rotation and gripper are searched only where ``config`` says so, as in the public planner.
        """
        three = torch.ones(3)
        searched = torch.cat([three, three * config.search_rotation, three[:1] * config.search_gripper])
        limit = torch.full((7,), torch.inf)
        return cls(
            EFFECTOR_NAMES,
            ("m",) * 3 + ("rad",) * 3 + ("",),
            frame,
            torch.tensor([config.box_m] * 3 + [config.box_rad] * 3 + [config.box_gripper]),
            -limit,
            limit,
            period_s,
            spread=searched if not bool(searched.all()) else None,
            momentum=torch.tensor(config.effector_momentum) if config.effector_momentum else None,
            R_base_frame=torch.tensor(config.R_base_action).view(3, 3) if config.R_base_action else None,
        )

    @property
    def deviation_factor(self) -> Tensor:
        """(D,) ``spread``, or ones."""
        return torch.ones(len(self.names)) if self.spread is None else self.spread

    def references(self, start: Tensor, actions: Tensor) -> Tensor:
        """(..., H, D) what actions (shares of the box) lead to from ``start`` (D,), kept inside the limits."""
        path = start + (actions.clamp(-1, 1) * self.scale).cumsum(-2)
        return path.clamp(self.lower, self.upper)

    def project(self, start: Tensor, actions: Tensor) -> Tensor:
        """Actions (..., H, D) changed as little as needed to keep box and limits, and 0 where nothing is searched.

        Clamping the path never lengthens a step, so the result stays inside the box.
        """
        if self.spread is not None:
            actions = actions * (self.spread > 0)
        if not bool(self.lower.isfinite().any() or self.upper.isfinite().any()):
            return actions.clamp(-1, 1)
        path = self.references(start, actions)
        previous = torch.cat([start.expand_as(path[..., :1, :]), path[..., :-1, :]], dim=-2)
        return (path - previous) / self.scale

    def in_base(self, actions: Tensor) -> Tensor:
        """End-effector changes (..., 7) [m, rad] of this frame, in the base frame."""
        return actions if self.R_base_frame is None else turned(actions, self.R_base_frame)

    def from_base(self, moves: Tensor) -> Tensor:
        """End-effector changes (..., 7) [m, rad] of the base frame, in this frame; inverse of ``in_base``."""
        return moves if self.R_base_frame is None else turned(moves, self.R_base_frame.mT)


def turned(actions: Tensor, rotation: Tensor) -> Tensor:
    """End-effector changes (..., 7) seen from axes turned by ``rotation`` (3, 3): x' = R x, dR' = R dR R^T."""
    R = rotation.to(actions)
    turn = euler(R @ matrix(actions[..., TURN]) @ R.mT)
    return torch.cat([actions[..., XYZ] @ R.mT, turn, actions[..., 6:]], dim=-1)

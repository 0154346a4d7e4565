"""Planning with an action-conditioned V-JEPA predictor: the face of ``mpc.Planner``, the model of Assran et al. 2025.

The model knows end-effector poses and their changes (or joints, when it was trained on them). The pose of the present frame
is that of the measured joints; candidates become joints by differential inverse kinematics, and what is imagined is the
motion that the joints can really make.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wm_planner.actions import ActionSpec
from wm_planner.config import PlannerConfig
from wm_planner.effector import EffectorSpace, make_space
from wm_planner.errors import PlannerError
from wm_planner.plan import Plan
from wm_planner.posture import Forward
from wm_planner.precision import search_dtype, usable
from wm_planner.preprocess import check_picture, square_resize
from wm_planner.search.choose import make_optimiser
from wm_planner.search.trial import Cost
from wm_planner.terms import Intrusion
from wm_planner.trust.kinds import kind_of
from wm_planner.trust.watch import Judgement, Watch
from wm_planner.vjepa import store
from wm_planner.vjepa.encoders import FrameEncoder, load_encoder, to_pictures
from wm_planner.vjepa.energy import Energy, token_weight, weighed
from wm_planner.vjepa.foresight import ACForesight
from wm_planner.vjepa.pose import difference, integrate, integrate_joints
from wm_planner.vjepa.predictor import ACPredictor
from wm_planner.weights import weights_hash

FloatArray = NDArray[np.float64]
Image = NDArray[np.uint8]
MOST_COMMITTED = 5  # periods that pass before a plan is followed, at most
WATCHED_SIDE = 96  # pixels, of the picture that trust is judged by
POSE = 7
PICTURES_ONLY = "a V-JEPA 2-AC takes goal pictures; show it one, or plan joints and poses with the compact model"


@dataclass(frozen=True)
class LatentGoal:
    """An encoded goal picture: latent (N, D), layer-normed; weight (N,) of its tokens, None: all alike."""

    latent: Tensor
    weight: Tensor | None = None
    target: str = "hand"


@dataclass(frozen=True)
class Start:
    """Where a plan begins.

    latent (N, D); state (P,) of the model; committed (K, D) its actions that come before the plan; reference (A,) rad
    from which the plan's own actions count.
    """

    latent: Tensor
    state: Tensor
    committed: Tensor
    reference: Tensor


class ACPlanner:
    """Goal picture in, joint references out, as ``mpc.Planner``; see there for what is not said here.

    It decodes no distances: they are NaN in its plans, and ``goal_energy`` says how near the goal is. The search goes by the
    plain energy of the last imagined frame, so ``config.weight_action`` has to be small beside the energy's differences.

    Args:
        predictor, encoder: of one embedding, on one device; all else stays on the CPU. config: of the search; its action_space is taken from ``on_joints``.
        joints: the robot's joints and their box per period of the model.
        on_joints: the predictor was trained on joint references and their changes.
        dtype: of the search; the elites are scored again in float32.

    Attributes:
        space: of the candidates; ``space.effector`` has to be set for a model of end-effector poses.
        gripper: 0..1, measured opening; stays 0 where there is none.
    """

    def __init__(
        self,
        predictor: ACPredictor,
        encoder: FrameEncoder,
        config: PlannerConfig,
        joints: ActionSpec,
        on_joints: bool = False,
        seed: int = 0,
        name: str = "",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        shape, size = predictor.config, len(joints.names) if on_joints else POSE
        if (shape.action_dim, shape.state_dim) != (size, size):
            raise PlannerError(
                f"the predictor takes {shape.action_dim} action and {shape.state_dim} state numbers, expected {size} of "
                f"{'these joints' if on_joints else 'an end-effector pose'}; name the checkpoint of this robot"
            )
        if (encoder.grid, encoder.embed_dim) != (shape.grid, shape.embed_dim):
            raise PlannerError(
                f"the encoder gives {encoder.grid} x {encoder.grid} tokens of {encoder.embed_dim}, the predictor takes "
                f"{shape.grid} x {shape.grid} of {shape.embed_dim}; name the encoder that it was trained on"
            )
        if config.optimiser == "gradient":
            raise PlannerError("the cached rollouts of a V-JEPA predictor have no gradient; choose icem, cem or mppi")
        self.config = dataclasses.replace(config, action_space="joints" if on_joints else "end_effector")
        self.encoder, self.name, self.actions, self.period_s = encoder, name, joints, shape.period_s
        self.space = make_space(self.config, joints)
        self.search = make_optimiser(self.config, self.space.spec, seed)
        self.energy = Energy(predictor, config.horizon + MOST_COMMITTED, integrate_joints if on_joints else integrate, dtype)
        self._device = predictor.predictor_embed.weight.device
        self.goal: LatentGoal | None = None
        self.intrusion: Intrusion | None = None
        self.forward: Forward | None = None
        self.watch = Watch(ACForesight(len(joints.names), lambda: self.energy, self._state, self._moves))
        self.gripper = 0.0
        self._finish_s = 0.0

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        config: PlannerConfig,
        names: Sequence[str],
        limits: tuple[FloatArray, FloatArray, FloatArray],
        encoder: Path | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> ACPlanner:
        """Read an imported or trained predictor.

        Args:
            names: (A,) the robot's planned joints. limits: (A,) lower, upper [rad] and speed [rad/s].
            encoder: file or folder; None: the checkpoint holds it.
            device: of encoder and predictor, as in "cuda:1"; searched in bfloat16 where it has that.
        """
        place = usable(device)
        header = store.read_header(checkpoint)
        trained_on = header.card.get("joint_names")
        on_joints = trained_on is not None and header.card.get("actions", "joints") == "joints"
        if on_joints and list(names) != list(trained_on or ()):
            raise PlannerError(f"{checkpoint} was trained on the joints {trained_on}, not {list(names)}; name its robot")
        predictor = store.load_predictor(checkpoint).to(place)
        lower, upper, speed = (torch.from_numpy(np.asarray(limit, np.float32)) for limit in limits)
        period_s = predictor.config.period_s
        joints = ActionSpec(tuple(names), ("rad",) * len(names), "joints", speed * period_s, lower, upper, period_s)
        eyes = load_encoder(encoder or checkpoint)
        if isinstance(eyes, nn.Module):
            eyes.eval().requires_grad_(False).to(place)
        name = "+".join(weights_hash(path) for path in (checkpoint, encoder) if path is not None)
        return cls(predictor, eyes, config, joints, on_joints, seed, name, search_dtype(place))

    @property
    def joint_names(self) -> tuple[str, ...]:
        """(A,) controlled joints."""
        return self.actions.names

    @property
    def targets(self) -> tuple[str, ...]:
        """As of ``mpc.Planner``."""
        return ("hand",)

    @torch.no_grad()
    def encode_goal(self, image: Image, target: str = "hand", mask: Image | None = None) -> LatentGoal:
        """Encode a (H, W, 3) uint8 RGB goal picture; mask (H, W) uint8: what is not zero counts, by patches."""
        if target != "hand":
            raise PlannerError("a V-JEPA 2-AC matches pictures; give a goal picture with the target hand")
        if mask is not None and (mask.dtype != np.uint8 or mask.shape != image.shape[:2]):
            raise PlannerError(f"the mask must be uint8 of the goal picture's size {image.shape[:2]}, got {mask.dtype} {mask.shape}")
        return LatentGoal(self._encode(image), None if mask is None else token_weight(mask, self.encoder.grid))

    def joints_goal(self, joints: Mapping[str, float]) -> LatentGoal:
        """Refused: the model imagines pictures."""
        raise PlannerError(PICTURES_ONLY)

    def pose_goal(self, position: FloatArray, rotation: FloatArray | None = None) -> LatentGoal:
        """Refused: the model imagines pictures."""
        raise PlannerError(PICTURES_ONLY)

    def set_goal(self, goal: LatentGoal) -> None:
        """Plan toward ``goal`` from now on."""
        self.goal = goal
        self.watch.pursue(kind_of(goal.target))
        self.reset()

    def reset(self) -> None:
        """Forget the last plan, and what was seen."""
        self.search.reset()
        self.watch.reset()

    @torch.no_grad()
    def plan(
        self,
        image: Image,
        position: FloatArray,
        reference: FloatArray,
        deadline_s: float | None = None,
        periods: int = 1,
        committed: FloatArray | None = None,
    ) -> Plan:
        """Plan from the present frame; arguments, deadline and errors as of ``mpc.Planner.plan``."""
        started = time.monotonic()
        goal = self._goal()
        start = self._start(image, position, reference, committed)
        trust = self._judge(image, start.latent, position, reference, periods)
        cost = self._cost(start, goal)
        encoded = time.monotonic()
        self.search.shift(periods)
        deadline = started + deadline_s - self._finish_s if deadline_s else None
        rest = torch.zeros(1, self.config.horizon, len(self.space.spec.names))
        found = self.search.search(cost, lambda a: self.space.project(start.reference, a), rest, 1.0, deadline)
        searched = time.monotonic()
        chosen = torch.cat([found.best[None], found.elites])
        costs = torch.cat([torch.tensor([found.cost]), found.elite_costs])
        if self.energy.fast is not self.energy.exact:  # the cheapest of these in float32 leads
            costs = self._cost(start, goal, exact=True)(chosen)
            first = int(costs.nan_to_num(math.inf).argmin())
            chosen, costs = torch.cat([chosen[first : first + 1], chosen[1:]]), torch.cat([costs[first : first + 1], costs[1:]])
        references = self.actions.references(start.reference, self.space.joints(start.reference, chosen))
        hands = self._hands(references)
        finished = time.monotonic()
        self._finish_s = finished - searched
        path = references[0].double().numpy()
        return Plan(
            references=path,
            actions=np.diff(path, axis=0, prepend=start.reference[None].double().numpy()),
            energy=float(costs[0]),
            energy_per_iteration=found.cost_per_iteration,
            goal_energy=float(weighed((start.latent - goal.latent).abs(), goal.weight).mean()),
            distance_m=math.nan,
            object_distance_m=math.nan,
            joint_distance_rad=math.nan,
            angle_rad=0.0,
            elite_references=references[1:].double().numpy(),
            elite_energies=costs[1:].double().numpy(),
            predicted_hand=hands[0],
            goal_hand=np.full(3, math.nan),
            elite_hands=hands[1:],
            samples=found.samples,
            iterations=found.iterations,
            nan_costs=found.nan_costs,
            deadline_met=not deadline_s or finished - started <= deadline_s,
            trust=trust.trust,
            trust_score=trust.score,
            trust_state=int(trust.state),
            trust_cause=trust.cause,
            preprocess_s=0.0,
            encode_s=encoded - started,
            optimise_s=finished - encoded,
        )

    @torch.no_grad()
    def witness(self, image: Image, position: FloatArray, reference: FloatArray, periods: int = 1) -> Judgement:
        """Judge a step as ``plan`` does, without a plan."""
        return self._judge(image, self._encode(image), position, reference, periods)

    def _judge(self, image: Image, latent: Tensor, position: FloatArray, reference: FloatArray, periods: int) -> Judgement:
        measured, sent = self._joints(position, "position"), self._joints(reference, "reference")
        return self.watch.judge(square_resize(image, WATCHED_SIDE), latent, measured, sent, periods)

    @torch.no_grad()
    def energies(self, image: Image, position: FloatArray, reference: FloatArray, candidates: Tensor) -> Tensor:
        """(S,) energies that the search gives to candidates (S, H, D), shares of the box."""
        return self._cost(self._start(image, position, reference), self._goal())(candidates)

    @torch.no_grad()
    def mismatch(
        self, image: Image, position: FloatArray, reference: FloatArray, after: Image
    ) -> Cost:
        """How far (S,) from the picture ``after`` candidates (S, H, D) lead in imagination, and nothing else."""
        start, seen = self._start(image, position, reference), LatentGoal(self._encode(after))

        def cost(candidates: Tensor) -> Tensor:
            self._observe(start, seen)
            return self.energy(self._imagined(start, candidates))

        return cost

    @torch.no_grad()
    def apart(self, one: Image, other: Image) -> float:
        """Energy of one picture when the other is the goal."""
        return float((self._encode(one) - self._encode(other)).abs().mean())

    def _cost(self, start: Start, goal: LatentGoal, exact: bool = False) -> Cost:
        self._observe(start, goal)
        energy = self.energy.exactly if exact else self.energy
        weight = self.config.weight_action

        def cost(candidates: Tensor) -> Tensor:
            costs = energy(self._imagined(start, candidates))
            if weight:
                costs = costs + weight * candidates.square().mean((1, 2))
            if self.intrusion is not None:
                shares = self.space.joints(start.reference, candidates)
                path = self.actions.references(start.reference, shares)
                deep = self.intrusion(path.flatten(0, 1).double().numpy())
                costs = costs + self.config.weight_intrusion * 10.0 * torch.from_numpy(deep).float().view(path.shape[:2]).mean(1)
            return costs

        return cost

    def _observe(self, start: Start, goal: LatentGoal) -> None:
        weight = {} if goal.weight is None else {"weight": goal.weight}
        self.energy.observe(start.latent[None], start.state[None], goal.latent, **weight)

    def _imagined(self, start: Start, candidates: Tensor) -> Tensor:
        """(S, K + H, D) actions of the model: what is committed, then what the joints make of the candidates."""
        shares = self.space.joints(start.reference, candidates)
        if isinstance(self.space, EffectorSpace):
            begin = start.reference.expand_as(shares[:, :1])
            path = torch.cat([begin, self.actions.references(start.reference, shares)], dim=1)
            moves = self._moves(path)
            moves[..., 6] = candidates[..., 6] * self.space.spec.scale[6]
        else:
            moves = shares * self.actions.scale
        return torch.cat([start.committed.expand(len(moves), -1, -1), moves], dim=1)

    def _moves(self, path: Tensor) -> Tensor:
        """(..., N, P) the model's actions along joints (..., N + 1, A)."""
        if not isinstance(self.space, EffectorSpace):
            return torch.diff(path, dim=-2)
        poses = self.space.poses(path)
        return self.space.spec.from_base(difference(poses[..., :-1, :], poses[..., 1:, :]))

    def _state(self, measured: Tensor, sent: Tensor) -> Tensor:
        """(P,) the model's state."""
        if not isinstance(self.space, EffectorSpace):
            return sent
        state = self.space.poses(measured)
        state[6] = self.gripper
        return state

    def _start(self, image: Image, position: FloatArray, reference: FloatArray, committed: FloatArray | None = None) -> Start:
        measured, sent = self._joints(position, "position"), self._joints(reference, "reference")
        ahead = [self._joints(row, "committed") for row in committed] if committed is not None else []
        if len(ahead) > MOST_COMMITTED:
            raise PlannerError(f"{len(ahead)} committed periods are more than {MOST_COMMITTED}")
        path = torch.stack([sent, *ahead])
        state = self._state(measured, sent)
        before = self._moves(path) if ahead else torch.empty(0, len(state))
        return Start(self._encode(image), state, before, path[-1])

    def _hands(self, references: Tensor) -> FloatArray:
        """(..., H, 3) tool positions at references, NaN where the kinematics are not known."""
        if isinstance(self.space, EffectorSpace):
            return self.space.kinematics.frames(references.double().numpy())[..., :3, 3]
        return np.full((*references.shape[:-1], 3), math.nan)

    def _encode(self, image: Image) -> Tensor:
        check_picture(image)
        return self.encoder(to_pictures(image, self.encoder.image_size).to(self._device))[0].cpu()

    def _goal(self) -> LatentGoal:
        if self.goal is None:
            raise PlannerError("no goal: call set_goal(encode_goal(picture)) first")
        return self.goal

    def _joints(self, values: FloatArray, name: str) -> Tensor:
        array = np.asarray(values, dtype=np.float32)
        if array.shape != (len(self.joint_names),) or not np.isfinite(array).all():
            raise PlannerError(f"{name} must hold finite numbers for the {len(self.joint_names)} joints {self.joint_names}, got {array}")
        return torch.from_numpy(array)

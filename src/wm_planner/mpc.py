"""The planner: look, imagine, choose, act a little, look again."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wm_planner.actions import ActionSpec
from wm_planner.config import PlannerConfig
from wm_planner.effector import JointSpace, Space, make_space
from wm_planner.errors import PlannerError
from wm_planner.gap import gap_to
from wm_planner.goals import (
    AnyGoal,
    CertainGoal,
    Goal,
    JointsGoal,
    MaskedGoal,
    PoseGoal,
    check_target,
    checked_picture,
    joints_goal,
    known_targets,
    masked_goal,
    picture_goal,
)
from wm_planner.imagine import Imagination, Remembered, through_model
from wm_planner.objective import frame_energy, rollout_energy
from wm_planner.plan import FloatArray, Plan, Situation
from wm_planner.policy import ProposalPolicy, proposed
from wm_planner.pose_goals import aimed, pose_goal
from wm_planner.posture import Forward
from wm_planner.preprocess import to_tensor
from wm_planner.proposals import arm_proposals, object_ways
from wm_planner.search.choose import make_optimiser
from wm_planner.search.trial import Cost, cheapest
from wm_planner.terms import Intrusion, Seen, Term, Uncertainty
from wm_planner.trust.foresight import MOST_PERIODS, CompactForesight
from wm_planner.trust.kinds import kind_of
from wm_planner.trust.watch import Judgement, Watch
from wm_planner.weights import load_model, weights_hash
from wm_planner.world_model import WorldModel

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")


def without_gradients(method: Callable[Concatenate[Planner, Inputs], Output]) -> Callable[Concatenate[Planner, Inputs], Output]:
    """Run a method in inference mode, or merely without gradients when the search differentiates by itself."""

    @functools.wraps(method)
    def run(self: Planner, /, *args: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
        with torch.no_grad(), torch.inference_mode(not self.search.differentiates):
            return method(self, *args, **kwargs)

    return run


class Planner:
    """Goal picture in, joint references out: the cheapest imagined future, again at every frame.

    The hand is brought to its goal by search (``search``) around prior and last plan, and around
    what ``policies`` propose, which wins only on energy. For an object
    the futures are those of its skill's likely ways, chosen among by the same energy: a search
    around them leaves what the skill knows for errors of the model (``./wm bench push``).

    What the safety filter would refuse is better not searched for: ``intrusion`` tells of postures
    (N, A) rad how deep (N,) m they reach into a distance that has to be kept, which costs energy.
    The skill's ways are not judged by it: their teacher kept the distances. ``uncertainty`` tells of
    imagined frames how little the model knows them; it counts with ``weight_uncertainty``. ``forward``
    places the tool, which goals that are poses need: postures (N, A) rad to frames (N, 4, 4), base frame.

    Not thread-safe; owns its random generator, so the same seed and inputs give the same plans.
    """

    def __init__(self, model: WorldModel, config: PlannerConfig, seed: int = 0, name: str = "") -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self.model = model.eval().requires_grad_(False)
        self.model.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config, self.name = config, name
        self.actions = ActionSpec.from_model(model.config)
        self.space = make_space(config, self.actions)
        self.imagine = Imagination(self.model, max(config.horizon, MOST_PERIODS))
        self.search = make_optimiser(config, self.space.spec, seed)
        self.policies: list[ProposalPolicy] = []
        self.goal: AnyGoal | None = None
        self.intrusion: Intrusion | None = None
        self.uncertainty: Uncertainty | None = None
        self.forward: Forward | None = None
        self._finish_s = 0.0
        self.watch = Watch(CompactForesight(self.model, self.imagine, lambda: self.uncertainty))

    @classmethod
    def load(cls, checkpoint: Path | str, config: PlannerConfig | None = None, seed: int = 0) -> Planner:
        """Read a checkpoint; see ``weights.load_model`` for the errors."""
        model, _ = load_model(Path(checkpoint))
        return cls(model, config or PlannerConfig(), seed, weights_hash(Path(checkpoint)))

    @property
    def joint_names(self) -> tuple[str, ...]:
        """(A,) controlled joints, the order of every action."""
        return self.model.config.joint_names

    @property
    def period_s(self) -> float:
        """Control period of one action."""
        return self.model.config.period_s

    @property
    def targets(self) -> tuple[str, ...]:
        """What this model can bring to where a picture shows it."""
        return known_targets(self.model.config)

    @without_gradients
    def encode_goal(
        self, image: NDArray[np.uint8], target: str = "hand", mask: NDArray[np.uint8] | None = None
    ) -> Goal | MaskedGoal:
        """Embed a (H, W, 3) uint8 RGB goal picture from the planner's camera.

        Args:
            image: the goal picture.
            target: "hand" or "object": what has to be where the picture shows it.
            mask: (H, W) uint8, what is not zero counts; see ``goals.MaskedGoal``. None: all of it.

        Raises:
            PlannerError: not a picture, a mask that does not fit, a target that the model does not know.
        """
        check_target(self.model.config, target)
        small = checked_picture(image, self.model.config.image_size)
        if mask is not None:
            return masked_goal(image, mask, self.model.config.image_size, target)
        return picture_goal(self.model, small, target)

    def joints_goal(self, joints: Mapping[str, float]) -> JointsGoal:
        """A goal for planned joints by name, rad; the others stay where they are. Errors: ``goals.joints_goal``."""
        return joints_goal(self.model.config, joints)

    def pose_goal(self, position: FloatArray, rotation: FloatArray | None = None) -> PoseGoal:
        """A goal for the tool, base frame: (3,) m, and (3, 3) ``R_base_tool``, None: free. Errors: ``pose_goals.pose_goal``."""
        if self.search.differentiates and self.forward is not None:
            raise PlannerError("a pose has no slope that the gradient search could follow; choose the optimiser icem")
        return pose_goal(self.forward, self.actions, position, rotation)

    def set_goal(self, goal: AnyGoal) -> None:
        """Plan toward ``goal`` from now on."""
        self.goal = goal
        self.watch.pursue(kind_of(goal.target))
        self.reset()

    def reset(self) -> None:
        """Forget the last plan, and what was seen."""
        self.search.reset()
        self.watch.reset()

    @without_gradients
    def plan(
        self,
        image: NDArray[np.uint8],
        position: FloatArray,
        reference: FloatArray,
        deadline_s: float | None = None,
        periods: int = 1,
        committed: FloatArray | None = None,
    ) -> Plan:
        """Plan from the present frame, or from what it will have become.

        Args:
            image: (H, W, 3) uint8 RGB.
            position: (A,) measured joints, rad; reference: (A,) references last sent, rad.
            deadline_s: time budget of this call; the best plan so far is returned within it, or, where
                the first iteration ends later than that, after the first iteration.
            periods: control periods since the last call: shifts the warm start, and trust is judged over them.
            committed: (K, A) rad, K <= horizon: what will have been sent after each of the periods that pass
                before this plan can take effect. They are imagined, and the plan goes on from there.

        Raises:
            PlannerError: no goal, wrong picture, wrong or non-finite joints.
        """
        if self.goal is None:
            raise PlannerError("no goal: call set_goal(encode_goal(picture)) first")
        started = time.monotonic()
        small = checked_picture(image, self.model.config.image_size)
        sent_now, measured = self._joints(reference, "reference"), self._joints(position, "position")
        prepared = time.monotonic()
        z = self._encode(small)
        read = self.model.read(z[0])
        goal = self._certain(self.goal, small, measured)
        gap = gap_to(goal, read, measured, self.forward)
        trust = self.watch.judge(small, z[0], measured, sent_now, periods)
        encoded = time.monotonic()

        here = Situation(z, self.model.proprioception(measured, sent_now)[None], measured, sent_now)
        there = self._later(here, committed)
        frame = frame_energy(goal, self.config, self.forward)
        space = JointSpace(self.actions) if goal.target == "object" else self.space  # the object skill moves joints
        imagined = Remembered()
        cost = self._cost(there, goal, frame, space, imagined)

        def project(candidates: Tensor) -> Tensor:
            return space.project(there.reference, candidates)

        parts = self.model, self.config, self.actions
        if isinstance(goal, Goal) and goal.target == "object":
            found, sent = cheapest(cost, project, object_ways(*parts, self.imagine, there, goal)), self.config.skill_hold
        else:
            far = max(np.nan_to_num(gap.hand_m) / self.config.distance_scale_m, gap.angle_rad / self.config.distance_scale_rad)
            noise = min(1.0, max(self.config.smallest_noise, far))
            self.search.shift(periods)
            deadline = started + deadline_s - self._finish_s if deadline_s else None
            more = proposed(self.policies, there.z, there.state, goal, self.config.horizon) if isinstance(goal, Goal) else []
            proposals = space.actions(there.reference, torch.cat([arm_proposals(*parts, there, goal), *more]))
            found, sent = self.search.search(cost, project, proposals, noise, deadline), self.config.horizon
        searched = time.monotonic()
        best = torch.cat([found.best[None], found.elites])
        chosen = space.joints(there.reference, best)
        latents = imagined.latents(best)
        if latents is None:  # rest, where no candidate had a finite cost
            latents, _ = self.imagine(there.z, there.state, space.imagined(there.reference, best, chosen))
        hands = self.model.read(latents).hand
        references = self.actions.references(there.reference, chosen)
        finished = time.monotonic()
        self._finish_s = finished - searched
        return Plan(
            references=references[0, :sent].double().numpy(),
            actions=(chosen[0, :sent] * self.actions.scale).double().numpy(),
            energy=found.cost,
            energy_per_iteration=found.cost_per_iteration,
            goal_energy=float(frame(Seen(self.model, z[0], here.state[0], self.model.scaled_joints(sent_now)))),
            distance_m=gap.hand_m,
            object_distance_m=gap.object_m,
            joint_distance_rad=gap.joints_rad,
            angle_rad=gap.angle_rad,
            elite_references=references[1:].double().numpy(),
            elite_energies=found.elite_costs.double().numpy(),
            predicted_hand=hands[0].double().numpy(),
            goal_hand=gap.hand,
            elite_hands=hands[1:].double().numpy(),
            samples=found.samples,
            iterations=found.iterations,
            nan_costs=found.nan_costs,
            deadline_met=not deadline_s or finished - started <= deadline_s,
            goal_trust=goal.trust,
            trust=trust.trust,
            trust_score=trust.score,
            trust_state=int(trust.state),
            trust_cause=trust.cause,
            preprocess_s=prepared - started,
            encode_s=encoded - prepared,
            optimise_s=finished - encoded,
        )

    @torch.inference_mode()
    def witness(self, image: NDArray[np.uint8], position: FloatArray, reference: FloatArray, periods: int = 1) -> Judgement:
        """Judge a step as ``plan`` does, without a plan; arguments and errors as there."""
        small = checked_picture(image, self.model.config.image_size)
        measured, sent = self._joints(position, "position"), self._joints(reference, "reference")
        return self.watch.judge(small, self._encode(small)[0], measured, sent, periods)

    @torch.inference_mode()
    def propose(
        self, image: NDArray[np.uint8], position: FloatArray, reference: FloatArray, goal: Goal
    ) -> FloatArray:
        """(N, A) actions of prior or object skill alone, as shares of the box: no search."""
        z = self._encode(checked_picture(image, self.model.config.image_size))
        start, measured = self._joints(reference, "reference"), self._joints(position, "position")
        state = self.model.proprioception(measured, start)[None]
        if goal.target == "object":
            here = self.model.table_place(self.model.read(z).objects[..., 0, :])
            there = self.model.table_place(goal.readout.objects[0])
            action = self.model.object_skill.action(here, self.model.scaled_joints(start)[None], there)
            return action.repeat(self.config.skill_hold, 1).double().numpy()
        return self.model.propose(z, state, goal.latent[None])[0].double().numpy()

    def _later(self, here: Situation, committed: FloatArray | None) -> Situation:
        """The situation after what is ``committed`` (K, A)."""
        if committed is None or not len(committed):
            return here
        if len(committed) > self.config.horizon:
            raise PlannerError(f"{len(committed)} committed periods are more than the horizon of {self.config.horizon}")
        ahead = torch.stack([self._joints(row, "committed") for row in committed])
        actions = torch.diff(ahead, dim=0, prepend=here.reference[None]) / self.actions.scale
        latents, states = self.imagine(here.z, here.state, actions[None])
        z, state = latents[:, -1], states[:, -1]
        position = state[0, : len(self.joint_names)] * self.model.joint_half_range + self.model.joint_centre
        return Situation(z, state, position, ahead[-1])

    @without_gradients
    def energies(self, image: NDArray[np.uint8], position: FloatArray, reference: FloatArray, candidates: Tensor) -> Tensor:
        """(S,) energies that a search for a goal of the arm gives to candidates (S, H, D), as shares of their box."""
        if self.goal is None:
            raise PlannerError("no goal: call set_goal(encode_goal(picture)) first")
        here = self._situation(image, position, reference)
        goal = self._certain(self.goal, checked_picture(image, self.model.config.image_size), here.position)
        return self._cost(here, goal, frame_energy(goal, self.config, self.forward), self.space)(candidates)

    @without_gradients
    def mismatch(self, image: NDArray[np.uint8], position: FloatArray, reference: FloatArray, after: NDArray[np.uint8]) -> Cost:
        """How far (S,) from the picture ``after`` candidates (S, H, D) lead in imagination: mean square of the latents."""
        here = self._situation(image, position, reference)
        seen = self._encode(checked_picture(after, self.model.config.image_size))

        def cost(candidates: Tensor) -> Tensor:
            moves = self.space.joints(here.reference, candidates)
            latents, _ = self.imagine(here.z, here.state, self.space.imagined(here.reference, candidates, moves))
            return (latents[:, -1] - seen).square().mean(-1)

        return cost

    def _situation(self, image: NDArray[np.uint8], position: FloatArray, reference: FloatArray) -> Situation:
        measured, sent = self._joints(position, "position"), self._joints(reference, "reference")
        z = self._encode(checked_picture(image, self.model.config.image_size))
        return Situation(z, self.model.proprioception(measured, sent)[None], measured, sent)

    def _cost(self, there: Situation, goal: CertainGoal, frame: Term, space: Space, imagined: Remembered | None = None) -> Cost:
        """Energy of candidates: of the frames that the model imagines, which are ``imagined`` then, and of the way that the joints are sent."""
        imagine = through_model(self.model) if self.search.differentiates else self.imagine
        intrusion = None if goal.target == "object" else self.intrusion
        drift = None if isinstance(goal, Goal) else self.drift(there)
        energy = rollout_energy(frame, self.config, self.actions, intrusion, self.uncertainty)

        def cost(candidates: Tensor) -> Tensor:
            moves = space.joints(there.reference, candidates)
            latents, states = imagine(there.z, there.state, space.imagined(there.reference, candidates, moves))
            if imagined is not None:
                imagined.add(candidates, latents)
            references = self._references(there.reference, moves)
            return energy(Seen(self.model, latents, states, references, there.reference, moves, drift))

        return cost

    def _references(self, start: Tensor, actions: Tensor) -> Tensor:
        """(S, H, A) scaled references after each of the ``actions`` (S, H, A), from references ``start`` (A,) rad."""
        return self.model.scaled_joints(start + (actions * self.actions.scale).cumsum(1))

    def drift(self, there: Situation) -> Tensor:
        """(H, A) rad by which the model imagines a resting arm to creep after the first period.

        By then the arm stands where its servos hold it; what moves later is the model's error, some 4 mrad a period,
        which would otherwise be what a goal for joints is missed by.
        """
        rest = torch.zeros(1, self.config.horizon, len(self.joint_names))
        latents, states = self.imagine(there.z, there.state, rest)
        joints = Seen(self.model, latents, states, states[..., : len(self.joint_names)]).joints[0]
        return joints - joints[0]

    def _certain(self, goal: AnyGoal, small: NDArray[np.uint8], position: Tensor) -> CertainGoal:
        """The goal with all that the present frame decides: pixels that do not count, joints that stay, the posture."""
        if isinstance(goal, MaskedGoal):
            return picture_goal(self.model, goal.beside(small), goal.target)
        if isinstance(goal, JointsGoal) and bool(goal.joints.isnan().any()):
            here = position.maximum(self.actions.lower).minimum(self.actions.upper)
            self.goal = goal = JointsGoal(torch.where(goal.joints.isnan(), here, goal.joints))
        if isinstance(goal, PoseGoal) and goal.joints is None and self.forward is not None:
            self.goal = goal = aimed(goal, self.forward, self.actions, position.double().numpy(), self.intrusion)
        return goal

    def _encode(self, small: NDArray[np.uint8]) -> Tensor:
        return self.model.encode(to_tensor(small[None]))

    def _joints(self, values: FloatArray, name: str) -> Tensor:
        array = np.asarray(values, dtype=np.float32)
        if array.shape != (len(self.joint_names),):
            raise PlannerError(f"{name} must hold the {len(self.joint_names)} joints {self.joint_names}, got {array.shape}")
        if not np.isfinite(array).all():
            raise PlannerError(f"{name} holds NaN or infinite joints; check the joint_states topic")
        return torch.from_numpy(array)

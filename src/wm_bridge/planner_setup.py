"""The planner with all that a robot's description adds to it; the same in the planner node and in replays. Loads torch."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wm_bridge import resources
from wm_bridge.core.axes import Axes
from wm_bridge.core.effector import EffectorMotion, give_kinematics
from wm_bridge.core.joints import find_joints
from wm_bridge.core.plan_loop import PlanLoop
from wm_bridge.core.types import JointState
from wm_bridge.errors import UserError
from wm_bridge.robots.spec import RobotSpec
from wm_bridge.safety.clearance import Clearance
from wm_bridge.safety.config import SafetyConfig


_NEXT_GOAL = 0x9E3779B9  # between the seeds of two goals: odd, so all differ, and far from what people choose for seeds


@dataclass(frozen=True)
class PlannerSetup:
    """What a planner is made of; paths, "" = the shipped one or none.

    Attributes:
        checkpoint: world model. encoder: of V-JEPA 2-AC. search: YAML file of the search.
        trust: calibrations. seed: of the candidates. threads: of torch. device: of V-JEPA 2-AC.
        changes: settings of the search that differ from the file.
    """

    checkpoint: str = ""
    encoder: str = ""
    search: str = ""
    trust: str = ""
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    changes: Mapping[str, Any] = field(default_factory=dict)


class EquippedPlanner:
    """A planner, and the parts that are told where the joints are that it does not plan.

    Attributes:
        planner: of ``wm_planner``. checkpoint: its file. motion: None when no described arm has its joints.
    """

    def __init__(self, setup: PlannerSetup, spec: RobotSpec, axes: Axes | None = None) -> None:
        """Load it.

        Raises:
            UserError: it cannot be planned with; what to do.
        """
        from wm_planner.config import PlannerConfig, load_config
        from wm_planner.errors import PlannerError
        from wm_planner.mpc import Planner
        from wm_planner.vjepa.store import is_imported
        from wm_planner.weights import shipped_checkpoint

        self._setup, self._spec = setup, spec
        try:
            self.checkpoint = Path(setup.checkpoint) if setup.checkpoint else shipped_checkpoint(spec.name)
            vjepa = is_imported(self.checkpoint)
            usual = resources.path("config/vjepa_planner.yaml" if vjepa else "config/compact_planner.yaml")
            changes = {"threads": setup.threads, **(axes.settings() if axes else {}), **setup.changes}
            config = load_config(PlannerConfig, Path(setup.search) if setup.search else usual, changes)
            self.planner: Any = self._load_vjepa(config) if vjepa else Planner.load(self.checkpoint, config, seed=setup.seed)
            PlanLoop(self.planner, spec)  # refuses foreign joints
            self.planner.intrusion = self._clearance = self._clearance_for()
            self.motion = self._motion_for()
        except (PlannerError, ValueError, OSError) as error:
            raise UserError(
                f"cannot plan with {setup.checkpoint or 'the shipped checkpoint'}: {error}",
                "name a checkpoint made for this robot: parameter checkpoint",
                exit_code=2,
            ) from error

    def begin_goal(self, number: int) -> None:
        """Seed the random numbers for goal ``number``, from 1: they do not depend on the goals before it."""
        self.planner.search.generator.manual_seed((self._setup.seed + (number - 1) * _NEXT_GOAL) % 2**32)

    def observe(self, joints: JointState) -> None:
        """Where the joints are that are not planned."""
        for part in (self._clearance, self.motion):
            if part is not None:
                part.observe(joints)

    def judge_by_calibration(self, robot: str, camera: str) -> str:
        """Use the trust calibrations of this robot, camera and model; "" or why there are none.

        Args:
            robot, camera: see ``core.subject``.
        """
        from wm_planner.errors import PlannerError
        from wm_planner.trust.store import Calibrations, Subject, trust_path

        path = Path(self._setup.trust) if self._setup.trust else trust_path(self.checkpoint)
        try:
            found, problem = Calibrations.load(path, Subject(robot, camera, self.planner.name)), ""
        except PlannerError as error:
            found, problem = None, f"trust unknown: {error}"
        self.planner.watch.use(found)
        return problem

    def description(self) -> dict[str, Any]:
        """What decides its plans besides what it sees: for recordings."""
        return {
            "checkpoint": self.checkpoint.name,
            "weights": str(getattr(self.planner, "name", "")),
            "seed": self._setup.seed,
            "search": dataclasses.asdict(self.planner.config),
        }

    def _load_vjepa(self, config: Any) -> Any:
        from wm_planner.vjepa.planner import ACPlanner

        spec = self._spec
        names = tuple(spec.groups[next(iter(spec.tools))])
        index = find_joints(names, spec.joint_names)
        limits = (spec.lower[index], spec.upper[index], spec.velocity[index])
        encoder = Path(self._setup.encoder) if self._setup.encoder else None
        return ACPlanner.load(self.checkpoint, config, names, limits, encoder, self._setup.seed, self._setup.device)

    def _clearance_for(self) -> Clearance | None:
        """What the safety node's distances leave free; None when it keeps none."""
        config = SafetyConfig.load(self._spec.safety_path())
        if not (config.scene.enabled and self._spec.urdf):
            return None
        return Clearance(self._spec, config, self.planner.joint_names)

    def _motion_for(self) -> EffectorMotion | None:
        """Where joints bring the tool; None when no arm of the robot is described that has them."""
        spec, names = self._spec, set(self.planner.joint_names)
        if not (spec.urdf and any(names <= set(spec.groups[arm]) for arm in spec.tools)):
            return None
        return give_kinematics(self.planner, spec)


def computed_by() -> str:
    """What may round differently elsewhere."""
    import torch

    return f"numpy {np.__version__}, torch {torch.__version__} on {platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"

"""Settings of the simulated world; all lengths in m, base frame, angles in rad unless named."""

from __future__ import annotations

from dataclasses import dataclass

Vector3 = tuple[float, float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class ObjectConfig:
    """One free object.

    Attributes:
        name: how the world calls it.
        shape: ``box`` (size = half extents) or ``cylinder`` (size = radius, half height, 0).
        size: see ``shape``, m.
        colour: red, green, blue in 0..1.
        mass: kg.
        place: (x, y, yaw) on the table after a plain reset, or None = parked out of sight.
    """

    name: str
    shape: str
    size: Vector3
    colour: Colour
    mass: float
    place: Vector3 | None = None

    def __post_init__(self) -> None:
        if self.shape not in ("box", "cylinder"):
            raise ValueError(f"{self.name}: shape must be box or cylinder, got {self.shape!r}")

    @property
    def half_height(self) -> float:
        """Distance from the centre to the ground it stands on, m."""
        return self.size[2] if self.shape == "box" else self.size[1]


BLOCK = ObjectConfig(
    "block", "box", (0.025, 0.025, 0.025), (0.80, 0.04, 0.05), 0.08, (0.40, -0.12, 0.3)
)
CAN = ObjectConfig("can", "cylinder", (0.022, 0.035, 0.0), (0.05, 0.55, 0.12), 0.10)
BRICK = ObjectConfig("brick", "box", (0.018, 0.032, 0.014), (0.92, 0.76, 0.05), 0.05)


@dataclass(frozen=True)
class PlateConfig:
    """A flat picture on a link of the robot, which nothing touches: a calibration board.

    Attributes:
        name: how the world calls it. link: that it is fixed to.
        position, quaternion: of its top left corner on the link, m and w x y z; x to the right, y down, z into it.
        size: width and height, m.
        pixels: width and height of the picture. picture: its rows from the top, RGB.
    """

    name: str
    link: str
    position: Vector3
    quaternion: tuple[float, float, float, float]
    size: tuple[float, float]
    pixels: tuple[int, int]
    picture: bytes

    def __post_init__(self) -> None:
        if len(self.picture) != 3 * self.pixels[0] * self.pixels[1]:
            raise ValueError(f"{self.name}: {len(self.picture)} bytes are no RGB picture of {self.pixels}")


@dataclass(frozen=True)
class SceneConfig:
    """The world around the robot.

    Attributes:
        table_height: z of the table surface.
        table_x, table_y: extent of the table top.
        objects: free objects. plates: flat pictures on the robot.
        camera_position, camera_target: the fixed camera ``front`` and the point it looks at.
        camera_fovy_deg: vertical field of view of ``front``.
        eye_fovy_deg: vertical field of view of the eye cameras.
        timestep_s: physics step.
        multisamples: anti-aliasing samples of a pixel; drawing at twice the size and averaging is
            faster than 4 samples where drawing is done by the CPU.
    """

    table_height: float = 0.62
    table_x: tuple[float, float] = (0.16, 0.75)
    table_y: tuple[float, float] = (-0.65, 0.45)
    objects: tuple[ObjectConfig, ...] = (BLOCK, CAN, BRICK)
    plates: tuple[PlateConfig, ...] = ()
    camera_position: Vector3 = (1.0, -0.45, 1.25)
    camera_target: Vector3 = (0.25, -0.20, 0.78)
    camera_fovy_deg: float = 46.0
    eye_fovy_deg: float = 75.0
    timestep_s: float = 0.005
    multisamples: int = 0

    def __post_init__(self) -> None:
        if not 0.0005 <= self.timestep_s <= 0.01:
            raise ValueError(f"timestep_s must be in 0.0005..0.01 s, got {self.timestep_s}")
        if len({item.name for item in self.objects}) != len(self.objects):
            raise ValueError("objects must have different names")
        if not (self.table_x[0] < self.table_x[1] and self.table_y[0] < self.table_y[1]):
            raise ValueError(f"table extent is not ordered: {self.table_x}, {self.table_y}")

    def fovy_deg(self, camera: str) -> float:
        """Return the vertical field of view of ``front``, ``left_eye`` or ``right_eye``."""
        known = {"front": self.camera_fovy_deg}
        known |= dict.fromkeys(("left_eye", "right_eye"), self.eye_fovy_deg)
        if camera not in known:
            raise ValueError(f"no camera {camera!r} in the scene; have {sorted(known)}")
        return known[camera]


@dataclass(frozen=True)
class DomainRandomization:
    """How far ``SimWorld.randomize`` may move each look away from the nominal one.

    Every quantity is drawn uniformly; 0 (or an empty range) turns it off.

    Attributes:
        light: range of the factor on all lights.
        light_direction_deg: largest tilt of the main light's direction.
        colour_temperature: largest relative gain of red against blue of all lights.
        surface_hue: largest hue change (of 1 turn) of table and floor.
        surface_value: largest relative brightness change of table and floor.
        robot_hue, robot_value: the same for the robot's parts.
        object_hue, object_value: the same for the objects.
        camera_position_m: largest shift of ``front`` along each axis.
        camera_rotation_deg: largest turn of ``front`` about each of its axes.
        camera_fovy: largest relative change of its field of view.
        distractors: objects that may appear anywhere on the table.
        distractor_probability: chance of each to be there; the others are parked.
    """

    light: tuple[float, float] = (0.5, 1.5)
    light_direction_deg: float = 25.0
    colour_temperature: float = 0.12
    surface_hue: float = 0.5
    surface_value: float = 0.35
    robot_hue: float = 0.02
    robot_value: float = 0.15
    object_hue: float = 0.03
    object_value: float = 0.2
    camera_position_m: float = 0.05
    camera_rotation_deg: float = 5.0
    camera_fovy: float = 0.03
    distractors: tuple[str, ...] = ("can", "brick")
    distractor_probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.light[0] <= self.light[1]:
            raise ValueError(f"light must be an ordered range above 0, got {self.light}")
        if not 0.0 <= self.distractor_probability <= 1.0:
            raise ValueError("distractor_probability must be in 0..1")

"""Another robot before another camera, from the one at hand: what a checkpoint has to be fine-tuned to."""

from __future__ import annotations

import colorsys
import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from wm_bridge.robots.spec import RobotSpec
from wm_bridge.sim.config import SceneConfig

FOREARM = 1.1  # times as long
CAMERA = (0.88, -0.72, 1.33)  # m; the usual one stands at (1.0, -0.45, 1.25)
HUE, LEVEL = 0.35, 0.7  # turn of the colour circle and share of the brightness of every link


def changed_robot(spec: RobotSpec, folder: Path, link: str = "right_lower_arm", longer: float = FOREARM) -> RobotSpec:
    """The robot with one longer link and links of other colours; its URDF is written into ``folder``.

    Lengths along the link's z axis grow: where its shapes and the next joint are, and how long its cylinders are.
    """
    tree = ET.parse(spec.urdf_path())
    root = tree.getroot()
    for joint in root.findall("joint"):
        parent, origin = joint.find("parent"), joint.find("origin")
        if parent is not None and origin is not None and parent.get("link") == link:
            _stretch(origin, longer)
    for part in root.findall(f"link[@name='{link}']//origin"):
        _stretch(part, longer)
    for cylinder in root.findall(f"link[@name='{link}']//cylinder"):
        cylinder.set("length", repr(float(cylinder.get("length", "0")) * longer))
    for colour in root.iter("color"):
        r, g, b, a = (float(value) for value in colour.get("rgba", "1 1 1 1").split())
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        shown = colorsys.hsv_to_rgb((h + HUE) % 1.0, min(1.0, s + 0.25), v * LEVEL)
        colour.set("rgba", " ".join(f"{value:.4f}" for value in (*shown, a)))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.resolve() / f"{spec.name}_changed.urdf"
    tree.write(path, encoding="utf-8")
    return dataclasses.replace(spec, urdf=str(path))


def changed_scene() -> SceneConfig:
    """The usual table, seen from another place."""
    return dataclasses.replace(SceneConfig(), camera_position=CAMERA)


def _stretch(origin: ET.Element, longer: float) -> None:
    xyz = np.array([float(value) for value in origin.get("xyz", "0 0 0").split()])
    xyz[2] *= longer
    origin.set("xyz", " ".join(repr(float(value)) for value in xyz))

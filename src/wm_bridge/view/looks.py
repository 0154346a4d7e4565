"""What the links of a robot look like: the boxes, cylinders and spheres of its URDF."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
from transforms3d.euler import euler2quat

from wm_bridge.core.types import FloatArray, frozen_array
from wm_bridge.errors import UserError

_GREY = (0.6, 0.6, 0.62)


@dataclass(frozen=True)
class Shape:
    """One visible part of a link.

    Attributes:
        link: name. kind: box, cylinder or sphere. size: edges (3,); radius and length (2,); radius (1,), m.
        position: (3,) m and wxyz: (4,) unit quaternion, in the link's frame. colour: red, green, blue, 0 to 1.
    """

    link: str
    kind: str
    size: FloatArray
    position: FloatArray
    wxyz: FloatArray
    colour: tuple[float, float, float]


def shapes(urdf: str) -> tuple[Shape, ...]:
    """All visible parts of a description; a mesh is left out (`./wm new-robot` puts shapes in their place).

    Args:
        urdf: its text.

    Raises:
        UserError: not the text of a URDF.
    """
    try:
        root = ElementTree.fromstring(urdf)
        materials = {item.get("name", ""): colour for item in root.findall("material") if (colour := _colour(item)) is not None}
        parts = [
            _shape(str(link.get("name")), visual, materials)
            for link in root.findall("link")
            for visual in link.findall("visual")
        ]
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise UserError(f"the robot description cannot be read: {error}", "check the URDF that the robot's YAML names", 2) from error
    return tuple(part for part in parts if part is not None)


def link_paths(urdf: str) -> dict[str, str]:
    """Each link's way from the root, ``base_link/torso/neck``: moving a frame moves all behind it.

    Returns:
        Link name to path; parents come before their children.
    """
    joints = ElementTree.fromstring(urdf).findall("joint")
    ways = {str(j.find("child").get("link")): str(j.find("parent").get("link")) for j in joints}  # type: ignore[union-attr]

    def path(link: str) -> str:
        return f"{path(ways[link])}/{link}" if link in ways else link

    found = {link: path(link) for link in {*ways, *ways.values()}}
    return dict(sorted(found.items(), key=lambda item: item[1].count("/")))


def _shape(link: str, visual: ElementTree.Element, materials: dict[str, tuple[float, float, float]]) -> Shape | None:
    for kind, names in (("box", ("size",)), ("cylinder", ("radius", "length")), ("sphere", ("radius",))):
        found = visual.find(f"geometry/{kind}")
        if found is not None:
            size = [float(part) for name in names for part in str(found.get(name)).split()]
            break
    else:
        return None
    origin = visual.find("origin")
    place = {} if origin is None else origin.attrib
    material = visual.find("material")
    colour = None if material is None else _colour(material) or materials.get(material.get("name", ""))
    return Shape(
        link,
        kind,
        frozen_array(size),
        frozen_array([float(part) for part in place.get("xyz", "0 0 0").split()]),
        frozen_array(euler2quat(*(float(part) for part in place.get("rpy", "0 0 0").split()), axes="sxyz")),
        colour or _GREY,
    )


def _colour(material: ElementTree.Element) -> tuple[float, float, float] | None:
    found = material.find("color")
    if found is None:
        return None
    red, green, blue, *_ = (float(np.clip(float(part), 0.0, 1.0)) for part in found.get("rgba", "0.6 0.6 0.62 1").split())
    return red, green, blue

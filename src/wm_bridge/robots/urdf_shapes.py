"""Meshes of a URDF as capsules, which is what the safety filter and the simulator reckon with."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pinocchio
from transforms3d.euler import mat2euler

from wm_bridge.core.types import FloatArray
from wm_bridge.errors import UserError
from wm_bridge.robots.capsules import Capsule, enclose


def simplify(source: Path, root: ET.Element, packages: Sequence[Path], notes: list[str]) -> int:
    """Put a capsule in the place of every mesh that collides, and show those; returns how many there were.

    Args:
        source: file of the URDF ``root``. packages: folders in which ``package://`` addresses are looked for.
        notes: gets what is to be told.

    Raises:
        UserError: a mesh that is not there or cannot be read.
    """
    count = 0
    for link in root.findall("link"):
        shapes = link.findall("collision")
        if not shapes and link.find("visual/geometry/mesh") is not None:
            notes.append(f"link {link.get('name')} has a look but no collision shape: nothing keeps it away from anything")
        for shape in shapes:
            geometry = shape.find("geometry")
            mesh = geometry.find("mesh") if geometry is not None else None
            if geometry is None or mesh is None:
                continue
            capsule = enclose(_vertices(source, mesh, packages))
            _replace(shape, geometry, capsule)
            count += 1
    _show_shapes(root)
    return count


def _vertices(source: Path, mesh: ET.Element, packages: Sequence[Path]) -> FloatArray:
    import coal

    address = mesh.get("filename", "")
    path = _find(source, address, packages)
    scale = np.array([float(value) for value in mesh.get("scale", "1 1 1").split()])
    try:
        loaded = coal.MeshLoader().load(str(path), scale)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot read the mesh {path}: {error}", "convert it to STL, DAE or OBJ", 2) from error
    return np.array([loaded.vertex(k) for k in range(loaded.num_vertices)])


def _find(source: Path, address: str, packages: Sequence[Path]) -> Path:
    tail = address.removeprefix("file://")
    if address.startswith("package://"):
        tail = address.removeprefix("package://")
        rest = tail.partition("/")[2]
        tries = [folder / tail for folder in packages] + [folder / rest for folder in packages]
    else:
        tries = [source.parent / tail]
    for path in tries:
        if path.is_file():
            return path
    raise UserError(f"the mesh {address} is not there", "name the folder that holds its package: --packages FOLDER", 2)


def _replace(shape: ET.Element, geometry: ET.Element, capsule: Capsule) -> None:
    """A cylinder is a capsule around it for the filter: same axis, same radius, length of the segment."""
    origin = shape.find("origin")
    T = np.eye(4)
    if origin is not None:
        shape.remove(origin)
        T[:3, :3] = pinocchio.rpy.rpyToMatrix(np.array([float(v) for v in origin.get("rpy", "0 0 0").split()]))
        T[:3, 3] = [float(v) for v in origin.get("xyz", "0 0 0").split()]
    ends = capsule.ends @ T[:3, :3].T + T[:3, 3]
    centre, way = ends.mean(0), ends[1] - ends[0]
    axis = way / capsule.length if capsule.length > 1e-9 else np.array([0.0, 0.0, 1.0])
    side = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    side /= np.linalg.norm(side)
    rpy = mat2euler(np.stack([side, np.cross(axis, side), axis], axis=1), "sxyz")
    shape.insert(0, ET.Element("origin", xyz=_numbers(centre), rpy=_numbers(rpy)))
    geometry.clear()
    # rounded up: the capsule may only grow
    ET.SubElement(geometry, "cylinder", radius=f"{math.ceil(capsule.radius * 1e5 + 1) * 1e-5:.5f}", length=f"{max(capsule.length, 1e-5) + 1e-5:.6f}")


def _show_shapes(root: ET.Element) -> None:
    """Links look like their collision shapes where their look was a mesh."""
    for link in root.findall("link"):
        for visual in link.findall("visual"):
            if visual.find("geometry/mesh") is not None:
                link.remove(visual)
        if link.find("visual") is None:
            for shape in link.findall("collision"):
                visual = ET.SubElement(link, "visual")
                visual.extend([part for part in shape if part.tag in ("origin", "geometry")])


def _numbers(values: Sequence[float] | FloatArray) -> str:
    return " ".join(f"{value:.6f}" for value in values)

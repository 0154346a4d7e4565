"""What is wrong with a URDF, said before its parsers stop at it without a word of use."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator

TYPES = ("revolute", "continuous", "prismatic", "fixed", "floating", "planar")
_COUNTS = {"xyz": 3, "rpy": 3, "size": 3, "scale": 3, "radius": 1, "length": 1}  # numbers of an attribute
_SHAPES = ("box", "cylinder", "mesh", "sphere")
_POSITIVE = ("size", "radius", "length")
_LIMITS = ("lower", "upper", "velocity", "effort")  # of these infinity and NaN stand for "none"


def problems(root: ET.Element) -> Iterator[str]:
    """Each thing that keeps ``root``, the <robot> of a URDF, from being a tree of links with finite sizes.

    Inertia is not looked at: neither the filter nor the simulator here reckons with it.
    """
    if not root.get("name"):
        yield "the robot has no name"
    links = Counter(link.get("name", "") for link in root.findall("link"))
    yield from (f"two links are called {name!r}" for name, count in links.items() if count > 1)
    yield from (f"two joints are called {name!r}" for name, count in Counter(j.get("name", "") for j in root.findall("joint")).items() if count > 1)
    yield from (f"a link and a joint are both called {name!r}" for name in links if name in {j.get("name") for j in root.findall("joint")})
    if not links or "" in links:
        yield "a link has no name" if links else "there are no links"
    parents: dict[str, str] = {}
    for joint in root.findall("joint"):
        name, kind = joint.get("name"), joint.get("type")
        ends = [element.get("link") if (element := joint.find(tag)) is not None else None for tag in ("parent", "child")]
        if not name:
            yield f"a joint has no name (between {ends[0]} and {ends[1]})"
        if kind not in TYPES:
            yield f"joint {name} has the type {kind!r}, known are {', '.join(TYPES)}"
        unknown = [tag for tag, end in zip(("parent", "child"), ends, strict=True) if end not in links]
        yield from (f"the {tag} of joint {name} is no link: {ends[tag == 'child']}" for tag in unknown)
        if not unknown:
            if (child := str(ends[1])) in parents:
                yield f"link {child} is the child of two joints"
            parents[child] = str(ends[0])
    yield from _no_tree(set(links), parents)
    for owner in (*root.findall("link"), *root.findall("joint")):
        yield from _numbers(owner)


def _no_tree(links: set[str], parents: dict[str, str]) -> Iterator[str]:
    roots = sorted(links - set(parents))
    if len(roots) > 1:
        yield f"the links {', '.join(roots)} hang on nothing; one link is the root"
    for link in sorted(parents):
        above = link
        for _ in parents:
            above = parents.get(above, "")
        if above in parents:
            yield f"link {link} hangs on itself: a URDF is a tree"
            return


def _numbers(owner: ET.Element) -> Iterator[str]:
    for shape in owner.findall("collision"):
        geometry = shape.find("geometry")
        kinds = [element.tag for element in geometry] if geometry is not None else []
        if len(kinds) != 1 or kinds[0] not in _SHAPES:
            yield f"a collision shape of link {owner.get('name')} is {' and '.join(kinds) or 'empty'}, not one of {', '.join(_SHAPES)}"
    for element in owner.iter():
        if element.tag in ("inertial", "inertia", "material"):
            continue
        where = f"{element.tag} of {owner.tag} {owner.get('name')}"
        for key, text in element.items():
            if key not in _COUNTS and not (element.tag == "limit" and key in _LIMITS):
                continue
            try:
                values = [float(part) for part in text.split()]
            except ValueError:
                values = []
            good = len(values) == _COUNTS.get(key, 1) and (key in _LIMITS or all(map(math.isfinite, values)))
            if not good or (key in _POSITIVE and min(values) <= 0.0):
                many = _COUNTS.get(key, 1)
                yield f"{where}: {key}={text!r} is not {'a' if many == 1 else many} {'positive ' * (key in _POSITIVE)}number{'s' * (many > 1)}"
        if element.tag == "axis" and not any(float(part) for part in element.get("xyz", "1 0 0").split() if _is_number(part)):
            yield f"{where} has no direction"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False

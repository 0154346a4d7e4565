"""RViz views of arms in namespaces, made from the one that ships: ``config/rviz/wm.rviz``.

``python -m wm_bridge.rviz_view left right > config/rviz/wm_two_arms.rviz``
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from wm_bridge import resources

SHIPPED = "config/rviz/wm.rviz"
_GOAL_TOOLS = ("rviz_default_plugins/SetGoal", "rviz_default_plugins/PublishPoint")
_TOPICS = ("Topic", "Description Topic")
_MARKERS = "Interactive Markers Namespace"


def view_of(arms: Mapping[str, str]) -> str:
    """The text of a view with all displays and goal tools of each arm.

    Args:
        arms: namespace to what stands before the names of its frames, ``{"left": "left/"}``; the first one's base is
            the fixed frame.
    """
    view = yaml.safe_load(resources.path(SHIPPED).read_text(encoding="utf-8"))
    manager = view["Visualization Manager"]
    alike = [item for item in manager["Displays"] if "Displays" not in item]
    groups = [item for item in manager["Displays"] if "Displays" in item]
    tools = [item for item in manager["Tools"] if item["Class"] not in _GOAL_TOOLS]
    goal_tools = [item for item in manager["Tools"] if item["Class"] in _GOAL_TOOLS]
    manager["Displays"] = alike + [_display(group, arm, prefix) for arm, prefix in arms.items() for group in groups]
    manager["Tools"] = tools + [_moved(tool, arm) for arm in arms for tool in goal_tools]
    base = next(iter(arms.values())) + manager["Global Options"]["Fixed Frame"]
    manager["Global Options"]["Fixed Frame"] = manager["Views"]["Current"]["Target Frame"] = base
    tree = view["Panels"][0]["Property Tree Widget"]
    tree["Expanded"] = [f"/{group['Name']}1" for group in manager["Displays"]]
    return yaml.safe_dump(view, sort_keys=False, width=200)


def _display(group: Mapping[str, Any], arm: str, prefix: str) -> dict[str, Any]:
    found = dict(copy.deepcopy(group))
    found["Name"] = f"{group['Name']} {arm}"
    found["Displays"] = [_moved(display, arm) for display in group["Displays"]]
    for display in found["Displays"]:
        if "TF Prefix" in display:
            display["TF Prefix"] = prefix.rstrip("/")
    return found


def _moved(item: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """A display or tool with its topics in the namespace of an arm."""
    found = dict(copy.deepcopy(item))
    for key in _TOPICS:
        if key in found:
            found[key]["Value"] = f"/{arm}/{found[key]['Value']}"
    if _MARKERS in found:
        found[_MARKERS] = f"/{arm}/{found[_MARKERS]}"
    return found


def main(argv: Sequence[str]) -> int:
    """Print the view of arms in these namespaces."""
    print(view_of({arm: f"{arm}/" for arm in argv}), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

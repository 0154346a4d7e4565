"""`./wm refine`: the second training stage, and a page of it."""

from __future__ import annotations

from wm_bridge.report import short
from wm_bridge.report.runs import new_folder
from wm_bridge.report.training import read_card
from wm_planner import refine


def main(argv: list[str]) -> int:
    """Run ``wm_planner.refine``."""
    arguments = refine.parse(argv)
    code = refine.main(argv)
    if code == 0:
        card = read_card(arguments.out)
        settings = {name: card[name] for name in ("refine", "sharpen", "imitate") if name in card}
        held_out = short.numbers({name: given["held_out"] for name, given in settings.items() if "held_out" in given})
        figures = {"steps": arguments.steps, **held_out}
        configuration = {"arguments": " ".join(argv), **settings, "refined_from": card.get("refined_from", "")}
        page = short.make(new_folder("refine", arguments.out.stem), "training", arguments.out.stem, f"wrote {arguments.out}", figures, configuration)
        print(f"page {page}")
    return code

"""The whole graph on the simulated servo bus: the rates that it holds, and what each node costs."""

from __future__ import annotations

import time

from rclpy.action import ActionClient
from wm_interfaces.action import ReachGoal

from wm_bridge.bench.bus_reach import Mirror, on_the_bus
from wm_bridge.bench.live import CpuMeter, live_graph
from wm_bridge.bench.reach_ros import draw
from wm_bridge.robots import spec as robots
from wm_bridge.sim.closed_loop import LoopSettings
from wm_bridge.sim.world import SimWorld

_RATES = ("joint_states", "hw/command", "camera/image_raw", "wm/action")
_SLICE_S = 0.5  # messages are fetched this often; the mailboxes hold five seconds
_GOAL_S = 6.0


def run(seconds: float, seed: int) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Figures and rows while goal pictures are pursued, one after the other: messages per second, and CPU in percent of one core."""
    settings, spec = LoopSettings(), robots.load("nico")
    drawer, eye = SimWorld(spec), SimWorld(spec)
    task = draw(drawer, seed, 0)
    pictures = []
    for pose in (task.goal, spec.home):
        drawer.reset(pose, {})
        pictures.append(drawer.render("front", settings.width, settings.height))
    with live_graph(on_the_bus()) as live:
        Mirror(live, eye)
        action = ActionClient(live.client.node, ReachGoal, "wm/reach_goal")
        live.client.enable()
        ended, sent = live.send(action, pictures[0], _GOAL_S, 1e-3).get_result_async(), 1
        boxes = {name: live.mailbox(name) for name in _RATES}
        live.client.wait(lambda: any(True for _ in boxes["wm/action"].take()), 20.0, "no plan")
        for box in boxes.values():
            list(box.take())
        counts, meter, begin = dict.fromkeys(_RATES, 0), CpuMeter(live.graph), time.monotonic()
        while time.monotonic() - begin < seconds:
            until = min(begin + seconds, time.monotonic() + _SLICE_S)
            live.client.wait(lambda until=until: time.monotonic() >= until, _SLICE_S + 5.0, "time stands still")
            for name, box in boxes.items():
                counts[name] += sum(1 for _ in box.take())
            if ended.done():  # there and back: planned for all the time
                ended, sent = live.send(action, pictures[sent % 2], _GOAL_S, 1e-3).get_result_async(), sent + 1
        passed = time.monotonic() - begin
        cost = meter.percent()
        action.destroy()
    drawer.close()
    eye.close()
    rates = {name: count / passed for name, count in counts.items()}
    figures = {"graph_loop_hz": rates["hw/command"], "graph_states_hz": rates["joint_states"]}
    figures |= {f"cpu_{name}": value for name, value in cost.items()}
    rows = [
        ("the graph on the bus, goals pursued", ", ".join(f"{name} {rate:.1f} Hz" for name, rate in rates.items())),
        ("CPU of each node, % of one core", ", ".join(f"{name} {value:.0f}" for name, value in cost.items())),
    ]
    return figures, rows

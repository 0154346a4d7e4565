"""How a node process starts, spins and ends."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined"

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from wm_bridge.errors import UserError
from wm_bridge.ros import qos
from wm_bridge.ros.executor import LeanExecutor

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
STEADY = Clock(clock_type=ClockType.STEADY_TIME)


def run(make: Callable[[], Node], argv: list[str] | None = None) -> int:
    """Run one node until SIGINT or SIGTERM; return the exit code of the process.

    Stop signals are taken by a thread of their own, so a busy callback cannot swallow
    them, nor a thread of a library that was there before, nor a shell that had background programs ignore them.
    ``node.stop()`` is called while the node can still publish. Exit codes: 0 stopped
    on request, 1 failed while running, 2 could not start as it was configured. SIGUSR1 makes
    it tell on stderr what each of its threads is doing, and go on.

    A ``LeanExecutor`` spins: rclpy's own costs more than the callbacks of a small node, and its
    ``EventsExecutor`` lost timers and took a whole core on one of the test machines.
    """
    faulthandler.register(signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)  # also for all threads from here on
    signals, far = os.pipe()
    os.set_blocking(far, False)
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(far, warn_on_full_buffer=False)  # whichever thread gets a signal writes its number there
    rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    node, executor = None, LeanExecutor()
    try:
        node = make()
        executor.add_node(node)
        stop: Future = Future()
        threading.Thread(target=_wait_for_signal, args=(signals, stop, executor), daemon=True).start()
        while not stop.done():
            executor.spin_once()
            failure = getattr(node, "failure", None)
            if failure is not None:
                raise failure
        return 0
    except UserError as error:
        name = node.get_name() if node is not None else "node"
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except (ExternalShutdownException, KeyboardInterrupt):
        return 0
    except Exception:  # noqa: BLE001  the last line of a process: say it and end
        traceback.print_exc()
        return 1
    finally:
        executor.release()
        _end(node)


def leave(code: int) -> NoReturn:
    """End the process at once after ``run``: tearing torch and DDS down would take seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def publisher(node: Node, name: str, camera: str = "camera") -> Publisher:
    """Create a publisher with the type and QoS of the table.

    Args:
        name: a row of the table. camera: of a camera's topic: node whose name it gets, as in ``camera2/image_raw``.

    Without rclpy's default QoS event handlers: each is one more thing to wait for, at every
    wake-up. That everybody's QoS fits is tested on the running graph.
    """
    quiet = PublisherEventCallbacks(use_default_callbacks=False)
    return node.create_publisher(
        qos.message_type(name), qos.of_camera(name, camera), qos.profile(name), event_callbacks=quiet
    )


def subscribe(
    node: Node, name: str, callback: Callable[..., None], events: SubscriptionEventCallbacks | None = None
) -> Any:
    """Create a subscription with the type and QoS of the table; see ``publisher``.

    Args:
        callback: takes the message, or the message and what the middleware says about it.
        events: QoS events to be told about; none by default.
    """
    quiet = events or SubscriptionEventCallbacks(use_default_callbacks=False)
    return node.create_subscription(
        qos.message_type(name), name, callback, qos.profile(name), event_callbacks=quiet
    )


def set_niceness(niceness: int) -> None:
    """Run this process before (negative) or behind (positive) other programs, where the user may.

    What a command waits for (camera, planner) goes before; what only watches (recorder, viz) behind.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    except PermissionError:
        pass  # as any other program; the safety node and the driver, who must not, say so


def now_ns(node: Node) -> int:
    """Node time: simulated when ``use_sim_time`` is set; 0 until the first ``/clock``."""
    return int(node.get_clock().now().nanoseconds)


def _wait_for_signal(signals: int, stop: Future, executor: LeanExecutor) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    while os.read(signals, 1)[0] not in _STOP_SIGNALS:
        pass
    stop.set_result(None)
    executor.wake()
    # A callback that never returns must not keep the process alive for ever.
    time.sleep(10.0)
    os._exit(1)


def _end(node: Node | None) -> None:
    if node is not None:
        for step in (getattr(node, "stop", None), node.destroy_node):
            try:
                if step is not None:
                    step()
            except Exception as error:  # noqa: BLE001  go on closing
                print(f"while stopping: {error!r}", file=sys.stderr, flush=True)
    rclpy.try_shutdown()

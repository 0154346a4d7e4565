"""An executor that spends its time in callbacks instead of preparing to wait for them."""

# rclpy is annotated in parts only.
# mypy: disable-error-code="no-untyped-call,attr-defined,misc"

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor, TimeoutException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

_FOR_EVER = -1


class LeanExecutor(SingleThreadedExecutor):
    """A ``SingleThreadedExecutor`` whose wake-ups cost a fraction.

    The stock executor collects every entity of the node, makes a wait set, a task and a
    coroutine for every single callback, and wakes itself up twice after each: at some hundred
    messages a second that is most of what a small node does. Here the wait set lives as
    long as the node's entities stay the same, and timers and subscriptions are called
    straight from it. Everything else (services, actions, guard conditions, tasks) is rare: then
    one pass of the stock executor does all that is ready. A task that awaits a future goes on
    when the executor is woken: by a callback of the future, or by ``wake``.

    ``spin_once`` runs every callback that one wait finds ready. It rests on the members of
    rclpy that Jazzy and Kilted share; callback groups are asked when the wait set is made,
    so a group that never allows anything keeps its entities out of it (``ros.polled``).
    """

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._stale = True
        self._again = False
        self._wait: _Wait | None = None

    def wake(self) -> None:
        """Something changed: an entity came or went, a future is done."""
        self._stale = self._again = True
        super().wake()

    def create_task(self, *arguments: Any, **keywords: Any) -> Any:
        """Run a function or coroutine in a later pass; see ``rclpy.executors.Executor``."""
        task = super().create_task(*arguments, **keywords)
        self._again = True
        super().wake()  # rclpy's own trigger may have gone to a pass that looked before
        return task

    def add_node(self, node: Node) -> bool:
        """Serve a node as well."""
        self._stale = True
        return bool(super().add_node(node))

    def remove_node(self, node: Node) -> None:
        """No longer serve a node."""
        self._stale = True
        super().remove_node(node)

    def release(self) -> None:
        """Let go of the nodes' entities, so that they can be destroyed; spinning takes them again."""
        wait, self._wait = self._wait, None
        if wait is not None:
            wait.close()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop for good; see ``rclpy.executors.Executor``."""
        self.release()
        return bool(super().shutdown(timeout_sec))

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for callbacks and run all that are ready.

        Args:
            timeout_sec: s; None waits for ever, 0 does not wait.

        Raises:
            ExternalShutdownException: the context was shut down.
            Exception: whatever a callback raises.
        """
        if self._is_shutdown:
            return
        wait = self._wait
        if self._stale or wait is None:
            self.release()
            self._stale = False  # before the look: a change during it makes the set stale again
            wait = self._wait = _Wait(self)
        forever = timeout_sec is None or timeout_sec < 0.0
        try:
            wait.wait(_FOR_EVER if forever else round(timeout_sec * 1e9))  # type: ignore[operator]
        except InvalidHandle:  # another thread has just destroyed something
            self._stale = True
            return
        if self._is_shutdown:
            return
        if not self._context.ok():
            raise ExternalShutdownException()
        if wait.rare():
            self._stock_pass()
            return
        for timer in wait.timers():
            if timer.handle.is_timer_ready():
                self._call(self._take_timer(timer))
        for subscription in wait.subscriptions():
            self._call(self._take_subscription(subscription))

    def _stock_pass(self) -> None:
        """Everything that is ready, and all pending tasks, by rclpy's own means."""
        while not self._is_shutdown:
            self._again = False
            while True:
                try:
                    handler, _, _ = self.wait_for_ready_callbacks(timeout_sec=0)
                except TimeoutException:
                    break
                except InvalidHandle:  # as above; rclpy looks at its entities anew
                    continue
                handler()
                if handler.done():
                    handler.result()  # raises what the callback raised
            if not self._again:
                return

    def _call(self, callback: Any) -> None:
        if callback is None:
            return  # taken by somebody else meanwhile
        coroutine = callback()
        try:
            coroutine.send(None)
        except StopIteration:
            return
        self.create_task(coroutine)  # an asynchronous callback waits for something


class _Wait:
    """A wait set over the entities that some nodes have now; none is destroyed before ``close``."""

    def __init__(self, executor: LeanExecutor) -> None:
        nodes = executor.get_nodes()
        self._held = ExitStack()
        self.close = self._held.close

        def usable(kind: str) -> list[Any]:
            found = []
            for item in (item for node in nodes for item in getattr(node, kind)):
                if executor.can_execute(item):
                    try:
                        self._held.enter_context(item if kind == "waitables" else item.handle)
                        found.append(item)
                    except InvalidHandle:
                        pass  # on its way out
            return found

        self._timers = {item.handle.pointer: item for item in usable("timers")}
        self._subscriptions = {item.handle.pointer: item for item in usable("subscriptions")}
        self._guards = {item.handle.pointer: item for item in usable("guards")}
        self._clients, self._services = usable("clients"), usable("services")
        self._waitables = usable("waitables")
        self._own_guards = [executor._guard, executor._sigint_gc]
        counts = [
            len(self._subscriptions), len(self._guards) + len(self._own_guards), len(self._timers),
            len(self._clients), len(self._services), 0,
        ]  # fmt: skip
        for waitable in self._waitables:
            more = waitable.get_num_entities()
            for place, kind in enumerate(
                ("subscriptions", "guard_conditions", "timers", "clients", "services", "events")
            ):
                counts[place] += getattr(more, f"num_{kind}")
        self._set = rclpy_implementation.WaitSet(*counts, executor._context.handle)

    def wait(self, timeout_ns: int) -> None:
        """Return when something is ready or the time is over."""
        wait_set = self._set
        wait_set.clear_entities()
        for item in self._subscriptions.values():
            wait_set.add_subscription(item.handle)
        for item in self._timers.values():
            wait_set.add_timer(item.handle)
        for item in self._clients:
            wait_set.add_client(item.handle)
        for item in self._services:
            wait_set.add_service(item.handle)
        for item in self._guards.values():
            wait_set.add_guard_condition(item.handle)
        for guard in self._own_guards:
            wait_set.add_guard_condition(guard.handle)
        for waitable in self._waitables:
            waitable.add_to_wait_set(wait_set)
        wait_set.wait(timeout_ns)

    def rare(self) -> bool:
        """True when something else than a timer or a subscription is ready."""
        guards = self._set.get_ready_entities("guard_condition")
        for pointer in guards:
            if pointer in self._guards:
                self._guards[pointer]._executor_triggered = True  # the stock pass takes it again
        ready = bool(guards)
        ready |= bool(self._services) and bool(self._set.get_ready_entities("service"))
        ready |= bool(self._clients) and bool(self._set.get_ready_entities("client"))
        return ready or any(waitable.is_ready(self._set) for waitable in self._waitables)

    def timers(self) -> list[Any]:
        """Timers that are due."""
        return [self._timers[key] for key in self._set.get_ready_entities("timer") if key in self._timers]

    def subscriptions(self) -> list[Any]:
        """Subscriptions with a message."""
        ready = self._set.get_ready_entities("subscription")
        return [self._subscriptions[key] for key in ready if key in self._subscriptions]

"""The executor of all nodes, and messages that wait until somebody looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import rclpy
from conftest import wait_until
from rclpy.action import ActionClient, ActionServer
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, ReliabilityPolicy, qos_check_compatible
from rclpy.serialization import serialize_message
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from wm_interfaces.action import ReachGoal

from wm_bridge.bags.messages import stamp_of
from wm_bridge.cli.domain import claim_domain_id
from wm_bridge.ros import qos
from wm_bridge.ros.executor import LeanExecutor
from wm_bridge.ros.mailbox import Mailbox, Recent
from wm_bridge.ros.node import STEADY


class Party:
    """Two nodes in one executor that spins in this thread."""

    def __init__(self, context: Context) -> None:
        self.executor = LeanExecutor(context=context)
        self.a, self.b = (rclpy.create_node(name, context=context) for name in "ab")
        for node in (self.a, self.b):
            self.executor.add_node(node)
        self.joints = self.a.create_publisher(JointState, "joint_states", qos.profile("joint_states"))

    def until(self, done: object, what: str) -> None:
        """Spin until ``done()``."""

        def step() -> object:
            self.executor.spin_once(timeout_sec=0.05)
            return done()  # type: ignore[operator]

        wait_until(step, 15.0, what)

    def met(self) -> None:
        """Wait until writer and reader know of each other."""
        self.until(lambda: self.joints.get_subscription_count() > 0, "no reader of joint_states")


@pytest.fixture
def party() -> Iterator[Party]:
    context = Context()
    with claim_domain_id() as domain:
        rclpy.init(context=context, domain_id=domain)
        made = Party(context)
        yield made
        made.executor.shutdown(1.0)
        for node in (made.a, made.b):
            node.destroy_node()
        rclpy.try_shutdown(context=context)


def joints(seconds: int) -> JointState:
    message = JointState(name=["x"], position=[float(seconds)], velocity=[0.0], effort=[0.0])
    message.header.stamp.sec = seconds
    return message


def listen(node: Node, heard: list[JointState]) -> Subscription:
    return node.create_subscription(JointState, "joint_states", heard.append, qos.profile("joint_states"))


def test_timers_messages_and_services_all_run(party: Party) -> None:
    heard: list[JointState] = []
    ticks: list[int] = []
    listen(party.b, heard)
    party.a.create_timer(0.01, lambda: ticks.append(1), clock=STEADY)

    def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        return response

    party.a.create_service(Trigger, "go", answer)
    client = party.b.create_client(Trigger, "go")
    party.met()
    party.joints.publish(joints(1))
    party.until(lambda: heard and len(ticks) > 5, "no message or no ticks")
    party.until(client.service_is_ready, "no service")
    future = client.call_async(Trigger.Request())
    party.until(future.done, "no answer")
    assert future.result().success


def test_an_action_ends_when_another_thread_says_so(party: Party) -> None:
    end: Future = Future()

    async def execute(handle: object) -> ReachGoal.Result:
        await end
        handle.succeed()  # type: ignore[attr-defined]
        return ReachGoal.Result(message="there")

    server = ActionServer(party.a, ReachGoal, "wm/reach_goal", execute)
    client = ActionClient(party.b, ReachGoal, "wm/reach_goal")
    party.until(client.server_is_ready, "no server")
    sent = client.send_goal_async(ReachGoal.Goal())
    party.until(sent.done, "goal not answered")
    result = sent.result().get_result_async()

    def finish() -> None:
        end.set_result(None)
        party.executor.wake()

    thread = threading.Thread(target=finish)
    thread.start()
    party.until(result.done, "the result never came")
    thread.join()
    assert result.result().result.message == "there"
    client.destroy()
    server.destroy()


def test_a_task_made_by_a_task_runs_without_another_wake_up(party: Party) -> None:
    ran: list[str] = []
    create = party.executor.create_task
    create(lambda: create(lambda: create(lambda: ran.append("third"))))
    party.until(lambda: ran, "the last task never ran")


def test_what_is_created_or_destroyed_while_it_spins_is_noticed(party: Party) -> None:
    heard: list[JointState] = []
    late: list[JointState] = []
    first = listen(party.b, heard)
    party.met()
    party.joints.publish(joints(1))
    party.until(lambda: heard, "the first reader hears nothing")
    party.b.destroy_subscription(first)
    listen(party.b, late)
    count = len(heard)

    def again() -> object:
        party.joints.publish(joints(2))
        return late

    party.until(again, "the second reader hears nothing")
    assert len(heard) == count


def test_what_is_waited_for_lives_until_the_wait_is_over(party: Party) -> None:
    subscription = listen(party.b, [])
    party.executor.spin_once(timeout_sec=0.01)
    party.executor.spin_once(timeout_sec=0.01)
    party.b.destroy_subscription(subscription)
    assert subscription.handle.pointer != 0, "destroyed while a wait may use it"
    party.executor.spin_once(timeout_sec=0.01)
    party.executor.spin_once(timeout_sec=0.01)
    assert subscription.handle.pointer == 0, "never destroyed"


def test_an_error_in_a_callback_ends_the_spinning(party: Party) -> None:
    def fail() -> None:
        raise ValueError("broken callback")

    party.a.create_timer(0.01, fail, clock=STEADY)
    with pytest.raises(ValueError, match="broken callback"):
        party.until(lambda: False, "no error came out")


def test_a_mailbox_keeps_all_in_order_and_wakes_nobody(party: Party) -> None:
    box = Mailbox(party.b, "joint_states", depth=10)
    party.met()

    def nobody_woke() -> bool:
        """Send five and wait four times: a message that wakes the executor ends the waits early, every time."""
        list(box.take())
        for second in range(1, 6):
            party.joints.publish(joints(second))
        begin = time.monotonic()
        for _ in range(4):
            party.executor.spin_once(timeout_sec=0.05)
        return time.monotonic() - begin > 0.19

    wait_until(nobody_woke, 15.0, "four waits in a row to their end; discovery may wake it now and then, messages must not")
    found: list[tuple[JointState, dict[str, int]]] = []
    party.until(lambda: found.extend(box.take()) or len(found) >= 5, "messages are missing")
    assert [message.header.stamp.sec for message, _ in found] == [1, 2, 3, 4, 5]
    received = [info["received_timestamp"] for _, info in found]
    assert received == sorted(received) and received[0] > 0
    assert list(box.take()) == []


def test_recent_gives_the_neighbours_of_a_moment_and_begins_anew_with_time(party: Party) -> None:
    recent = Recent(party.b, "joint_states", depth=10)
    party.met()
    assert recent.newest() is None and recent.around(0) == []

    def send(*seconds: int) -> None:
        for second in seconds:
            party.joints.publish(joints(second))

            def there(wanted: int = second) -> bool:
                newest = recent.newest()
                return newest is not None and newest.header.stamp.sec == wanted

            party.until(there, f"message {second} is missing")

    send(10, 20, 30)
    near = [message.header.stamp.sec for message in recent.around(25 * 10**9)]
    assert near == [20, 30]
    assert [message.header.stamp.sec for message in recent.around(30 * 10**9)] == [30]
    send(1)
    assert [message.header.stamp.sec for message in recent.around(25 * 10**9)] == [1]


def test_the_stamp_is_read_from_the_bytes() -> None:
    message = joints(7)
    message.header.stamp.nanosec = 999_999_999
    assert stamp_of(serialize_message(message)) == 7_999_999_999


@pytest.mark.parametrize("name", sorted(topic.name for topic in qos.TOPICS))
def test_a_mailbox_hears_every_topic_and_acknowledges_only_what_is_rare(name: str) -> None:
    offered, wanted = qos.profile(name), qos.mailbox_profile(name, 50)
    compatible, reason = qos_check_compatible(offered, wanted)
    assert compatible != QoSCompatibility.ERROR, reason
    assert wanted.depth >= 50
    reliable = wanted.reliability == ReliabilityPolicy.RELIABLE
    assert reliable == (qos.topic(name).reliable and name not in qos.CONTROL_RATE)

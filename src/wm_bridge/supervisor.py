"""Starts the graph as one process per node, watches it, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from wm_bridge import graph as description
from wm_bridge import resources
from wm_bridge.cli.domain import claim_domain_id
from wm_bridge.cli.environment import run_environment
from wm_bridge.core.settings import read_value
from wm_bridge.errors import UserError
from wm_bridge.graph import NodeEntry, Parameter

_POLL_S = 0.05
_RESPAWN_S = 1.0
_RESPAWNS = 5  # in a row, each within ten seconds
_ESCALATION = ((signal.SIGINT, 6.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))
_MISCONFIGURED = 2  # exit code of a node that would fail again
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Death:
    """A node that ended although nobody asked it to.

    Attributes:
        name: of the node. code: exit code, negative = signal. tail: last lines of its log.
        respawned: it was started again.
    """

    name: str
    code: int
    tail: str
    respawned: bool

    def __str__(self) -> str:
        """One line, with the end of the log when it failed."""
        how = f"was killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"ended with code {self.code}"
        again = "; started again" if self.respawned else ""
        return f"{self.name} {how}{again}" + (f"\n{self.tail}" if self.tail else "")


class Graph:
    """The running graph; a context manager that stops it on the way out.

    Nodes run in process groups of their own, get SIGKILL when this process dies, and share
    a ROS domain that no other graph of this machine uses.

    Attributes:
        domain: its ROS_DOMAIN_ID. run_dir: logs, parameters, and the bag lie here.
        env: environment for further processes that want to talk to it.
        deaths: what ended unasked, oldest first.
    """

    def __init__(
        self,
        nodes: tuple[NodeEntry, ...],
        run_dir: Path,
        say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        self.nodes = {entry.name: entry for entry in nodes}
        self.run_dir = run_dir
        self.deaths: list[Death] = []
        self._say = say
        self._stack = ExitStack()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, list[float]] = {}
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        logs = run_dir / "logs"
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to {run_dir}: {error}", "choose a writable folder", 2) from error
        if "ROS_DOMAIN_ID" in os.environ:
            self.domain = int(os.environ["ROS_DOMAIN_ID"])
        else:
            self.domain = self._stack.enter_context(claim_domain_id())
        venv = Path(sys.prefix)
        self.env = run_environment(resources.root(), venv, os.environ)
        self.env.update(ROS_DOMAIN_ID=str(self.domain), ROS_LOG_DIR=str(logs), PYTHONUNBUFFERED="1")
        self.env.setdefault("RCUTILS_LOGGING_BUFFERED_STREAM", "0")
        package_parent = str(Path(__file__).resolve().parents[1])
        found = self.env.get("PYTHONPATH", "").split(os.pathsep)
        if package_parent not in found:
            self.env["PYTHONPATH"] = os.pathsep.join([package_parent, *filter(None, found)])

    @classmethod
    def start(
        cls,
        profile: str = "sim",
        overrides: Mapping[str, Mapping[str, Parameter]] | None = None,
        run_dir: Path | None = None,
        skip: Iterable[str] = (),
        ready_s: float = 60.0,
        say: Callable[[str], None] | None = None,
        cameras: Sequence[str] = ("camera",),
        namespace: str = "",
        tf_prefix: str = "",
        also: Iterable[str] = (),
    ) -> Graph:
        """Start all nodes of a profile, group by group, and wait until each of them is there.

        Args:
            profile: ``sim`` or ``robot``. overrides: parameters per node.
            run_dir: for logs and bag; None = ``runs/<date-time>``. skip: nodes to leave out.
            ready_s: longest time to wait for the nodes of a group.
            say: gets one line per event; standard error by default.
            cameras: camera nodes, the one that is planned from first.
            namespace, tf_prefix: of this graph, see `graph.load`.
            also: optional nodes to start as well.

        Raises:
            UserError: a node could not start; with the end of its log.
        """
        run_dir = (run_dir or Path("runs") / time.strftime("%Y%m%d-%H%M%S")).absolute()
        given = {name: dict(values) for name, values in (overrides or {}).items()}
        if "recorder" not in tuple(skip):
            given.setdefault("recorder", {}).setdefault("path", str(run_dir / "bag"))
        nodes = description.load(profile, given, skip, cameras=cameras, namespace=namespace, tf_prefix=tf_prefix, also=also)
        running = cls(nodes, run_dir) if say is None else cls(nodes, run_dir, say)
        try:
            running._watcher.start()
            for group in description.stages(nodes):
                with running._lock:
                    for entry in group:
                        running._launch(entry)
                running._wait_until_ready(ready_s, [entry.full_name for entry in group])
        except BaseException:
            running.stop()
            raise
        return running

    def stop(self) -> None:
        """End every node, the last started first; returns when no process is left."""
        self._stopping.set()
        if self._watcher.is_alive() and threading.current_thread() is not self._watcher:
            self._watcher.join()
        with self._lock:
            # Planner and the rest at once, then safety (which brakes), the driver, the recorder.
            rest = list(self.nodes)
            while rest and not self.nodes[rest[-1]].required:
                self._tell(rest.pop())
            for name in reversed(list(self.nodes)):
                self._end(name, told=name not in rest)
        self._stack.close()

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one node (for tests of what happens then)."""
        self.process(name).send_signal(number)

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """Return the process of a node."""
        if name not in self._running:
            raise KeyError(f"no node {name!r}; running are {sorted(self._running)}")
        return self._running[name]

    def alive(self, name: str) -> bool:
        """True while the node's process runs."""
        return name in self._running and self._running[name].poll() is None

    def check(self) -> None:
        """Raise when a required node has died.

        Raises:
            UserError: with the end of the node's log.
        """
        for death in self.deaths:
            if not death.respawned and self.nodes[death.name].required:
                raise UserError(str(death), f"see {self.log(death.name)}")

    def log(self, name: str) -> Path:
        """Return the log file of a node."""
        return self.run_dir / "logs" / f"{name}.log"

    def __enter__(self) -> Graph:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Inside -------------------------------------------------------------------------------

    def _launch(self, entry: NodeEntry) -> None:
        own = self.run_dir / "logs" / f"{entry.name}.yaml"
        own.write_text(description.parameter_file(entry), encoding="utf-8")
        files = [str(resources.path(file)) for file in entry.parameter_files] + [str(own)]
        command = [sys.executable, "-m", entry.module, "--ros-args", "--disable-external-lib-logs"]
        command += ["-r", f"__node:={entry.name}"] + (["-r", f"__ns:=/{entry.namespace}"] if entry.namespace else [])
        for file in files:
            command += ["--params-file", file]
        with self.log(entry.name).open("ab") as log:
            self._running[entry.name] = subprocess.Popen(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()),
            )
        self._started.setdefault(entry.name, []).append(time.monotonic())

    def _wait_until_ready(self, timeout_s: float, names: Sequence[str]) -> None:
        """A node is there when its diagnostics are; asked by a small process of its own."""
        command = [sys.executable, "-m", "wm_bridge.ros.await_nodes", str(timeout_s), *names]
        waiter = subprocess.Popen(
            command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent(os.getpid()),
        )  # fmt: skip
        try:
            while waiter.poll() is None:
                time.sleep(_POLL_S)
                with self._lock:
                    dead = [death for death in self.deaths if not death.respawned]
                if dead:
                    raise UserError(f"the graph did not start: {dead[0]}", f"see {self.log(dead[0].name)}")
            if waiter.returncode:
                text = waiter.stdout.read().decode(errors="replace").strip() if waiter.stdout else ""
                raise UserError(f"the graph did not start: {text}", f"see the logs in {self.run_dir / 'logs'}")
        finally:
            if waiter.poll() is None:
                waiter.kill()
            waiter.wait()
            if waiter.stdout:
                waiter.stdout.close()

    def _watch(self) -> None:
        """Notice deaths; start again what may be."""
        while not self._stopping.wait(_POLL_S):
            with self._lock:
                for name, process in list(self._running.items()):
                    code = process.poll()
                    if code is not None:
                        self._bury(name, code)

    def _bury(self, name: str, code: int) -> None:
        del self._running[name]
        now = time.monotonic()
        recent = [at for at in self._started[name] if now - at < 10.0 * _RESPAWNS]
        again = self.nodes[name].respawn and code != _MISCONFIGURED and len(recent) <= _RESPAWNS
        lines = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        self.deaths.append(Death(name, code, "\n".join(lines[-8:]), again))
        self._say(str(self.deaths[-1]))
        if again and not self._stopping.wait(_RESPAWN_S):
            self._launch(self.nodes[name])

    def _tell(self, name: str) -> None:
        """Ask a node to end, without waiting."""
        if name in self._running:
            _signal_group(self._running[name], signal.SIGCONT)  # a stopped process takes no other
            _signal_group(self._running[name], signal.SIGINT)

    def _end(self, name: str, told: bool) -> None:
        if not told:
            self._tell(name)
        process = self._running.pop(name, None)
        if process is None:
            return
        for number, patience in _ESCALATION:
            if number != signal.SIGINT:
                _signal_group(process, number)
            try:
                process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                self._say(f"{name} did not end within {patience:.0f} s of {number.name}")
        _signal_group(process, signal.SIGKILL)  # whatever it may have started itself


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _die_with_parent(parent: int) -> Callable[[], None]:
    """What the child does first: ask the kernel for SIGKILL when this process dies."""
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return prepare


def main(argv: list[str] | None = None) -> int:
    """Run the graph until Ctrl-C: ``python -m wm_bridge.supervisor [profile] [cameras=camera,camera2] [+node ...] [node.parameter=value ...]``.

    ``+view`` starts an optional node.
    """
    words = sys.argv[1:] if argv is None else argv
    profile, cameras = "sim", ["camera"]
    overrides: dict[str, dict[str, Parameter]] = {}
    also = [word[1:] for word in words if word.startswith("+")]
    stop = threading.Event()
    try:
        for word in (word for word in words if not word.startswith("+")):
            key, found, value = word.partition("=")
            if not found:
                profile = word
                continue
            if key == "cameras":
                cameras = value.split(",")
                continue
            node, _, name = key.partition(".")
            overrides.setdefault(node, {})[name] = read_value(value, key)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        with Graph.start(profile, overrides, cameras=cameras, also=also) as graph:
            print(f"running in ROS_DOMAIN_ID={graph.domain}, logs in {graph.run_dir}; Ctrl-C stops", flush=True)
            while not stop.wait(0.2):
                graph.check()
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

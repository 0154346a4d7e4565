"""stable-worldmodel's solvers, installed from PyPI into an environment of their own.

They run in this process on the torch and numpy of .venv, so that both planners share model,
threads and clock. That works because a solver needs torch, numpy, gymnasium and loguru alone.
The package's top level imports torchvision and lancedb besides; torchvision brings a CUDA build
that does not fit a CPU torch. So the top level is not run: an empty module of its name stands in
for it, and the solvers are imported from the installed files as they are.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from wm_bridge import resources
from wm_bridge.errors import UserError

PACKAGE = "stable_worldmodel"


def solvers() -> ModuleType:
    """The module ``stable_worldmodel.solver``; installs it when it is missing or outdated.

    Raises:
        UserError: pip failed.
    """
    if PACKAGE not in sys.modules:
        sys.path.append(str(installed(resources.path("requirements/peers.txt"), resources.root() / "build" / "peers")))
        found = importlib.util.find_spec(PACKAGE)
        assert found is not None and found.submodule_search_locations is not None
        top = ModuleType(PACKAGE)
        top.__path__ = list(found.submodule_search_locations)
        sys.modules[PACKAGE] = top
    return importlib.import_module(f"{PACKAGE}.solver")


def installed(pins: Path, venv: Path) -> Path:
    """The site-packages folder of ``venv``, which holds what ``pins`` lists and nothing that pulls."""
    wanted = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    stamp = venv / "pins.sha256"
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"installing {PACKAGE} into {venv}")
        python = venv / "bin" / "python"
        _run([sys.executable, "-m", "venv", "--clear", str(venv)])
        _run([str(python), "-m", "pip", "install", "--no-input", "--quiet", "--no-deps", "-r", str(pins)])
        stamp.write_text(wanted)
    (site,) = venv.glob("lib/python3.*/site-packages")
    return site


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise UserError(f"cannot install the peer: {last[0]}", "the first run needs a connection to PyPI", exit_code=2)

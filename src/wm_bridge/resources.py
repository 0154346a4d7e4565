"""Where the files that ship beside the code are found.

In a checkout they lie in the repository root (``config/``, ``urdf/`` ...). After an
installation (wheel or colcon) they lie in ``<prefix>/share/wm_bridge/``. Code asks here
and never writes a path itself.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

_MARKER = Path("urdf") / "nico.urdf"


def root() -> Path:
    """Return the folder that holds ``config/``, ``urdf/`` and the other shipped folders.

    Raises:
        FileNotFoundError: when neither a checkout nor an installed share folder is found.
    """
    here = Path(__file__).resolve()
    for parent in here.parents:
        for candidate in (parent, parent / "share" / "wm_bridge"):
            if (candidate / _MARKER).is_file():
                return candidate
    raise FileNotFoundError(
        f"no folder above {here} holds {_MARKER} or share/wm_bridge/{_MARKER}; "
        "run from a complete checkout or install the package with its data files"
    )


def path(relative: str | Path) -> Path:
    """Return the absolute path of a shipped file or folder, for example ``urdf/nico.urdf``.

    Raises:
        FileNotFoundError: when it does not exist.
        ValueError: when ``relative`` is absolute or leaves the root.
    """
    relative = Path(relative)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"expected a path relative to the repository root, got {relative}")
    found = root() / relative
    if not found.exists():
        raise FileNotFoundError(f"{relative} is not among the shipped files in {root()}")
    return found


def git_revision() -> str:
    """Short revision of the checkout, with ``+`` when it has changes; "unknown" without git."""
    checkout = root()
    try:
        revision = subprocess.run(
            ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "-C", str(checkout), "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision + ("+" if dirty else "")

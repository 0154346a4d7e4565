"""What packages bring along and no program of this project ever opens: a third of the environment.

The wheels carry C++ headers, their own test suites, and every shared library once per name it goes
by (a wheel cannot hold links) and per package that brings it. Only what the table names is removed; Python modules outside
of test suites stay, except models of transformers that no encoder of ours is. Trimming again finds nothing left to do.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TEST_SUITES = ("numpy", "scipy", "sympy", "networkx", "matplotlib", "mpl_toolkits", "cvxpy", "numba", "llvmlite")
TRANSFORMERS = ("__init__.py", "__pycache__", "auto", "dinov2", "dinov2_with_registers", "dinov3_vit", "vjepa2")


@dataclass(frozen=True)
class Unused:
    """Files or folders that may go.

    Attributes:
        pattern: below site-packages, as of ``Path.glob``.
        reason: who would miss them, and why that is nobody here.
        keep: names among them that stay.
    """

    pattern: str
    reason: str
    keep: tuple[str, ...] = ()


UNUSED = (
    Unused("cmeel.prefix/include", "headers of pinocchio, coal and boost: only C++ programs include them"),
    Unused("cmeel.prefix/lib/*.a", "static libraries: as above"),
    Unused("torch/include", "headers for C++ extensions and for torch.compile on a CPU, neither of which is used"),
    Unused("torch/test", "test programs of torch"),
    Unused("torch/bin/test_*", "test programs of torch"),
    Unused("torch/bin/*Test", "test programs of torch"),
    Unused("torch/bin/protoc*", "compiler for torch's own build"),
    Unused("mujoco/studio", "MuJoCo's viewer program: pictures are drawn by the plain renderer, people look at RViz"),
    Unused("pyrealsense2/pyrealdds.*", "cameras behind a network by RealSense's own DDS; ours are on USB or in a recording"),
    Unused("cmake/data/bin/cpack", "packs installers: messages are built, never packed"),
    Unused("cmake/data/bin/ctest", "runs C++ tests: the messages have none"),
    Unused("cmake/data/share/cmake-*/Help", "cmake's manual"),
    Unused("scs/_scs_mkl.*", "scs with Intel MKL inside: scs takes its own QDLDL where this is missing, and we call CLARABEL"),
    Unused("transformers/models/*", "some 500 models, of which a V-JEPA 2 or DINO encoder is one each (wm_planner/vjepa/pretrained.py)", TRANSFORMERS),
    Unused("hf_xet/*.so", "downloads from the Hugging Face Hub, and nothing here goes online"),
    Unused("material/templates/.icons/*", "icons that a page may ask for and none does; the theme's own are of one of the families", ("material", "logo.svg")),
    Unused("babel/locale-data/*", "dates and numbers of some thousand regions; pages are in English", ("root.dat", "en.dat", "LICENSE.unicode")),
    Unused("viser/client/src", "source of viser's page; what browsers get is client/build"),
    *(Unused(f"{package}/**/tests", "test suite of the package") for package in _TEST_SUITES),
)


def trim(venv: Path) -> None:
    """Remove what the table names and make equal libraries one file.

    Args:
        venv: the virtual environment. Links in it are never followed.
    """
    for site in venv.glob("lib/python3.*/site-packages"):
        for path in (path for item in UNUSED for path in sorted(site.glob(item.pattern)) if path.name not in item.keep):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)  # gone already with the folder around it
    for names in _families(venv / "lib"):
        for other in names[1:]:
            _join(names[0], other)


def _families(folder: Path) -> Iterator[list[Path]]:
    """Libraries of equal size and name, whatever the version in it: libX.so, libX.so.1, libX.so.1.2."""
    found: dict[tuple[str, int], list[Path]] = defaultdict(list)
    for base, _, files in os.walk(folder):
        for name in files:
            stem, so, version = name.partition(".so")
            path = Path(base, name)
            if so and version[:1] in ("", ".") and not path.is_symlink():
                found[stem, path.stat().st_size].append(path)
    return (sorted(paths) for paths in found.values() if len(paths) > 1)


def _join(first: Path, other: Path) -> None:
    """Make two equal files hard links of one; for every program they are what they were before."""
    if first.samefile(other) or first.read_bytes() != other.read_bytes():
        return
    spare = other.with_name(f"{other.name}.new")
    spare.unlink(missing_ok=True)
    spare.hardlink_to(first)
    spare.replace(other)

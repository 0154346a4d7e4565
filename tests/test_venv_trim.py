"""What is left out of the virtual environment, and that nobody misses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from wm_bridge.cli import venv_setup, venv_trim

# Whoever lost something: packages whose headers, test suites or libraries are trimmed, and what stands on them.
MODULES = """torch torch.testing torch.distributed torch.fx pinocchio coal numpy.testing scipy.stats scipy.optimize scipy.spatial
sympy networkx matplotlib.figure mpl_toolkits cv2 mujoco mujoco.viewer pyrealsense2 rclpy
transformers.models.vjepa2.modeling_vjepa2 hypothesis.extra.numpy""".split()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A small site-packages with something of everything that the table names, and neighbours of it."""
    site = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    for name in (
        "torch/include/ATen/a.h", "torch/bin/test_api", "torch/bin/FileStoreTest", "torch/bin/protoc-3", "torch/bin/torch_shm_manager",
        "torch/testing/__init__.py", "cmeel.prefix/include/boost/any.hpp", "cmeel.prefix/lib/libqhull.a", "cmeel.prefix/lib/libqhull.so",
        "scs/_scs_mkl.cpython-311.so", "scs/_scs_direct.cpython-311.so", "scipy/stats/tests/data/deep.npz", "scipy/stats/stats.py",
        "numpy/testing/tests/test_a.py", "numpy/testing/utils.py", "pytest/tests/kept.py", "mujoco/studio/studio.so", "mujoco/viewer.py",
        "pyrealsense2/pyrealdds.so", "pyrealsense2/pyrealsense2.so", "cmake/data/bin/cpack", "cmake/data/bin/cmake",
        "cmake/data/share/cmake-4.4/Help/a.rst", "cmake/data/share/cmake-4.4/Modules/a.cmake",
        "transformers/models/__init__.py", "transformers/models/vjepa2/modeling.py", "transformers/models/bert/modeling.py",
    ):  # fmt: skip
        file = site / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return site


def files(site: Path) -> set[str]:
    return {str(path.relative_to(site)) for path in site.rglob("*") if not path.is_dir()}


def test_only_what_the_table_names_goes(site):
    venv_trim.trim(site.parents[2])
    assert files(site) == {
        "torch/bin/torch_shm_manager", "torch/testing/__init__.py", "cmeel.prefix/lib/libqhull.so", "scs/_scs_direct.cpython-311.so",
        "scipy/stats/stats.py", "numpy/testing/utils.py", "pytest/tests/kept.py", "mujoco/viewer.py", "pyrealsense2/pyrealsense2.so",
        "cmake/data/bin/cmake", "cmake/data/share/cmake-4.4/Modules/a.cmake",
        "transformers/models/__init__.py", "transformers/models/vjepa2/modeling.py",
    }  # fmt: skip


def test_a_link_goes_and_what_it_leads_to_stays(site, tmp_path):
    mine = tmp_path / "mine" / "header.h"
    mine.parent.mkdir()
    mine.write_text("my work")
    (site / "torch/test").symlink_to(mine.parent)
    (site / "scipy/tests").symlink_to(mine.parent)
    venv_trim.trim(site.parents[2])
    assert mine.read_text() == "my work" and not (site / "torch/test").is_symlink()


def test_equal_libraries_become_one_file_and_different_ones_stay_apart(site):
    lib = site / "cmeel.prefix/lib"
    for name, text in {"libx.so": "x1", "libx.so.1": "x1", "libx.so.1.2": "x1", "libx.so.2": "x2", "liby.so": "x1", "libx.so-notes": "x1"}.items():
        (lib / name).write_text(text)
    venv_trim.trim(site.parents[2])
    assert {name: (lib / name).stat().st_nlink for name in ("libx.so", "libx.so.1", "libx.so.1.2", "libx.so.2", "liby.so", "libx.so-notes")} == {
        "libx.so": 3, "libx.so.1": 3, "libx.so.1.2": 3, "libx.so.2": 1, "liby.so": 1, "libx.so-notes": 1,
    }  # fmt: skip
    assert (lib / "libx.so.1.2").read_text() == "x1" and (lib / "libx.so.2").read_text() == "x2"


def test_trimming_again_touches_nothing(site):
    (site / "cmeel.prefix/lib/libqhull.so.8").write_text((site / "cmeel.prefix/lib/libqhull.so").read_text())
    venv_trim.trim(site.parents[2])

    def state() -> dict[str, tuple[int, int]]:
        return {name: ((site / name).stat().st_ino, (site / name).stat().st_ctime_ns) for name in files(site)}

    before = state()
    venv_trim.trim(site.parents[2])
    assert state() == before


def test_a_longer_table_trims_an_environment_that_exists(monkeypatch):
    def keys() -> dict[str, str]:
        return {step.name: step.key for step in venv_setup.steps(ROOT, Path(sys.prefix), dev=True, native=False)}

    before = keys()
    monkeypatch.setattr(venv_trim, "UNUSED", (*venv_trim.UNUSED, venv_trim.Unused("nothing", "a test")))
    assert {name for name, key in keys().items() if key != before[name]} == {"trim"}


@pytest.mark.slow
def test_this_environment_is_trimmed_and_whole():
    sites = list(Path(sys.prefix).glob("lib/python3.*/site-packages"))
    left = [path for item in venv_trim.UNUSED for site in sites for path in site.glob(item.pattern) if path.name not in item.keep]
    assert not left, "run ./wm test, which brings the environment up to date"
    done = subprocess.run([sys.executable, "-c", f"import {', '.join(MODULES)}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_scs_does_without_the_library_that_was_removed():
    """cvxpy offers SCS: it has to work, with the solver that scs falls back to."""
    cvxpy = pytest.importorskip("cvxpy")
    x = cvxpy.Variable(2)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(x - 1.0)), [x <= 0.5])
    problem.solve(solver=cvxpy.SCS)
    assert x.value == pytest.approx([0.5, 0.5], abs=1e-3)

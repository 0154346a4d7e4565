"""The cameras' tests on V4L2 devices of a real kernel, in a virtual machine: it needs no rights, no camera and no KVM.

    sudo apt-get install qemu-system-x86 busybox-static kmod v4l-utils linux-image-amd64
    .venv/bin/python tests/v4l2_guest.py                  # all of tests/v4l2_camera.py, some minutes
    .venv/bin/python tests/v4l2_guest.py -k unplugged     # other arguments go to pytest

The guest is Debian's kernel and this machine's own files, read-only below a layer in memory: the same Python, the same
packages, the same code at the same paths; what it writes is gone with it. A kernel that is not installed will do:
`apt-get download linux-image-6.1.0-56-amd64`, `dpkg -x *.deb FOLDER`, then `--kernel FOLDER` (the cloud flavours have
no video devices).
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "modprobe": "kmod", "depmod": "kmod", "v4l2-ctl": "v4l-utils"}
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")  # what it takes to see this machine's files
_DONE = "the guest ends with"

INIT = """#!/busybox sh
/busybox mkdir -p /proc /sys /dev /below /above /all
/busybox mount -t proc proc /proc
for module in /modules/*; do /busybox insmod $module || echo no $module; done
/busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 files /below
/busybox mount -t tmpfs memory /above
/busybox mkdir /above/new /above/work
/busybox mount -t overlay -o lowerdir=/below,upperdir=/above/new,workdir=/above/work files /all
/busybox mount -t proc proc /all/proc
/busybox mount -t sysfs sysfs /all/sys
/busybox mount -t devtmpfs devices /all/dev
/busybox mkdir -p /all/dev/shm
/busybox mount -t tmpfs memory /all/dev/shm
/busybox ip link set lo up
/busybox chroot /all /bin/sh -s <<'END'
cd {folder}
export PATH={path} HOME=/tmp PYTHONPATH={pythonpath} PYTHONDONTWRITEBYTECODE=1 NUMBA_CACHE_DIR=/tmp/numba WM_KERNEL={kernel}
{command} </dev/null
echo "{done} $?"
END
/busybox poweroff -f
"""


class Missing(Exception):
    """What is not installed, and the remedy."""


def programs() -> None:
    """Raise where a program is missing."""
    missing = [name for name in PACKAGES if not found(name)]
    if missing:
        raise Missing(f"there is no {', '.join(missing)}: sudo apt-get install {' '.join(sorted({PACKAGES[name] for name in missing}))}")


def found(name: str) -> str | None:
    """Path of a program; those of the administrator count."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def newest_kernel(root: Path) -> tuple[Path, str]:
    """Image and version of the newest kernel below ``root`` that has virtual cameras."""
    versions = {path.parts[path.parts.index("modules") + 1] for path in root.glob("lib/modules/*/kernel/drivers/media/test-drivers/vivid/vivid.ko*")}
    usable = [version for version in versions if (root / f"boot/vmlinuz-{version}").is_file()]
    if not usable:
        raise Missing(f"no kernel with the module vivid in {root}: sudo apt-get install linux-image-amd64, or see --help for --kernel")
    version = max(usable, key=lambda text: [int(number) for number in re.findall(r"\d+", text)])
    if not os.access(root / f"boot/vmlinuz-{version}", os.R_OK):
        raise Missing(f"{root / f'boot/vmlinuz-{version}'} is for the administrator alone: sudo chmod a+r, or see --help for --kernel")
    if not (root / "lib/modules" / version / "modules.dep").is_file():
        subprocess.run([str(found("depmod")), "-b", str(root), version], check=True)
    return root / f"boot/vmlinuz-{version}", version


def archive(kernel: Path, version: str, command: list[str]) -> bytes:
    """The first file system of the guest (cpio, gzip): busybox, the modules in their order, and init."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "modules").mkdir()
        ordered: list[str] = []
        for module in MODULES:
            told = subprocess.run([str(found("modprobe")), "-d", str(kernel), "-S", version, "--show-depends", module], check=True, capture_output=True, text=True)
            ordered += [line.split()[1] for line in told.stdout.splitlines() if line.startswith("insmod") and line.split()[1] not in ordered]
        for place, path in enumerate(ordered):
            shutil.copy(path, folder / "modules" / f"{place:02d}-{Path(path).name}")
        shutil.copy(str(found("busybox")), folder / "busybox")
        script = INIT.format(
            folder=shlex.quote(str(ROOT)), path=shlex.quote(f"{os.environ['PATH']}:/usr/sbin:/sbin"), command=shlex.join(command),
            pythonpath=shlex.quote(f"{ROOT / 'src'}:{ROOT / 'tests'}"), kernel=shlex.quote(str(kernel)), done=_DONE,
        )  # fmt: skip
        (folder / "init").write_text(script)
        (folder / "init").chmod(0o755)
        names = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))) + "\n"
        packed = subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], input=names.encode(), cwd=folder, check=True, capture_output=True)
        return gzip.compress(packed.stdout, 1)


def boot(image: Path, first: Path, accelerator: str, memory: str) -> int:
    """Run the guest and show what it says; what its command returned, 1 when it never came to that."""
    command = [
        "qemu-system-x86_64", "-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", memory, "-nodefaults", "-no-reboot",
        "-display", "none", "-serial", "stdio", "-kernel", str(image), "-initrd", str(first),
        "-append", "console=ttyS0 quiet loglevel=3 panic=-1",
        "-virtfs", "local,path=/,mount_tag=files,security_model=none,readonly=on,multidevs=remap",
    ]  # fmt: skip
    code = 1
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, errors="replace") as guest:
        assert guest.stdout is not None
        for line in guest.stdout:
            if line.startswith(_DONE):
                code = int(line.split()[-1])
            else:
                print(line.rstrip("\n"), flush=True)
    return code


def main(argv: list[str]) -> int:
    """Pytest's exit code in the guest; 2 when something is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", type=Path, default=Path("/"), metavar="FOLDER", help="with boot/ and lib/modules/ of a kernel")
    parser.add_argument("--accel", default="tcg,thread=multi", help="as of qemu: kvm where there is one")
    parser.add_argument("--memory", default="3G", help="of the guest")
    parser.add_argument("--run", metavar="COMMAND", help="a command instead of the tests, for a look around")
    arguments, more = parser.parse_known_args(argv)
    command = shlex.split(arguments.run) if arguments.run else [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "tests/v4l2_camera.py", *more]
    try:
        programs()
        kernel = arguments.kernel.resolve()
        image, version = newest_kernel(kernel)
        with tempfile.NamedTemporaryFile(suffix=".gz") as first:
            first.write(archive(kernel, version, command))
            first.flush()
            return boot(image, Path(first.name), arguments.accel, arguments.memory)
    except Missing as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

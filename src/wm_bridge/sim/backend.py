"""Import of MuJoCo with a render backend that works on this machine."""

from __future__ import annotations

import ctypes
import os
from typing import Any


def load_mujoco() -> Any:
    """Return the ``mujoco`` module, having chosen how it draws without a screen.

    An explicit ``MUJOCO_GL`` is respected. Otherwise EGL is taken where a display can be
    opened, else OSMesa (software). The choice must be made before the first import of MuJoCo
    in the process, so every file of this package imports it through here.
    """
    if not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = "egl" if egl_works() else "osmesa"
    if os.environ["MUJOCO_GL"] in ("egl", "osmesa"):
        os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])
    import mujoco

    return mujoco


def egl_works() -> bool:
    """True when an EGL device of this machine (a GPU or Mesa's software one) can be initialised."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    query = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    display = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    if not query or not display:
        return False
    query = ctypes.CFUNCTYPE(integer, integer, pointer, pointer)(query)
    display = ctypes.CFUNCTYPE(pointer, integer, pointer, pointer)(display)
    egl.eglInitialize.argtypes = [pointer, pointer, pointer]
    devices, count = (pointer * 16)(), integer(0)
    if not query(16, ctypes.addressof(devices), ctypes.addressof(count)):
        return False
    platform_device = 0x313F  # EGL_PLATFORM_DEVICE_EXT
    return any(
        (handle := display(platform_device, device, None))
        and egl.eglInitialize(handle, None, None)
        for device in devices[: count.value]
    )

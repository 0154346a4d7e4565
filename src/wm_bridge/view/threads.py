"""Messages to the page may be sent from any thread.

viser sets an ``asyncio.Event`` of its message buffers in the thread that sends, while the loop's thread may be changing the
list of those who wait for it: with several pages open that raises ``deque mutated during iteration`` now and then, in the
sender. The events of ``use_loop_events`` wake nobody from outside of the loop; viser asks the loop to do that right after.
"""

from __future__ import annotations

import asyncio
from typing import Any

from viser.infra._async_message_buffer import AsyncMessageBuffer

_MARK = "_wm_loop_events"


class LoopEvent(asyncio.Event):
    """Set from outside of a running loop it is only marked; set within the loop it wakes all, also when it was marked."""

    def set(self) -> None:
        """See the class."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._value = True
            return
        self._value = False
        super().set()


def use_loop_events() -> None:
    """All message buffers that viser makes from now on have such events."""
    if hasattr(AsyncMessageBuffer, _MARK):
        return
    original = AsyncMessageBuffer.__init__

    def initialise(buffer: Any, *arguments: Any, **keywords: Any) -> None:
        original(buffer, *arguments, **keywords)
        if not isinstance(buffer.message_event, asyncio.Event):
            raise RuntimeError("viser's message buffers no longer have a message_event; see wm_bridge/view/threads.py")
        buffer.message_event = LoopEvent()

    AsyncMessageBuffer.__init__ = initialise  # type: ignore[method-assign]
    setattr(AsyncMessageBuffer, _MARK, True)

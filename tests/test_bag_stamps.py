"""What is told about the times of a topic."""

from __future__ import annotations

import numpy as np
import pytest

from wm_bridge.bags.stamps import findings

MS = 1_000_000
EVEN = [k * 50 * MS for k in range(100)]  # 20 Hz, 5 s


def told(stamps: list[int], logged: list[int] | None = None) -> str:
    return "\n".join(findings("camera", stamps, logged or [stamp + 3 * MS for stamp in stamps], 3 * MS))


def test_an_even_topic_is_not_mentioned_nor_one_with_jitter() -> None:
    assert told(EVEN) == ""
    jitter = np.random.default_rng(0).integers(-8 * MS, 8 * MS, len(EVEN))
    assert told([stamp + int(more) for stamp, more in zip(EVEN, jitter, strict=True)]) == ""


@pytest.mark.parametrize(
    ("stamps", "text"),
    [
        (EVEN[:40] + EVEN[60:], "1 gap, the longest 1.05 s at 1.95 s"),
        (EVEN[:40] + [EVEN[39]] + EVEN[40:], "1 message with the stamp of the one before, first at 1.95 s"),
        (EVEN[:50] + EVEN[50::3], "the rate changes from 20.0 to 6.7 Hz at"),
        (EVEN[:1], "camera: 1 message, nothing to judge"),
    ],
)
def test_what_is_odd_is_told_with_its_place(stamps: list[int], text: str) -> None:
    assert text in told(stamps)


def test_a_clock_that_jumps_is_told_and_is_no_gap() -> None:
    back = EVEN[:40] + [stamp - 5000 * MS for stamp in EVEN[40:]]
    assert "jumps back by 4.95 s at 2.00 s" in told(back, [stamp + 3 * MS for stamp in EVEN])
    forward = EVEN[:40] + [stamp + 5000 * MS for stamp in EVEN[40:]]
    text = told(forward, [stamp + 3 * MS for stamp in EVEN])
    assert "stamps jump by +5.00 s against the time of recording at 2.00 s" in text and "gap" not in text

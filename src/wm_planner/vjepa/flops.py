"""How much arithmetic a rollout costs: floating-point operations of its matrix products."""

from __future__ import annotations

from wm_planner.vjepa.config import ACConfig


def block_flops(config: ACConfig, queries: int, keys: int) -> int:
    """One block over ``queries`` tokens that look at ``keys`` tokens."""
    linear = 2 * queries * config.width * (4 * config.width + 2 * config.hidden)
    return linear + 4 * queries * keys * config.width


def ends_flops(config: ACConfig, frames: int) -> int:
    """Embedding or projecting the patches of ``frames`` frames."""
    return 2 * frames * config.patches * config.width * config.embed_dim


def cached_flops(config: ACConfig, horizon: int, known: int = 1) -> int:
    """One candidate of ``horizon`` frames with cached keys and values; what candidates share is not counted."""
    total = -2 * config.tokens * 3 * config.width**2  # the present frame's queries, keys and values in the first block
    for frame in range(known, known + horizon):
        total += config.depth * block_flops(config, config.tokens, frame * config.tokens)
    return total + ends_flops(config, horizon) + ends_flops(config, horizon - 1)


def recomputed_flops(config: ACConfig, horizon: int, known: int = 1) -> int:
    """The same when every step computes all frames so far, their masked attention included."""
    total = 0
    for frames in range(known, known + horizon):
        tokens = frames * config.tokens
        total += config.depth * block_flops(config, tokens, tokens) + 2 * ends_flops(config, frames)
    return total

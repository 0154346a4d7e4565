"""Exact cached rollouts of an AC predictor: one present, many futures, every frame computed once.

Attention is block-causal over frames, so the keys and values of a frame never change once its
action is known. Known frames before the present are the same for all candidates; of the present
frame the embedding and the first block's queries, keys and values are (its action token apart).
Candidates are worked through in chunks that fit the processor's cache or the GPU's memory. The
loop reads no value back from the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from wm_planner.errors import PlannerError
from wm_planner.vjepa.chunks import chunk_size
from wm_planner.vjepa.folded import FoldedBlock, fold, halves, turn
from wm_planner.vjepa.predictor import ACPredictor, normalise
from wm_planner.vjepa.rope import frame_table

Sink = Callable[[slice, int, Tensor], None]  # candidates, step, latents (C, N, D)


@dataclass(frozen=True)
class Present:
    """What all candidates share.

    Attributes:
        tokens: (M - 1, W) embedded state and patches of the present frame.
        qkv: (M - 1, 3W) of these in the first block, turned.
        past: per block, keys and values (2, heads, known * M, d) of the frames before.
    """

    tokens: Tensor
    qkv: Tensor
    past: tuple[Tensor, ...]

    @property
    def known(self) -> int:
        """Frames before the present one."""
        return self.past[0].shape[2] // (len(self.tokens) + 1)

    def tensors(self) -> tuple[Tensor, ...]:
        """All of it, one after the other."""
        return self.tokens, self.qkv, *self.past


class Rollout:
    """Futures of up to ``horizon`` frames; a snapshot of the model's weights.

    Args:
        model: the predictor; it may be changed afterwards without effect here.
        horizon: most frames imagined. context: most known frames, the present one included.
        dtype: of weights and products; the residual stream stays float32.
        chunk: candidates at a time; None chooses (``chunks.chunk_size``).
    """

    @torch.no_grad()
    def __init__(
        self,
        model: ACPredictor,
        horizon: int,
        context: int = 1,
        dtype: torch.dtype = torch.float32,
        chunk: int | None = None,
    ) -> None:
        self.config, self.horizon, self.context, self.dtype, self.chunk = model.config, horizon, context, dtype, chunk
        self.weights = fold(model, dtype)
        self.device = model.predictor_embed.weight.device
        self.chunks: dict[tuple[int, int], int] = {}
        self.tables = [halves(frame_table(self.config, t, self.device), dtype) for t in range(context - 1 + horizon)]

    @torch.no_grad()
    def begin(self, latents: Tensor, states: Tensor, actions: Tensor | None = None) -> Present:
        """Encode the context once.

        Args:
            latents: (T, N, D) known frames, layer-normed; the last is the present.
            states: (T, P) of these. actions: (T - 1, A) already taken between them; None for one frame.
        """
        known = len(latents) - 1
        self.check(latents, states, known)
        if (known if actions is None else len(actions) - known) != 0:
            raise PlannerError(f"{known + 1} known frames need the {known} actions between them")
        size = known * self.config.tokens
        past = [self.memory(1, size) for _ in self.weights.blocks]
        for t in range(known):
            assert actions is not None
            action = self.weights.action(actions[t : t + 1].to(self.dtype))
            x = torch.cat([action, self.embed(latents[t], states[t])]).float()
            for block, memory in zip(self.weights.blocks, past, strict=True):
                qkv = block.qkv(self.normal(x)).view(1, len(x), -1)
                self.turn(qkv, t)
                x = self.advance(block, x, qkv, memory, t)
        tokens = self.embed(latents[-1], states[-1])
        qkv = self.weights.blocks[0].qkv(self.normal(tokens.float()))[None]
        self.turn(qkv, known, slice(1, None))
        return Present(tokens, qkv[0], tuple(m[0] for m in past))

    @torch.no_grad()
    def unroll(self, present: Present, actions: Tensor, states: Tensor, sink: Sink, last_only: bool = False) -> None:
        """Imagine S futures chunk by chunk and hand every frame's latents to ``sink``.

        Args:
            actions: (S, H, A). states: (S, H, P) of the present and the imagined frames at which they are taken.
            sink: gets (candidates, step, float32 latents (C, N, D), layer-normed); step 0 is the first imagined frame.
            last_only: only the last frame is handed over.
        """
        count, horizon = actions.shape[:2]
        if not 1 <= horizon <= self.horizon or states.shape[:2] != actions.shape[:2]:
            raise PlannerError(
                f"expected actions (S, H, {self.config.action_dim}) and states (S, H, {self.config.state_dim}) with "
                f"H from 1 to {self.horizon}, got {tuple(actions.shape)} and {tuple(states.shape)}"
            )
        chunk = self.chunk_of(count, present.known + horizon)
        asked = self.weights.action(actions.to(self.dtype).flatten(0, 1)).view(count, horizon, -1)
        poses = self.weights.state(states.to(self.dtype).flatten(0, 1)).view(count, horizon, -1)
        memory = self.shared_memory(present, min(chunk, count), horizon)
        for start in range(0, count, chunk):
            these = slice(start, min(start + chunk, count))
            self.chunk_through(present, asked[these], poses[these], memory, these, sink, last_only)

    def chunk_of(self, count: int, frames: int) -> int:
        """Candidates at a time. Asked of the device once: it can not be asked while a graph is captured, whose chunks have to be these."""
        key = count, frames
        if key not in self.chunks:
            self.chunks[key] = self.chunk or chunk_size(self.config, frames, self.dtype, self.device, count)
        return self.chunks[key]

    def latents(self, present: Present, actions: Tensor, states: Tensor) -> Tensor:
        """(S, H, N, D) layer-normed float32 latents after each action; arguments as of ``unroll``."""
        shape = (*actions.shape[:2], self.config.patches, self.config.embed_dim)
        path = torch.empty(shape, device=self.device)

        def keep(these: slice, step: int, z: Tensor) -> None:
            path[these, step] = z

        self.unroll(present, actions, states, keep)
        return path

    def chunk_through(
        self,
        present: Present,
        asked: Tensor,
        poses: Tensor,
        memory: list[Tensor],
        these: slice,
        sink: Sink,
        last_only: bool,
    ) -> None:
        """All steps of one chunk of C candidates; ``asked`` and ``poses`` (C, H, W) are embedded."""
        count, horizon, width = asked.shape
        tokens = self.config.tokens
        x = torch.empty(count, tokens, width, device=self.device)
        z = x[:0]
        for step in range(horizon):
            x[:, 0] = asked[:, step]
            if step == 0:
                x[:, 1:] = present.tokens
            else:
                x[:, 1] = poses[:, step]
                x[:, 2:] = self.weights.embed(z.to(self.dtype).flatten(0, 1)).view(count, -1, width)
            flat = x.view(-1, width)
            for index, (block, kept) in enumerate(zip(self.weights.blocks, memory, strict=True)):
                if step == 0 and index == 0:
                    qkv = self.first_qkv(block, present, flat.view_as(x)[:, 0])
                else:
                    qkv = block.qkv(self.normal(flat)).view(count, tokens, -1)
                    self.turn(qkv, present.known + step)
                flat = self.advance(block, flat, qkv, kept[:count], present.known + step)
            patches = self.normal(flat.view(count, tokens, width)[:, 2:]).flatten(0, 1)
            z = normalise(self.weights.head(patches).float()).view(count, tokens - 2, -1)
            if step + 1 == horizon or not last_only:
                sink(these, step, z)

    def first_qkv(self, block: FoldedBlock, present: Present, action: Tensor) -> Tensor:
        """(C, M, 3W) of the present frame in the first block: only the action tokens (C, W) are new."""
        qkv = present.qkv.new_empty(len(action), self.config.tokens, present.qkv.shape[1])
        own = block.qkv(self.normal(action))[:, None]
        self.turn(own, present.known, slice(0, 1))
        qkv[:, :1] = own
        qkv[:, 1:] = present.qkv
        return qkv

    def advance(self, block: FoldedBlock, x: Tensor, qkv: Tensor, memory: Tensor, time: int) -> Tensor:
        """(C * M, W) through one block; stores keys and values (C, 2, heads, M, d) of frame ``time``."""
        count, tokens, width = qkv.shape[0], qkv.shape[1], x.shape[1]
        start = time * tokens
        memory[:, :, :, start : start + tokens] = qkv[..., width:].view(count, tokens, 2, self.config.heads, -1).permute(0, 2, 3, 1, 4)
        q = qkv[..., :width].view(count, tokens, self.config.heads, -1).transpose(1, 2)
        k, v = memory[:, :, :, : start + tokens].unbind(1)  # (C, heads, L, d)
        attended = attention(q, k, v).transpose(1, 2).reshape(-1, width)
        x = x + block.out(attended)
        return x.add_(block.down(block.up.gelu(self.normal(x))))

    def turn(self, qkv: Tensor, time: int, tokens: slice = slice(None)) -> None:
        """Rotate the queries and keys in (C, tokens of the frame, 3W) in place."""
        width = self.config.width
        both = qkv[..., : 2 * width].view(*qkv.shape[:-1], 2 * self.config.heads, -1)
        even_cos, odd_cos, even_sin, odd_sin = (t[tokens] for t in self.tables[time])
        turn(both, (even_cos, odd_cos, even_sin, odd_sin))

    def normal(self, x: Tensor) -> Tensor:
        """Layer norm without its scale (folded into the next weights), in the dtype of the products."""
        return functional.layer_norm(x, x.shape[-1:], eps=1e-6).to(self.dtype)

    def embed(self, latents: Tensor, state: Tensor) -> Tensor:
        """(M - 1, W) state and patch tokens of one frame."""
        return torch.cat([self.weights.state(state[None].to(self.dtype)), self.weights.embed(latents.to(self.dtype))])

    def memory(self, count: int, size: int) -> Tensor:
        """Room for keys and values of ``size`` tokens of ``count`` candidates."""
        shape = (count, 2, self.config.heads, size, self.config.head_dim)
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def shared_memory(self, present: Present, count: int, horizon: int) -> list[Tensor]:
        """One buffer per block, used by all chunks in turn; the known past is written once."""
        known = present.known * self.config.tokens
        buffers = [self.memory(count, known + horizon * self.config.tokens) for _ in self.weights.blocks]
        for buffer, past in zip(buffers, present.past, strict=True):
            buffer[:, :, :, :known] = past
        return buffers

    def check(self, latents: Tensor, states: Tensor, known: int) -> None:
        """Raise PlannerError unless the context has the model's shape."""
        config = self.config
        if latents.shape[1:] != (config.patches, config.embed_dim) or states.shape != (known + 1, config.state_dim):
            raise PlannerError(
                f"expected latents (T, {config.patches}, {config.embed_dim}) and states (T, {config.state_dim}), "
                f"got {tuple(latents.shape)} and {tuple(states.shape)}; encode the picture with the encoder of this model"
            )
        if known >= self.context:
            raise PlannerError(f"{known + 1} known frames are more than the {self.context} this rollout was made for")


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot products, (C, heads, M, d) queries over (C, heads, L, d) keys and values.

    In bfloat16 on a CPU a candidate at a time as two plain products: torch's fused attention is no faster there than in float32.
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return functional.scaled_dot_product_attention(q, k, v)
    attended = torch.empty_like(q, memory_format=torch.contiguous_format)
    for one, queries, keys, values in zip(attended, q * q.shape[-1] ** -0.5, k, v, strict=True):
        torch.matmul((queries @ keys.mT).softmax(-1), values, out=one)
    return attended

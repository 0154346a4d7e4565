"""The rollout that the planner runs: one present frame, many futures, no wasted work.

The same arithmetic as ``WorldModel.rollout``, rearranged for inference: candidates share the
embedding of the present frame, layer-norm scales and rotary turns are folded into the weights
that follow them, both heads are one product, and keys and values go into one buffer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from wm_planner.blocks import CausalBlock, rotary_table
from wm_planner.linear import Linear, Product, copied, fold_norm
from wm_planner.world_model import WorldModel

Policy = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Block:
    """A transformer block; ``qkv`` has one entry per time step, rotary turn included."""

    qkv: tuple[Product, ...]
    out: Product
    up: Product
    down: Product


class Imagination:
    """Rollouts of up to ``horizon`` steps from one frame; a snapshot of the model's weights."""

    @torch.no_grad()
    def __init__(self, model: WorldModel, horizon: int) -> None:
        config, predictor = model.config, model.predictor
        self.latent_dim, self.width, self.heads = config.latent_dim, config.width, config.heads
        first, last = linear_at(predictor.embed, 0), linear_at(predictor.embed, 2)
        self.embed = Product(copied(first)), Product(copied(last))
        tables = rotary_table(torch.arange(horizon, device=first.weight.device), predictor.head_dim)
        self.blocks = [fold_block(block, tables) for block in predictor.blocks if isinstance(block, CausalBlock)]
        heads = (predictor.latent_head, predictor.state_head)
        both = Linear(torch.cat([h.weight.T for h in heads], dim=1), torch.cat([h.bias for h in heads]))
        self.head = Product(fold_norm(predictor.norm, both))

    def __call__(self, z: Tensor, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Imagine S futures.

        Args:
            z: (1, D) present latent; state: (1, 2A); actions: (S, H, A) as shares of the box.

        Returns:
            latents (S, H, D) and states (S, H, 2A) after each action.
        """
        return self.unroll(z, state, actions)

    def follow(self, z: Tensor, state: Tensor, policy: Policy, first: Tensor, horizon: int, hold: int = 1) -> Tensor:
        """Let a policy act in imagination.

        Args:
            z: (1, D) present latent; state: (1, 2A).
            policy: latents (S, D) and the actions so far (S, h, A) to the next (S, A), shares of the box.
            first: (S, A) actions to begin with. horizon: H periods in all.
            hold: periods for which each action is held.

        Returns:
            actions (S, H, A).
        """
        taken = first[:, None].repeat(1, horizon, 1)

        def act(step: int, z: Tensor) -> None:
            if step and step % hold == 0:
                taken[:, step : step + hold] = policy(z, taken[:, :step])[:, None]

        self.unroll(z, state, taken, act)
        return taken

    def unroll(
        self, z: Tensor, state: Tensor, actions: Tensor, act: Callable[[int, Tensor], None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Futures under ``actions`` (S, H, A); ``act`` may change those from a step on, given the latents (S, D) before it."""
        count, horizon = actions.shape[:2]
        frame = torch.cat([z, state], dim=-1)  # (1, D + 2A)
        known = frame.shape[1]
        given = z.new_empty(count, known + actions.shape[2])  # frame and action
        given[:, :known] = frame
        path = z.new_empty(count, horizon, known)
        cache = z.new_empty(len(self.blocks), horizon, 2, count, self.heads, self.width // self.heads)
        for step in range(horizon):
            if act is not None:
                act(step, given[:, : self.latent_dim])
            given[:, known:] = actions[:, step]
            x = self.embed[1](self.embed[0].gelu(given))
            for block, memory in zip(self.blocks, cache, strict=True):
                x = block.out.added(x, self.attend(block.qkv[step](self.normal(x)), memory, step))
                x = block.down.added(x, block.up.gelu(self.normal(x)))
            path[:, step] = self.head.added(given[:, :known], self.normal(x))
            given[:, :known] = path[:, step]
        return path[..., : self.latent_dim], path[..., self.latent_dim :]

    def attend(self, qkv: Tensor, memory: Tensor, step: int) -> Tensor:
        """(S, W) attention of one new frame over the frames so far; stores its key and value."""
        q, key_and_value = qkv[:, : self.width], qkv[:, self.width :].view(len(qkv), 2, self.heads, -1)
        memory[step] = key_and_value.transpose(0, 1)
        if step == 0:
            return qkv[:, 2 * self.width :]  # a single frame attends to itself
        k, v = memory[: step + 1].unbind(1)  # each (T, S, heads, d)
        likeness = (q.view(k.shape[1:]) * k).sum(-1)  # (T, S, heads), scaled by the weights of the queries
        attended: Tensor = (likeness.softmax(0)[..., None] * v).sum(0)
        return attended.view(len(q), self.width)

    def normal(self, x: Tensor) -> Tensor:
        """Layer norm without its scale, which is folded into the next weights."""
        return functional.layer_norm(x, (self.width,))


class Remembered:
    """What was imagined of the candidates of one search, so that it need not be imagined again."""

    def __init__(self) -> None:
        self._candidates: list[Tensor] = []
        self._latents: list[Tensor] = []

    def add(self, candidates: Tensor, latents: Tensor) -> None:
        """Latents (S, H, D) of candidates (S, H, A)."""
        self._candidates.append(candidates.detach())
        self._latents.append(latents.detach())

    def latents(self, chosen: Tensor) -> Tensor | None:
        """Those (E, H, D) of some candidates (E, H, A); None when one of them was not imagined."""
        same = (torch.cat(self._candidates) == chosen[:, None]).flatten(2).all(2)  # (E, S)
        return torch.cat(self._latents)[same.int().argmax(1)] if bool(same.any(1).all()) else None


def through_model(model: WorldModel) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """``WorldModel.rollout`` in the form of an ``Imagination``: slower, and autograd can follow it."""

    def roll(z: Tensor, state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        count = len(actions)
        return model.rollout(z.expand(count, -1)[:, None], state.expand(count, -1)[:, None], actions)

    return roll


def fold_block(block: CausalBlock, tables: tuple[Tensor, Tensor]) -> Block:
    """Copy of a block with layer norms and the rotary turn of every time step folded in."""
    qkv = fold_norm(block.norm1, copied(block.qkv))
    return Block(
        qkv=tuple(Product(turn(qkv, cos, sin)) for cos, sin in zip(*tables, strict=True)),
        out=Product(copied(block.out)),
        up=Product(fold_norm(block.norm2, copied(linear_at(block.mlp, 0)))),
        down=Product(copied(linear_at(block.mlp, 2))),
    )


def turn(qkv: Linear, cos: Tensor, sin: Tensor) -> Linear:
    """Rotate the queries and keys that come out (see ``blocks.rotate``) by angles (d/2,), and scale the queries as attention does."""

    def turned(columns: Tensor) -> Tensor:  # (..., 3W)
        width = columns.shape[-1] // 3
        q_and_k, v = columns[..., : 2 * width], columns[..., 2 * width :]
        first, second = q_and_k.reshape(*columns.shape[:-1], -1, 2, len(cos)).unbind(-2)
        both = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-2).flatten(-3)
        return torch.cat([both[..., :width] / (2 * len(cos)) ** 0.5, both[..., width:], v], dim=-1)

    return Linear(turned(qkv.weight), turned(qkv.bias))


def linear_at(layers: nn.Sequential, index: int) -> nn.Linear:
    """The linear layer at a place of a sequence."""
    layer = layers[index]
    assert isinstance(layer, nn.Linear)
    return layer

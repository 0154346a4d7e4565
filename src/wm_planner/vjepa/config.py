"""Shape of an action-conditioned (AC) predictor; the default is the published V-JEPA 2-AC."""

from __future__ import annotations

from dataclasses import dataclass

from wm_planner.errors import PlannerError

PUBLISHED, CORRECTED = "published", "corrected"
ENCODER_KINDS = ("vjepa2", "vjepa2.1")


@dataclass(frozen=True)
class ACConfig:
    """Shape of the predictor (Assran et al. 2025, arXiv 2506.09985, section 3).

    Attributes:
        embed_dim: D, features of the encoder's tokens.
        width: W of the transformer. depth: blocks. heads: attention heads.
        mlp_ratio: hidden width of the MLPs over W.
        grid: patches per side; a frame has N = grid * grid patch tokens.
        action_dim, state_dim: sizes of action and proprioceptive state (7: xyz, Euler angles, gripper).
        rotary: layout of the rotary tables: "published" (as the V-JEPA 2-AC weights were trained:
            frequencies repeated block-wise against pairs that lie side by side) or "corrected".
        period_s: time between two frames (the published model: 4 frames per second).
    """

    embed_dim: int = 1408
    width: int = 1024
    depth: int = 24
    heads: int = 16
    mlp_ratio: float = 4.0
    grid: int = 16
    action_dim: int = 7
    state_dim: int = 7
    rotary: str = PUBLISHED
    period_s: float = 0.25

    def __post_init__(self) -> None:
        sizes = ("embed_dim", "width", "depth", "heads", "grid", "action_dim", "state_dim")
        for name in sizes:
            if getattr(self, name) < 1:
                raise PlannerError(f"AC predictor: {name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads or self.head_dim % 2 or self.head_dim < 6:
            raise PlannerError(
                f"AC predictor: width {self.width} over heads {self.heads} must be an even number of at least 6 "
                "features per head (two for each of time, row and column); change width or heads"
            )
        if self.rotary not in (PUBLISHED, CORRECTED):
            raise PlannerError(f"AC predictor: rotary must be {PUBLISHED!r} or {CORRECTED!r}, got {self.rotary!r}")

    @property
    def head_dim(self) -> int:
        """Features per attention head."""
        return self.width // self.heads

    @property
    def hidden(self) -> int:
        """Hidden width of the MLPs."""
        return round(self.width * self.mlp_ratio)

    @property
    def patches(self) -> int:
        """N, patch tokens of a frame."""
        return self.grid * self.grid

    @property
    def tokens(self) -> int:
        """M = N + 2, tokens of a frame: action, state, patches."""
        return self.patches + 2


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of a V-JEPA vision transformer.

    Attributes:
        kind: "vjepa2" (through `transformers`) or "vjepa2.1" (``vit.VisionTransformer``).
        width, depth, heads, mlp_ratio: of the transformer.
        image_size: side of the square picture, pixels. patch: side of a patch.
    """

    kind: str = "vjepa2"
    width: int = 1408
    depth: int = 40
    heads: int = 22
    mlp_ratio: float = 48 / 11
    image_size: int = 256
    patch: int = 16

    def __post_init__(self) -> None:
        if self.kind not in ENCODER_KINDS:
            raise PlannerError(f"encoder: kind must be one of {', '.join(ENCODER_KINDS)}, got {self.kind!r}")
        if self.width % self.heads or self.image_size % self.patch:
            raise PlannerError(
                f"encoder: heads {self.heads} must divide width {self.width}, patch {self.patch} must divide image_size "
                f"{self.image_size}"
            )

    @property
    def hidden(self) -> int:
        """Hidden width of the MLPs."""
        return round(self.width * self.mlp_ratio)

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch


@dataclass(frozen=True)
class Published:
    """A published file that can be imported.

    Attributes:
        encoder_key: entry of the file with the encoder. encoder: its shape.
        predictor: shape of the AC predictor under "predictor"; None when the file is used for its encoder alone.
    """

    encoder_key: str
    encoder: EncoderConfig
    predictor: ACConfig | None = None


PUBLISHED_MODELS = {
    "vjepa2-ac-vitg": Published("encoder", EncoderConfig(), ACConfig()),
    "vjepa2.1-vitb": Published("ema_encoder", EncoderConfig("vjepa2.1", 768, 12, 12, 4.0, 384)),
    "vjepa2.1-vitl": Published("ema_encoder", EncoderConfig("vjepa2.1", 1024, 24, 16, 4.0, 384)),
}

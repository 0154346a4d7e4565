"""Published files: read strictly and offline, whatever is wrong with them is said, and the encoders agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from wm_planner.errors import PlannerError
from wm_planner.testing import random_checkpoint, small_config
from wm_planner.vjepa import import_weights, official, pretrained, store
from wm_planner.vjepa.config import PUBLISHED, PUBLISHED_MODELS, ACConfig, EncoderConfig
from wm_planner.vjepa.encoders import CompactEncoder, DinoEncoder, VJepaEncoder, load_encoder, standardise, to_pictures
from wm_planner.vjepa.predictor import ACPredictor, normalise
from wm_planner.vjepa.vit import VisionTransformer

from conftest import ROOT

torch.set_num_threads(1)
PREDICTOR = ACConfig(embed_dim=32, width=48, depth=2, heads=2, grid=4)
ENCODER = EncoderConfig("vjepa2", 32, 2, 2, 48 / 11, 64)
ENCODER_21 = EncoderConfig("vjepa2.1", 32, 2, 2, 4.0, 96)


def random_like(shapes: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.2 * torch.randn(t.shape, generator=generator) for name, t in shapes.items()}


@pytest.fixture(scope="module")
def parts() -> dict[str, dict[str, Tensor]]:
    """Random weights under the names of the published file."""
    return {
        "encoder": random_like(import_weights.expected_encoder(ENCODER)),
        "predictor": random_like(import_weights.expected_predictor(PREDICTOR)),
    }


@pytest.fixture
def shape(tmp_path: Path) -> Path:
    path = tmp_path / "shape.yaml"
    path.write_text(
        "encoder: {kind: vjepa2, width: 32, depth: 2, heads: 2, image_size: 64}\n"
        "predictor: {embed_dim: 32, width: 48, depth: 2, heads: 2, grid: 4}\n"
    )
    return path


def published(path: Path, parts: dict[str, dict[str, Tensor]]) -> Path:
    """A file as published: wrapper prefixes, sine tables nobody needs, training leftovers."""
    encoder = {f"module.backbone.{name}": t for name, t in parts["encoder"].items()}
    encoder["module.backbone.pos_embed"] = torch.zeros(1, 4, 32)
    content = {"encoder": encoder, "predictor": {f"module.{n}": t for n, t in parts["predictor"].items()}, "epoch": 3}
    torch.save(content, path)
    return path


def test_import_keeps_every_weight_and_writes_a_card(tmp_path, parts, shape, capsys):
    file, out = published(tmp_path / "vjepa2-ac.pt", parts), tmp_path / "ac.safetensors"
    assert import_weights.main([str(file), "--config", str(shape), "--out", str(out), "--quiet"]) == 0
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["source_sha256"] == official.file_sha256(file) and card["source_bytes"] == file.stat().st_size
    assert card["not_imported"] == ["epoch"] and card["parts"]["predictor"]["tensors"] == len(parts["predictor"])
    assert card["source_sha256"] in capsys.readouterr().out
    model = store.load_predictor(out)
    assert model.config == PREDICTOR and model.config.rotary == PUBLISHED
    assert all(torch.equal(t, parts["predictor"][name]) for name, t in model.state_dict().items())
    assert store.read_header(out).card == card
    with safe_open(out, framework="pt") as content:  # the package reads what we wrote as a stream
        assert torch.equal(content.get_tensor("encoder.blocks.1.attn.qkv.weight"), parts["encoder"]["blocks.1.attn.qkv.weight"])


def test_half_precision_halves_the_file(tmp_path, parts, shape):
    file = published(tmp_path / "a.pt", parts)
    sizes = {}
    for precision in ("keep", "bfloat16"):
        out = tmp_path / f"{precision}.safetensors"
        assert import_weights.main([str(file), "--config", str(shape), "--out", str(out), "--quiet", "--precision", precision]) == 0
        sizes[precision] = sum(t.nbytes for t in store.read_tensors(out, store.PREDICTOR).values())
    assert sizes["bfloat16"] * 2 == sizes["keep"]
    assert store.load_predictor(tmp_path / "bfloat16.safetensors").predictor_proj.weight.dtype == torch.float32


def test_check_writes_nothing(tmp_path, parts, shape, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = published(tmp_path / "a.pt", parts)
    assert import_weights.main([str(file), "--config", str(shape), "--check", "--quiet"]) == 0
    assert not list(tmp_path.rglob("*.safetensors"))


def refusal(file: Path, shape: Path) -> str:
    with pytest.raises(PlannerError) as error:
        import_weights.main([str(file), "--config", str(shape), "--check", "--quiet"])
    return str(error.value)


def test_no_file_a_web_page_and_a_truncated_file_are_told_apart_from_weights(tmp_path, parts, shape):
    assert "download the weights" in refusal(tmp_path / "none.pt", shape)
    page = tmp_path / "page.pt"
    page.write_text("<html>404</html>")
    assert "web page" in refusal(page, shape)
    whole = published(tmp_path / "whole.pt", parts).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refusal(tmp_path / "cut.pt", shape)
    with zipfile.ZipFile(tmp_path / "archive.pt", "w") as archive:
        archive.writestr("a.txt", "hello")
    assert "cannot be read as weights" in refusal(tmp_path / "archive.pt", shape)


class Intruder:
    """Would write a file when unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_code_in_a_file_is_not_run(tmp_path, parts, shape):
    torch.save({**parts, "extra": Intruder(tmp_path / "touched")}, tmp_path / "evil.pt")
    assert "without code" in refusal(tmp_path / "evil.pt", shape)
    assert not (tmp_path / "touched").exists()


def test_every_deviation_from_the_layout_is_named(tmp_path, parts, shape):
    def with_predictor(change: dict[str, object], drop: str = "") -> Path:
        predictor = {k: v for k, v in parts["predictor"].items() if k != drop} | change
        torch.save({"encoder": parts["encoder"], "predictor": predictor}, tmp_path / "x.pt")
        return tmp_path / "x.pt"

    name = "predictor_blocks.1.attn.qkv.weight"
    assert f"1 tensors are missing ({name})" in refusal(with_predictor({}, drop=name), shape)
    assert "1 are unexpected (surplus)" in refusal(with_predictor({"surplus": torch.zeros(1)}), shape)
    assert f"{name} (5, 48) instead of (144, 48)" in refusal(with_predictor({name: torch.zeros(5, 48)}), shape)
    assert f"NaN or infinite weights ({name})" in refusal(with_predictor({name: torch.full((144, 48), torch.nan)}), shape)
    assert "holds a int, expected a tensor" in refusal(with_predictor({name: 3}), shape)
    assert "two tensors are called" in refusal(with_predictor({f"module.{name}": torch.zeros(144, 48)}), shape)
    torch.save({"encoder": parts["encoder"], "opt": 1}, tmp_path / "y.pt")
    assert "has no predictor; it holds: encoder, opt" in refusal(tmp_path / "y.pt", shape)
    torch.save([1, 2], tmp_path / "z.pt")
    assert "holds a list" in refusal(tmp_path / "z.pt", shape)


def test_an_imported_file_is_checked_again_when_it_is_read(tmp_path, parts):
    header = store.Header(PREDICTOR, {}, {})
    kept = {store.PREDICTOR + n: t for n, t in parts["predictor"].items() if n != "predictor_norm.bias"}
    store.write(tmp_path / "less.safetensors", kept, header)
    with pytest.raises(PlannerError, match=r"1 tensors are missing \(predictor_norm.bias\)"):
        store.load_predictor(tmp_path / "less.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "less.safetensors").read_bytes()[:200])
    with pytest.raises(PlannerError, match="not a readable safetensors file"):
        store.load_predictor(tmp_path / "cut.safetensors")
    with pytest.raises(PlannerError, match="import published weights"):
        store.load_predictor(random_checkpoint(tmp_path / "compact.safetensors"))
    store.write(tmp_path / "encoder.safetensors", {}, store.Header(None, {"kind": "vjepa2"}, {}))
    with pytest.raises(PlannerError, match="an encoder and no predictor"):
        store.load_predictor(tmp_path / "encoder.safetensors")


def test_the_published_shapes_are_those_of_the_papers():
    def count(name: str) -> float:
        return sum(t.numel() for t in import_weights.expected_encoder(PUBLISHED_MODELS[name].encoder).values())

    assert count("vjepa2-ac-vitg") == pytest.approx(1.01e9, rel=0.01)  # ViT-g
    assert count("vjepa2.1-vitb") == 86_833_152  # as the published ViT-B file
    assert count("vjepa2.1-vitl") == pytest.approx(304e6, rel=0.01)
    giant = import_weights.expected_encoder(PUBLISHED_MODELS["vjepa2-ac-vitg"].encoder)
    assert giant["blocks.39.mlp.fc1.weight"].shape == (6144, 1408) and giant["patch_embed.proj.weight"].shape == (1408, 3, 2, 16, 16)


def test_encoder_names_map_to_transformers_and_back(parts):
    there = pretrained.to_transformers(parts["encoder"])
    assert set(there) == set(pretrained.empty_vjepa2(ENCODER).state_dict())
    back = pretrained.from_transformers(there)
    assert set(back) == set(parts["encoder"]) and all(torch.equal(back[n], t) for n, t in parts["encoder"].items())


def test_transformers_and_our_vision_transformer_are_the_same_function(parts):
    """V-JEPA 2 as a V-JEPA 2.1: one picture twice, the published rotary layout, no modality vector, 16 x 16 patches."""
    config = EncoderConfig("vjepa2", 32, 2, 2, 48 / 11, 256)
    theirs = VJepaEncoder(config, parts["encoder"], "test")
    ours = VisionTransformer(config, PUBLISHED)
    wanted = {k: v for k, v in parts["encoder"].items() if k.startswith("blocks.")}
    wanted["patch_embed_img.proj.weight"] = parts["encoder"]["patch_embed.proj.weight"].sum(2, keepdim=True)
    wanted["patch_embed_img.proj.bias"] = parts["encoder"]["patch_embed.proj.bias"]
    wanted |= {f"norms_block.3.{k}": parts["encoder"][f"norm.{k}"] for k in ("weight", "bias")}
    assert not ours.load_state_dict(wanted, strict=False).unexpected_keys
    pictures = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(normalise(ours(standardise(pictures))), theirs(pictures), atol=1e-5)


def test_an_imported_vjepa21_encoder_sees_where_things_are(tmp_path, monkeypatch):
    """Rotary rows and columns: moving a patch moves its token, it does not just permute the rest."""
    tensors = random_like(import_weights.expected_encoder(ENCODER_21))
    torch.save({"ema_encoder": {f"module.{n}": t for n, t in tensors.items()}, "predictor": {}}, tmp_path / "b.pt")
    shape = tmp_path / "s.yaml"
    shape.write_text("encoder: {kind: vjepa2.1, width: 32, depth: 2, heads: 2, mlp_ratio: 4.0, image_size: 96}\n")
    out = tmp_path / "b.safetensors"
    argv = [str(tmp_path / "b.pt"), "--model", "vjepa2.1-vitb", "--config", str(shape), "--out", str(out), "--quiet"]
    assert import_weights.main(argv) == 0
    encoder = load_encoder(out)
    assert (encoder.image_size, encoder.grid, encoder.embed_dim) == (96, 6, 32)
    picture = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    z = encoder(picture)
    assert z.shape == (1, 36, 32) and torch.allclose(z.std(-1, unbiased=False), torch.ones(1, 36), atol=1e-3)
    flipped = encoder(picture.roll(16, dims=3))[0].view(6, 6, 32).roll(-1, dims=1).reshape(36, 32)
    assert (flipped - z[0]).abs().max() > 1e-3
    with pytest.raises(PlannerError, match="an encoder and no predictor"):
        store.load_predictor(out)


@pytest.mark.parametrize("kind", ["Dinov2", "Dinov2WithRegisters", "DINOv3ViT"])
def test_dino_comes_from_a_local_folder_without_its_extra_tokens(tmp_path, kind):
    package = pretrained.transformers()
    patch = 16 if kind == "DINOv3ViT" else 14
    options = {"num_register_tokens": 4} if kind != "Dinov2" else {}
    config = getattr(package, f"{kind}Config")(
        hidden_size=32, num_attention_heads=2, num_hidden_layers=1, intermediate_size=64, image_size=4 * patch, patch_size=patch, **options
    )
    torch.manual_seed(0)
    model = getattr(package, f"{kind}Model")(config).eval()
    model.save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, 3 * patch)
    assert isinstance(encoder, DinoEncoder) and (encoder.grid, encoder.embed_dim) == (3, 32)
    pictures = torch.rand(1, 3, 3 * patch, 3 * patch)
    with torch.no_grad():
        all_tokens = model(pixel_values=standardise(pictures)).last_hidden_state
    assert torch.allclose(encoder(pictures), normalise(all_tokens[:, -9:]), atol=1e-5)


def test_folders_and_files_that_are_no_encoder_are_refused(tmp_path):
    with pytest.raises(PlannerError, match="no config.json"):
        load_encoder(tmp_path)
    with pytest.raises(PlannerError, match="no encoder at"):
        load_encoder(tmp_path / "none")
    store.write(tmp_path / "p.safetensors", {}, store.Header(PREDICTOR, {}, {}))
    with pytest.raises(PlannerError, match="a predictor and no encoder"):
        load_encoder(tmp_path / "p.safetensors")


def test_the_compact_encoder_gives_one_token(tmp_path):
    encoder = load_encoder(random_checkpoint(tmp_path / "c.safetensors"))
    assert isinstance(encoder, CompactEncoder) and (encoder.grid, encoder.image_size) == (1, 32)
    z = encoder(torch.rand(2, 3, 32, 32))
    assert z.shape == (2, 1, small_config().latent_dim) and abs(float(z.mean())) < 1e-5


def test_pictures_are_cut_square_and_scaled_to_0_1():
    image = torch.zeros(60, 100, 3, dtype=torch.uint8).numpy()
    image[:, 20:80] = 255  # exactly the centre square
    assert torch.equal(to_pictures(image, 32), torch.ones(1, 3, 32, 32))
    with pytest.raises(PlannerError, match="uint8 RGB"):
        to_pictures(image[..., 0][..., None], 32)


def test_without_transformers_the_command_that_installs_it_is_named(tmp_path):
    code = "import sys; sys.modules['transformers'] = None; from wm_planner.vjepa.pretrained import transformers; transformers()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    assert done.returncode == 1 and f"install it with: {pretrained.INSTALL}" in done.stderr
    assert (ROOT / "requirements/vjepa.txt").is_file() and "requirements/vjepa.txt" in pretrained.INSTALL


def test_planning_with_the_predictor_never_loads_transformers():
    code = "import sys, wm_planner.vjepa.energy, wm_planner.vjepa.encoders; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    assert done.stdout.strip() == "False", done.stderr

"""The published layouts load, checked without their weights.

Stable Diffusion 1.5 and 2.1, sd-image-variations, sd-vae-ft-mse and CLIP ViT-L/14.
"""

import math
import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from published import (
    CLIP_VIT_L,
    OLD_VAE_NAMES,
    SD15_UNET,
    SD21_UNET,
    SD_VAE,
    clip_tensors,
    unet_tensors,
    vae_tensors,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from posedive_lib import params, weights
from posedive_lib.errors import StudyError
from posedive_lib.generator.clip import ClipImageEncoder
from posedive_lib.generator.guiders import PoseGuiders
from posedive_lib.generator.model import PoseDiveModel
from posedive_lib.generator.reference import names_without_gradient


def on_meta(kind, config):
    with torch.device("meta"):
        return kind(**config)


def clip_vision(**config):
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**config))


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    "kind, config, tensors, parameters",
    [
        (
            UNet2DConditionModel,
            SD15_UNET,
            unet_tensors,
            859_520_964,
        ),  # also sd-image-variations: its pooled CLIP token is 768 wide as well
        (UNet2DConditionModel, SD21_UNET, unet_tensors, 865_910_724),
        (AutoencoderKL, SD_VAE, vae_tensors, 83_653_863),
        (clip_vision, CLIP_VIT_L, clip_tensors, 303_966_208),
    ],
    ids=["sd-1.5", "sd-2.1", "sd-vae", "clip-vit-l"],
)
def test_published_weights_fit_name_by_name(kind, config, tensors, parameters):
    model, published = on_meta(kind, config), tensors(config)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == published
    assert count(model) == sum(map(math.prod, published.values())) == parameters
    fake = {name: torch.empty(shape, device="meta") for name, shape in published.items()}
    result = model.load_state_dict(fake, strict=True, assign=True)
    assert not result.missing_keys and not result.unexpected_keys


@pytest.mark.parametrize(
    "channels, inputs, parameters",
    [
        ((16, 32, 96, 256), 3, 1_086_480),
        ((16, 32, 96, 256), 1, 1_086_192),
        ((16, 32, 64, 128), 3, 514_896),
        ((16, 32, 64, 128), 1, 514_608),
    ],
)
def test_guiders_are_the_lineages(channels, inputs, parameters):
    with torch.device("meta"):
        guiders = PoseGuiders(
            {"depth": 106, "normals": 107, "skeleton": 107}, list(channels), 320, 8
        )
    name = "depth" if inputs == 1 else "normals"
    out = guiders.widths[
        name
    ]  # the lineage's guider is 320 wide; ours shares this width among three
    rest = count(guiders.guiders[name]) - count(guiders.guiders[name].conv_out)
    assert rest + 320 * (9 * channels[-1] + 1) == parameters
    assert guiders.guiders[name].conv_out.weight.shape == (out, channels[-1], 3, 3)


@pytest.mark.parametrize("config", [SD15_UNET, SD21_UNET], ids=["sd-1.5", "sd-2.1"])
def test_the_papers_model_is_built_on_the_published_unet(config):
    denoising, reference = (
        on_meta(UNet2DConditionModel, config),
        on_meta(UNet2DConditionModel, config),
    )
    with torch.device("meta"):
        model = PoseDiveModel(
            denoising,
            reference,
            PoseGuiders({"depth": 96, "normals": 112, "skeleton": 112}, [16, 32, 96, 256], 320, 8),
        )
    assert {
        name: tuple(t.shape) for name, t in model.denoising_unet.state_dict().items()
    } == unet_tensors(config)
    assert (
        len([name for name in reference.attn_processors if name.endswith("attn1.processor")]) == 16
    )  # 6 down, 1 middle, 9 up
    tail = names_without_gradient(reference)
    last = "up_blocks.3.attentions.2.transformer_blocks.0."
    assert set(tail) == {
        name
        for name in unet_tensors(config)
        if name.startswith(("conv_norm_out", "conv_out", "up_blocks.3.attentions.2.proj_out"))
        or (name.startswith(last) and not name.startswith(last + "norm1"))
    }
    with torch.device("meta"):
        maps = torch.empty(2, 1, 384, 192), torch.empty(2, 3, 384, 192), torch.empty(2, 3, 384, 192)
        latents, tokens = (
            torch.empty(2, 4, 48, 24),
            torch.empty(2, 1, config["cross_attention_dim"]),
        )
        predicted = model(
            latents, torch.zeros(2), tokens, model.reference_features(latents, tokens), *maps
        )
    assert predicted.shape == (2, 4, 48, 24)


TINY_VAE = {**SD_VAE, "block_out_channels": (4, 4, 8, 8), "norm_num_groups": 4}


def test_a_vae_with_the_published_files_old_attention_names_loads(tmp_path):
    """sd-vae-ft-mse and the VAE of Stable Diffusion 1.5: query, key, value, proj_attn."""
    torch.manual_seed(0)
    vae = AutoencoderKL(**TINY_VAE).eval()
    vae.save_pretrained(tmp_path / "vae")
    path = tmp_path / "vae/diffusion_pytorch_model.safetensors"
    renamed = load_file(path)
    new_names = ("to_q", "to_k", "to_v", "to_out.0", "group_norm")
    for new, old in zip(new_names, OLD_VAE_NAMES, strict=True):
        renamed = {
            name.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): tensor
            for name, tensor in renamed.items()
        }
    assert {name: tuple(t.shape) for name, t in renamed.items()} == vae_tensors(
        TINY_VAE, OLD_VAE_NAMES
    )
    save_file(renamed, path, metadata={"format": "pt"})
    for source in (None, tmp_path / "vae", tmp_path):
        loaded = weights.load_part(AutoencoderKL, tmp_path, "vae", source)
        assert all(
            torch.equal(a, b)
            for a, b in zip(vae.state_dict().values(), loaded.state_dict().values(), strict=True)
        )


def test_clip_loads_from_a_checkpoint_of_both_towers(tmp_path):
    """openai/clip-vit-large-patch14 holds text and vision, with the preprocessor beside them."""
    torch.manual_seed(0)
    vision = dict(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=12,
    )
    text = dict(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=64,
    )
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()
    whole.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"size": {"shortest_edge": 28}, "crop_size": 28}'
    )
    encoder = ClipImageEncoder.from_stable_diffusion(tmp_path / "elsewhere", tmp_path)
    images = torch.randint(0, 256, (2, 40, 20, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = whole.visual_projection(
            whole.vision_model(pixel_values=encoder.preprocess(images)).pooler_output
        )
    torch.testing.assert_close(encoder.tokens(images)[:, 0], expected)
    assert encoder.size == (28, 28) and encoder.dimension == 12


def test_a_hub_id_is_fetched_at_its_pinned_commit(monkeypatch, tmp_path):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, revision, allow_patterns: asked.append((name, revision)) or str(tmp_path),
    )
    weights.local_folder("org/name@abc123")
    weights.local_folder("org/name", "def456")
    weights.local_folder("org/name")
    assert asked == [("org/name", "abc123"), ("org/name", "def456"), ("org/name", None)]
    with pytest.raises(StudyError, match="No folder"):
        weights.local_folder("just-a-name")


def test_the_guide_says_which_sources_the_papers_parameters_pin():
    """A source without a commit may change on the hub, so the reader is told to pin it."""
    root = Path(__file__).resolve().parents[1]
    P = params.load(root / "params/paper.yaml")
    sources = {"stable_diffusion": f"{P.paths.stable_diffusion}@{P.generator.revision}"}
    sources |= {name: getattr(P.paths, name) for name in ("clip", "resnet", "pose_estimator")}
    sources |= {f"generator.{n}": getattr(P.generator, n) for n in ("vae", "image_encoder")}
    pinned = {name for name, source in sources.items() if "@" in source}
    for name in pinned:
        hub, _, commit = sources[name].partition("@")
        assert hub.count("/") == 1 and len(commit) == 40 and set(commit) <= set("0123456789abcdef")
    text = " ".join((root / "docs/your_data.md").read_text().split())
    _, _, text = text.partition("[params/paper.yaml](../params/paper.yaml) pins those of ")
    said, _, rest = text.partition(" It does not pin ")
    known = [set(re.findall(r"`([\w.]+)`", part)) for part in (said, rest.partition(":")[0])]
    assert known == [pinned | {"generator.revision"}, {*sources} - pinned]


def test_a_folder_without_an_image_encoder_says_where_to_name_one(tmp_path):
    with pytest.raises(StudyError, match="generator.image_encoder"):
        ClipImageEncoder.from_stable_diffusion(tmp_path)

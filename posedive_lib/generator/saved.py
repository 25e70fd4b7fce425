"""The generator on disk: `denoising_unet/`, `reference_unet/`, `guiders.safetensors`, `posedive.json`; or Stable Diffusion's own layout."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

from diffusers import UNet2DConditionModel

from posedive_lib.errors import StudyError
from posedive_lib.generator import folders
from posedive_lib.generator.guiders import CONDITIONS
from posedive_lib.generator.model import PoseDiveModel, build_guiders, plain, vae_factor
from posedive_lib.loading import read_json

SETTINGS = "posedive.json"
GUIDERS = "guiders.safetensors"
# The paper's model; folders that were saved before a choice existed hold it.
WHOLE = {
    "conditions": list(CONDITIONS),
    "reference_attention": True,
    "pretrained": True,
    "vae": None,
    "image_encoder": None,
    "mixed_precision": "auto",
}
# What loading and sampling read of the section `generator` and of `sampling` in it; the rest has defaults or tells of the training.
NEEDED = {
    "generator": (
        "prediction_type",
        "zero_snr",
        "guider_widths",
        "guider_channels",
        "clip_tokens",
        "sampling",
    ),
    "sampling": ("steps", "guidance", "batch_size"),
}


def save_model(
    model: PoseDiveModel,
    folder: str | Path,
    params,
    stable_diffusion: Path,
    training: dict | None = None,
) -> Path:
    """Write the trained parts; the frozen ones (VAE, CLIP, scheduler) stay where they are and are pointed to, relative to `folder`."""
    folder = Path(folder)
    with folders.replaced_folder(folder) as temporary:
        model.denoising_unet.save_pretrained(temporary / "denoising_unet")
        if model.reference_unet is not None:
            model.reference_unet.save_pretrained(temporary / "reference_unet")
        folders.save_tensors(_small_parts(model), temporary / GUIDERS)
        settings = {
            "format": 1,
            "generator": plain(params),
            "stable_diffusion": os.path.relpath(stable_diffusion.resolve(), folder.resolve()),
            "training": training or {},
        }
        (temporary / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
    return folder


def load_model(
    folder: str | Path,
    stable_diffusion: str | Path | None = None,
    params=None,
    revision: str | None = None,
):
    """-> (PoseDiveModel, generator parameters, folder of the frozen parts).

    A Stable Diffusion layout gives a fresh model (phase 0) with `params`, by default the lineage's. StudyError on anything incomplete.
    """
    folder = folders.resolve(folder, revision)
    if not (folder / SETTINGS).is_file():
        if not (folder / "unet").is_dir():
            raise StudyError(
                f"{folder} holds neither {SETTINGS} (our saved generator) nor unet/ (Stable Diffusion's layout)."
            )
        params = params or lineage_parameters(folder)
        return PoseDiveModel.from_stable_diffusion(folder, params).eval(), params, folder
    settings = read_settings(folder)
    frozen = (
        folders.resolve(stable_diffusion)
        if stable_diffusion
        else (folder / str(settings["stable_diffusion"])).resolve()
    )
    if not frozen.is_dir():
        raise StudyError(
            f"{folder} expects its VAE, CLIP and scheduler in {frozen}, which does not exist: pass stable_diffusion=<folder>."
        )
    params = {**WHOLE, **settings["generator"]}
    params["sampling"] = {"scheduler": "DDIMScheduler", **params["sampling"]}
    params = json.loads(json.dumps(params), object_hook=lambda items: SimpleNamespace(**items))
    return load_weights(folder, params, frozen), params, frozen


def load_weights(folder: Path, params, stable_diffusion: Path) -> PoseDiveModel:
    """The model of a saved generator, with the guiders that `params` describe; parts that `params` leave out are not loaded."""
    denoising = folders.load_part(UNet2DConditionModel, folder, "denoising_unet")
    reference = (
        folders.load_part(UNet2DConditionModel, folder, "reference_unet")
        if params.reference_attention
        else None
    )
    model = PoseDiveModel(
        denoising, reference, build_guiders(params, denoising, vae_factor(stable_diffusion, params))
    )
    tensors = folders.load_tensors(folder / GUIDERS)
    null = tensors.pop("null_tokens", None)
    if null is None or null.shape != model.null_tokens.shape:
        raise StudyError(
            f"{folder / GUIDERS} is of another architecture: null_tokens is missing or of another width."
        )
    unused = tuple(f"guiders.{name}." for name in CONDITIONS if name not in params.conditions)
    tensors = (
        {name: tensor for name, tensor in tensors.items() if not name.startswith(unused)}
        if unused
        else tensors
    )
    folders.load_into(model.guiders, tensors, folder / GUIDERS)
    model.null_tokens.data.copy_(null)
    return model.eval()


def read_settings(folder: Path) -> dict:
    """`posedive.json`; StudyError where it lacks what loading and sampling need."""
    settings = read_json(folder / SETTINGS, "generator", "stable_diffusion")
    section = settings
    for name, needed in NEEDED.items():  # each lies in the one before
        section = section[name]
        missing = (
            [key for key in needed if key not in section] if isinstance(section, dict) else needed
        )
        if missing:
            raise StudyError(
                f"{folder / SETTINGS}: {name} lacks {', '.join(missing)}: save the generator again."
            )
    return settings


def lineage_parameters(stable_diffusion: Path) -> SimpleNamespace:
    """Parameters for a bare Stable Diffusion folder: the lineage's defaults, widths in the proportion 2 : 3 : 3."""
    config = read_json(stable_diffusion / "unet" / "config.json", "block_out_channels")
    width = config["block_out_channels"][0]
    depth = width // 4
    normals = (width - depth) // 2
    levels = vae_factor(stable_diffusion, SimpleNamespace(vae=None)).bit_length()
    return SimpleNamespace(
        **WHOLE,
        prediction_type="v_prediction",
        zero_snr=True,
        guider_widths={"depth": depth, "normals": normals, "skeleton": width - depth - normals},
        guider_channels=[16, 32, 96, 256, 256][:levels],
        clip_tokens="pooled",
        sampling=SimpleNamespace(scheduler="DDIMScheduler", steps=20, guidance=3.5, batch_size=16),
    )


def _small_parts(model: PoseDiveModel) -> dict:
    return {**model.guiders.state_dict(), "null_tokens": model.null_tokens}

"""The generator on disk.

Our own folder holds `denoising_unet/`, `reference_unet/`, `guiders.safetensors` and
`posedive.json`. Stable Diffusion's layout can be read as well, as a model that is not trained yet.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from diffusers import UNet2DConditionModel

from posedive_lib.body.conditions import CONDITIONS
from posedive_lib.errors import StudyError, is_folder
from posedive_lib.generator.model import PoseDiveModel, build_guiders, vae_factor
from posedive_lib.intake.files import read_json
from posedive_lib.intake.paths import resolved
from posedive_lib.intake.tensors import load_tensors
from posedive_lib.weights import (
    load_into,
    load_part,
    local_folder,
    plain,
    save_tensors,
)
from posedive_lib.writing import replacing_folder

if TYPE_CHECKING:
    from posedive_lib.params import GeneratorParams

SETTINGS = "posedive.json"
GUIDERS = "guiders.safetensors"
# The paper's model; folders that were saved before a choice existed hold it.
WHOLE: dict[str, Any] = {
    "conditions": list(CONDITIONS),
    "reference_attention": True,
    "pretrained": True,
    "vae": None,
    "image_encoder": None,
    "precision": "auto",
}
# What loading and sampling read of the section `generator` and of `sampling` in it; the rest has
# defaults or tells of the training.
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
    params: GeneratorParams,
    stable_diffusion: Path,
    training: dict[str, Any] | None = None,
) -> Path:
    """Write the trained parts; `training` says of which run they are.

    The frozen parts (VAE, CLIP, scheduler) stay where they are and are pointed to, relative to
    `folder`.
    """
    folder = Path(folder)
    with replacing_folder(folder) as draft:
        model.denoising_unet.save_pretrained(draft / "denoising_unet")
        if model.reference_unet is not None:
            model.reference_unet.save_pretrained(draft / "reference_unet")
        small = {**model.guiders.state_dict(), "null_tokens": model.null_tokens}
        save_tensors(small, draft / GUIDERS)
        settings = {
            "format": 1,
            "generator": plain(params),
            "stable_diffusion": os.path.relpath(stable_diffusion.resolve(), folder.resolve()),
            "training": training or {},
        }
        (draft / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
    return folder


def load_model(
    folder: str | Path,
    stable_diffusion: str | Path | None = None,
    params: GeneratorParams | None = None,
    revision: str | None = None,
) -> tuple[PoseDiveModel, GeneratorParams, Path]:
    """-> (model, parameters it was trained with, folder of the frozen parts).

    A Stable Diffusion layout gives a fresh model (phase 0) with `params`, by default the lineage's.
    StudyError on anything incomplete.
    """
    folder = local_folder(folder, revision)
    if not (folder / SETTINGS).is_file():
        if not (folder / "unet").is_dir():
            raise StudyError(
                f"{folder} holds neither {SETTINGS} (our saved generator) nor unet/ "
                "(Stable Diffusion's layout)."
            )
        params = params or lineage_parameters(folder)
        return PoseDiveModel.from_stable_diffusion(folder, params).eval(), params, folder
    settings = read_settings(folder)
    if stable_diffusion:
        frozen = local_folder(stable_diffusion, settings["generator"].get("revision"))
    else:
        frozen = resolved(folder / str(settings["stable_diffusion"]))
    if not is_folder(frozen):
        raise StudyError(
            f"{folder} expects its VAE, CLIP and scheduler in {frozen}, which does not exist: "
            "pass stable_diffusion=<folder>."
        )
    params = _namespace(settings["generator"])
    return load_weights(folder, params, frozen), params, frozen


def load_weights(folder: Path, params: GeneratorParams, stable_diffusion: Path) -> PoseDiveModel:
    """The model of a saved generator, with the guiders that `params` describe.

    Parts that `params` leave out are not loaded.
    """
    denoising = load_part(UNet2DConditionModel, folder, "denoising_unet")
    reference = None
    if params.reference_attention:
        reference = load_part(UNet2DConditionModel, folder, "reference_unet")
    guiders = build_guiders(params, denoising, vae_factor(stable_diffusion, params))
    model = PoseDiveModel(denoising, reference, guiders)
    tensors, _ = load_tensors(folder / GUIDERS)
    null = tensors.pop("null_tokens", None)
    if null is None or null.shape != model.null_tokens.shape:
        raise StudyError(
            f"{folder / GUIDERS} is of another architecture: "
            "null_tokens is missing or of another width."
        )
    for condition in set(CONDITIONS) - set(params.conditions):
        unused = f"guiders.{condition}."
        tensors = {name: value for name, value in tensors.items() if not name.startswith(unused)}
    load_into(model.guiders, tensors, folder / GUIDERS)
    model.null_tokens.data.copy_(null)
    return model.eval()


def _counts(values: Any) -> bool:
    """Whether these are whole numbers from 1."""
    return all(type(value) is int and value > 0 for value in values)


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _name(value: Any) -> bool:
    """Whether this is text, or nothing."""
    return value is None or (isinstance(value, str) and bool(value))


# Settings of a generator that other code takes as they are, and whether a value is of their kind.
KINDS: dict[str, Callable[[Any], bool]] = {
    "conditions": lambda value: isinstance(value, list) and bool(value) and all(map(_name, value)),
    "guider_channels": lambda value: isinstance(value, list) and _counts(value),
    "guider_widths": lambda value: isinstance(value, dict) and _counts(value.values()),
    "zero_snr": _truth,
    "reference_attention": _truth,
    "vae": _name,
    "image_encoder": _name,
}


def read_settings(folder: Path) -> dict[str, Any]:
    """`posedive.json`; StudyError where it lacks what loading and sampling need.

    Settings of older generators get today's names.
    """
    settings = read_json(folder / SETTINGS, "generator", "stable_diffusion")
    section: Any = settings
    for name, needed in NEEDED.items():  # each lies in the one before
        section = section[name]
        known = section if isinstance(section, dict) else {}
        missing = [key for key in needed if key not in known]
        if missing:
            raise StudyError(
                f"{folder / SETTINGS}: {name} lacks {', '.join(missing)}: save the generator again."
            )
    generator = settings["generator"]
    for name, fits in KINDS.items():
        if name in generator and not fits(generator[name]):
            raise StudyError(
                f"{folder / SETTINGS}: generator.{name} is {generator[name]!r}, which is of the "
                "wrong kind: save the generator again."
            )
    scheduler = generator["sampling"].get("scheduler", "")
    if not isinstance(scheduler, str):
        raise StudyError(
            f"{folder / SETTINGS}: sampling.scheduler is {scheduler!r}, no name: save the "
            "generator again."
        )
    if "mixed_precision" in generator:
        old = generator.pop("mixed_precision")
        generator.setdefault("precision", "fp32" if old == "no" else old)
    generator["sampling"] = {"scheduler": "DDIMScheduler", **generator["sampling"]}
    settings["generator"] = {**WHOLE, **generator}
    return settings


def lineage_parameters(stable_diffusion: Path) -> Any:
    """The lineage's parameters, for a bare Stable Diffusion folder; guiders as 2 : 3 : 3."""
    config = read_json(stable_diffusion / "unet" / "config.json", "block_out_channels")
    width = config["block_out_channels"][0]
    depth = width // 4
    normals = (width - depth) // 2
    own_vae: Any = SimpleNamespace(vae=None)
    levels = vae_factor(stable_diffusion, own_vae).bit_length()
    return SimpleNamespace(
        **WHOLE,
        prediction_type="v_prediction",
        zero_snr=True,
        guider_widths={"depth": depth, "normals": normals, "skeleton": width - depth - normals},
        guider_channels=[16, 32, 96, 256, 256][:levels],
        clip_tokens="pooled",
        sampling=SimpleNamespace(scheduler="DDIMScheduler", steps=20, guidance=3.5, batch_size=16),
    )


def _namespace(section: dict[str, Any]) -> Any:
    """A section of JSON with its values as attributes, as the parameters have them."""
    return json.loads(json.dumps(section), object_hook=lambda items: SimpleNamespace(**items))

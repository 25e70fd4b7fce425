"""Published weights in the layouts of `transformers`: CLIP for CLIP-ReID, a ResNet for the baseline; from a folder or a hub id."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoTokenizer,
    CLIPModel,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    ResNetBackbone,
)

from posedive_lib.errors import StudyError
from posedive_lib.loading import differing, first_line, quiet

CLIP_PARTS = ("image_encoder", "text_encoder", "tokenizer")  # of a Stable Diffusion layout
_FAILURES = (OSError, ValueError, KeyError, RuntimeError, SafetensorError, AttributeError)


def local_folder(source: str | Path) -> Path:
    """The folder `source`, or the local copy of the hub id `source` (org/name; fetched unless HF_HUB_OFFLINE is set)."""
    if Path(source).is_dir():
        return Path(source)
    text = str(source)
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise StudyError(
            f"The folder {text} is missing: give a folder of published weights, or a hub id such as openai/clip-vit-base-patch16."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                text, ignore_patterns=["*.h5", "*.msgpack", "*.onnx", "*.ot", "*.tflite"]
            )
        )
    except Exception as error:  # the hub's client raises many unrelated classes
        raise StudyError(
            f"{text} is neither a folder here nor a hub model that could be fetched ({first_line(error)})."
        ) from None


def files_of(source: str | Path) -> list[Path]:
    """The folders that determine what `load_clip` and `load_resnet` give: for the digests of run records."""
    folder = local_folder(source)
    return [folder / part for part in CLIP_PARTS] if (folder / CLIP_PARTS[0]).is_dir() else [folder]


def load_clip(source: str | Path):
    """(vision, text, tokenizer): CLIP's two encoders with their projections, from a whole CLIP or a Stable Diffusion layout.

    A whole CLIP has one `config.json` with the keys `vision_model.*` and `text_model.*` (openai/clip-vit-base-patch16); the other
    layout has `image_encoder`, `text_encoder` and `tokenizer` below it. StudyError naming what is missing.
    """
    folder = local_folder(source)
    if not (folder / "config.json").is_file():
        for part in CLIP_PARTS:
            if not (folder / part).is_dir():
                raise StudyError(
                    f"The folder {folder / part} is missing: CLIP-ReID needs a CLIP model, or {', '.join(CLIP_PARTS)} below {folder}."
                )
        vision, text = (
            _complete(kind, folder / part)
            for kind, part in zip(
                (CLIPVisionModelWithProjection, CLIPTextModelWithProjection), CLIP_PARTS
            )
        )
        return vision, text, _tokenizer(folder / "tokenizer")
    return *halves(_complete(CLIPModel, folder)), _tokenizer(folder)


def halves(clip: CLIPModel) -> tuple[CLIPVisionModelWithProjection, CLIPTextModelWithProjection]:
    """The two encoders of a whole CLIP, sharing its weights."""
    with torch.device("meta"):  # shells, filled at once
        vision, text = (
            CLIPVisionModelWithProjection(clip.config.vision_config),
            CLIPTextModelWithProjection(clip.config.text_config),
        )
    vision.vision_model, vision.visual_projection = clip.vision_model, clip.visual_projection
    text.text_model, text.text_projection = clip.text_model, clip.text_projection
    return vision, text


def load_resnet(source: str | Path) -> ResNetBackbone:
    """A ResNet of the `transformers` layout (microsoft/resnet-50) without its classifier."""
    return _complete(
        ResNetBackbone, local_folder(source), strangers=("classifier.",), prefix="resnet."
    )


def _complete(kind: type, folder: Path, strangers: tuple[str, ...] = (), prefix: str = ""):
    """`kind.from_pretrained`, refused when a tensor is missing, too many or of another shape."""
    try:
        with quiet():
            model, info = kind.from_pretrained(
                str(folder),
                local_files_only=True,
                output_loading_info=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
            )
    except _FAILURES as error:
        raise StudyError(
            f"Cannot load {folder} ({first_line(error)}): fetch the weights again."
        ) from None
    # CLIP files of older versions carry the running numbers 0, 1, … of positions
    wrong = [
        name
        for name in differing(info)
        if not name.endswith("position_ids") and not name.removeprefix(prefix).startswith(strangers)
    ]
    if wrong:
        raise StudyError(
            f"The weights in {folder} are not of the {kind.__name__} that its config.json describes: {len(wrong)} tensors differ, e.g. {wrong[0]}; "
            "fetch them again or name another folder."
        )
    return model.eval()


def _tokenizer(folder: Path):
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except _FAILURES as error:
        raise StudyError(
            f"Cannot load the tokenizer in {folder} ({first_line(error)}): fetch it again."
        ) from None

"""Weights of models: found in a folder or on a hub, checked, loaded completely or refused.

    python -m posedive_lib.weights FOLDER

writes model.safetensors in float32 where FOLDER has only a pickled file, or one that is named after
its half precision. What was there stays as it is.
"""

import argparse
import json
import logging
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import expanduser
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from posedive_lib.errors import StudyError, command, require_readable
from posedive_lib.intake.files import read_json
from posedive_lib.intake.weight_files import convert, require_plain
from posedive_lib.writing import replacing

CLIP_PARTS = ("image_encoder", "text_encoder", "tokenizer")  # of a Stable Diffusion layout
SAFETENSORS = (
    "*.json",
    "*.txt",
    "model.safetensors",
    "*/model.safetensors",
    "*diffusion_pytorch_model.safetensors",
)
# What a whole CLIP (both towers, as OpenAI published ViT-L/14) holds beside its vision tower.
BESIDE_VISION = ("text_model.", "text_projection.", "logit_scale")


def local_folder(
    source: str | Path, revision: str | None = None, *, also: tuple[str, ...] = ()
) -> Path:
    """The folder `source`, or the local copy of a hub id such as `org/name` or `org/name@revision`.

    What the cache lacks is fetched, unless HF_HUB_OFFLINE is set. revision: where the id pins none.
    also: patterns of files to fetch beside configurations and safetensors. StudyError where there
    is neither folder nor model, or what is there may not be read.
    """
    require_readable(source)
    if Path(source).is_dir():
        return Path(source)
    text = str(source)
    name, _, pinned = text.partition("@")
    wanted = pinned or revision or None
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        raise StudyError(
            f"No folder {text}: give an existing folder of weights or a hub id such as org/name."
        )
    from huggingface_hub import snapshot_download

    _require_readable_cache(name)
    patterns = [*SAFETENSORS, *also]
    try:
        folder = Path(snapshot_download(name, revision=wanted, allow_patterns=patterns))
    except Exception as error:  # the hub's client raises many unrelated classes
        raise StudyError(
            f"{text} is neither a folder here nor a model in the local hub cache, and could not be "
            f"fetched ({first_line(error)}): run `hf download {name}"
            f"{f' --revision {wanted}' if wanted else ''}` where there is a network."
        ) from error
    require_readable(folder)
    return folder


def _require_readable_cache(name: str) -> None:
    """StudyError where a model's folder in the hub cache may not be read.

    The hub's client takes such a folder for a missing one.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    model = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
    for folder in (model, model / "refs", model / "snapshots"):
        require_readable(folder)


def load_complete(
    kind: Any, folder: Path, *, may_hold: tuple[str, ...] = (), **options: Any
) -> nn.Module:
    """`kind.from_pretrained(folder)` in float32 and test mode.

    may_hold: prefixes of tensors that the file may hold and the model does not use; "" stands for
    all. options: of `from_pretrained`. StudyError where the file is damaged, or a tensor is
    missing, of another shape or of no use.
    """
    require_readable(folder)
    require_plain(folder, pickles=not options.get("use_safetensors"))
    if (folder / "config.json").is_file():
        read_json(folder / "config.json")
    try:
        with _quiet():
            model, info = kind.from_pretrained(
                str(folder),
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                **options,
            )
    except Exception as error:  # the libraries' classes are many and unrelated
        raise StudyError(
            f"The weights in {folder} could not be loaded ({first_line(error)}): "
            "fetch or save them again."
        ) from error
    wrong = _differing(info, may_hold)
    if wrong:
        raise StudyError(
            f"The weights in {folder} are not of the {kind.__name__} that its config.json "
            f"describes: {len(wrong)} tensors differ, e.g. {wrong[0]}; "
            "fetch them again or name another folder."
        )
    return model.eval()


def part_folder(stable_diffusion: Path, part: str, source: str | Path | None = None) -> Path:
    """Folder of a part of Stable Diffusion: `stable_diffusion/part`, or `source` if given.

    `source` is a folder or hub id of the part itself, or has the part below it.
    """
    if source is None:
        return stable_diffusion / part
    folder = local_folder(source)
    return folder / part if (folder / part / "config.json").is_file() else folder


def load_part(kind: Any, folder: Path, part: str, source: str | Path | None = None) -> nn.Module:
    """A part of Stable Diffusion or of our saved generator, from safetensors; see `part_folder`."""
    where = part_folder(folder, part, source)
    require_readable(where)
    if not (where / "config.json").is_file():
        hint = f", or name one with generator.{part}" if part in ("vae", "image_encoder") else ""
        raise StudyError(
            f"No {part}/config.json in {folder}: give a folder in Stable Diffusion's diffusers "
            f"layout (or our saved generator){hint}."
        )
    may_hold = BESIDE_VISION if part == "image_encoder" else ()
    return load_complete(kind, where, may_hold=may_hold, use_safetensors=True)


def load_clip(source: str | Path) -> tuple[nn.Module, nn.Module, Any]:
    """(vision, text, tokenizer): CLIP's encoders with their projections, from folder or hub id.

    A whole CLIP has one `config.json` (openai/clip-vit-base-patch16). A Stable Diffusion layout has
    `image_encoder`, `text_encoder` and `tokenizer`. StudyError naming what is missing.
    """
    from transformers import CLIPModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    folder = _transformers_folder(source)
    if (folder / "config.json").is_file():
        return *clip_towers(load_complete(CLIPModel, folder)), _tokenizer(folder)
    for part in CLIP_PARTS:
        if not (folder / part).is_dir():
            raise StudyError(
                f"The folder {folder / part} is missing: CLIP-ReID needs a CLIP model, "
                f"or {', '.join(CLIP_PARTS)} below {folder}."
            )
    vision, text, tokenizer = (folder / part for part in CLIP_PARTS)
    return (
        load_complete(CLIPVisionModelWithProjection, vision),
        load_complete(CLIPTextModelWithProjection, text),
        _tokenizer(tokenizer),
    )


def published_folders(source: str | Path) -> list[Path]:
    """The folders that determine what `load_clip` and `load_resnet` give, for run records."""
    folder = _transformers_folder(source)
    return [folder / part for part in CLIP_PARTS] if (folder / CLIP_PARTS[0]).is_dir() else [folder]


def clip_towers(clip: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The vision and the text encoder of a whole CLIP, sharing its weights."""
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    with torch.device("meta"):  # shells without storage, filled at once
        vision = CLIPVisionModelWithProjection(clip.config.vision_config)
        text = CLIPTextModelWithProjection(clip.config.text_config)
    vision.vision_model, vision.visual_projection = clip.vision_model, clip.visual_projection
    text.text_model, text.text_projection = clip.text_model, clip.text_projection
    return vision, text


def load_resnet(source: str | Path) -> nn.Module:
    """A ResNet in the `transformers` layout (microsoft/resnet-50) without its classifier."""
    from transformers import ResNetBackbone

    classifier = ("classifier.", "resnet.classifier.")
    return load_complete(ResNetBackbone, _transformers_folder(source), may_hold=classifier)


def save_tensors(
    tensors: dict[str, Tensor], path: Path, about: dict[str, Any] | None = None
) -> None:
    """One safetensors file with `about` as JSON in its header, whole or not at all."""
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as draft:
        save_file(copies, draft, metadata=None if about is None else {"about": json.dumps(about)})


def load_into(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Strict `load_state_dict` that names the first tensor that does not fit; path: their file."""
    own = module.state_dict()
    for name in sorted(own.keys() ^ tensors.keys()):
        problem = "missing" if name in own else "unexpected"
        raise StudyError(f"{path} is of another architecture: {name} is {problem}.")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise StudyError(
                f"{path} is of another architecture: {name} is {tuple(tensor.shape)}, "
                f"expected {tuple(own[name].shape)}."
            )
    module.load_state_dict(tensors)


def plain(section: Any) -> Any:
    """A section of the parameters (pydantic model, namespace or dict) as JSON has it."""
    if hasattr(section, "model_dump"):
        return section.model_dump()
    if isinstance(section, dict):
        return {name: plain(value) for name, value in section.items()}
    if hasattr(section, "__dict__"):
        return {name: plain(value) for name, value in vars(section).items()}
    return section


def first_line(error: Exception) -> str:
    """The first line of an error's text, whole words up to 300 characters, or its class."""
    line = str(error).strip().split("\n")[0]
    return textwrap.shorten(line, 300, placeholder=" …") or type(error).__name__


def _transformers_folder(source: str | Path) -> Path:
    """`local_folder` of a published CLIP or ResNet; some have their weights in no safetensors."""
    return local_folder(source, also=("pytorch_model.bin",))


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    require_readable(folder)
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the libraries' classes are many and unrelated
        raise StudyError(
            f"The tokenizer in {folder} could not be loaded ({first_line(error)}): fetch it again."
        ) from None


def _differing(info: dict[str, Any], may_hold: tuple[str, ...]) -> list[str]:
    """Names of the tensors that do not fit, from what `output_loading_info` gives."""
    # A mismatched key comes with its two shapes.
    mismatched = [
        name if isinstance(name, str) else name[0] for name in info.get("mismatched_keys", ())
    ]
    # CLIP files of older versions carry the running numbers 0, 1, … of positions.
    unexpected = [
        name
        for name in info.get("unexpected_keys", ())
        if not name.endswith("position_ids") and not name.startswith(may_hold)
    ]
    return sorted([*info.get("missing_keys", ()), *mismatched, *unexpected])


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no report per tensor: `load_complete` says what matters of them."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in ("transformers", "diffusers")]
    levels = [logger.level for logger in loggers]
    bars.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            bars.enable_progress_bar()


@command()
def main(arguments: list[str] | None = None) -> int:
    """The command: see this module's first lines."""
    parser = argparse.ArgumentParser(
        prog="python -m posedive_lib.weights",
        description="Write the .bin weights of a model's folder as .safetensors beside them.",
    )
    parser.add_argument("folder", type=expanduser)
    print(f"Wrote {convert(Path(parser.parse_args(arguments).folder))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Folders of weights: local or on a hub, in Stable Diffusion's layout or our own, loaded completely or refused with one sentence."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from posedive_lib.errors import StudyError
from posedive_lib.loading import differing, first_line, quiet
from posedive_lib.writing import replacing, writing

# What a whole CLIP (both towers, as OpenAI published ViT-L/14) holds beside its vision tower, and buffers of older releases.
BESIDE = ("text_model.", "text_projection.", "logit_scale", "vision_model.embeddings.position_ids")


def resolve(path_or_hub_id: str | Path, revision: str | None = None) -> Path:
    """Local folder, or a hub id such as `org/name` or `org/name@revision`, fetched (or found in the cache). StudyError when neither exists."""
    folder = Path(path_or_hub_id)
    if folder.is_dir():
        return folder
    text = str(path_or_hub_id)
    name, _, pinned = text.partition("@")
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        raise StudyError(
            f"No folder {text}: give an existing folder of weights or a hub id such as org/name."
        )
    from huggingface_hub import snapshot_download

    patterns = [
        "*.json",
        "*.txt",
        "model.safetensors",
        "*/model.safetensors",
        "*diffusion_pytorch_model.safetensors",
    ]
    try:
        return Path(
            snapshot_download(name, revision=revision or pinned or None, allow_patterns=patterns)
        )
    except Exception as error:  # the hub's client raises many unrelated classes
        raise StudyError(
            f"{text} is neither a folder here nor a hub model that could be fetched: {first_line(error)}"
        ) from error


def part_folder(stable_diffusion: Path, part: str, source: str | Path | None = None) -> Path:
    """Folder of a frozen part: `source` (a folder or hub id, itself or with `part` below it) if given, else `stable_diffusion/part`."""
    if source is None:
        return stable_diffusion / part
    folder = resolve(source)
    return folder / part if (folder / part / "config.json").is_file() else folder


def load_part(kind: type, folder: Path, part: str, source: str | Path | None = None) -> nn.Module:
    """`kind.from_pretrained` on the part's folder, safetensors only; StudyError if anything is missing, truncated or of another shape."""
    where = part_folder(folder, part, source)
    if not (where / "config.json").is_file():
        hint = f", or name one with generator.{part}" if part in ("vae", "image_encoder") else ""
        raise StudyError(
            f"No {part}/config.json in {folder}: give a folder in Stable Diffusion's diffusers layout (or our saved generator){hint}."
        )
    try:
        with quiet():
            model, info = kind.from_pretrained(
                str(where),
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise StudyError(
            f"The weights in {where} could not be loaded ({first_line(error)}): fetch or save them again."
        ) from error
    wrong = [name for name in differing(info) if not name.startswith(BESIDE)]
    if wrong:
        raise StudyError(
            f"The weights in {where} are not of the {kind.__name__} that its config.json describes: {len(wrong)} tensors differ, e.g. {wrong[0]}; "
            "fetch or save them again."
        )
    return model.eval()


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of one safetensors file; StudyError if it is missing or truncated."""
    if not path.is_file():
        raise StudyError(f"No file {path}: this is not a complete saved generator.")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StudyError(
            f"{path} is damaged ({first_line(error)}): remove it, or save or fetch it again."
        ) from error


def load_into(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Strict `load_state_dict` that names the first tensor that does not fit."""
    own = module.state_dict()
    for name in sorted(own.keys() ^ tensors.keys()):
        raise StudyError(
            f"{path} is of another architecture: {name} is {'missing' if name in own else 'unexpected'}."
        )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise StudyError(
                f"{path} is of another architecture: {name} is {tuple(tensor.shape)}, expected {tuple(own[name].shape)}."
            )
    module.load_state_dict(tensors)


def save_tensors(
    tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file whole or not at all: a kill or a full disk leaves the last good file in place."""
    with replacing(path) as draft:
        save_file(
            {name: tensor.detach().contiguous() for name, tensor in tensors.items()},
            draft,
            metadata=metadata,
        )


@contextmanager
def replaced_folder(folder: Path):
    """Yields a temporary sibling that takes the place of `folder` when the block ends well; else `folder` stays as it was."""
    temporary, old = folder.with_name(folder.name + ".tmp"), folder.with_name(folder.name + ".old")
    with writing(folder):
        _put_back(old, folder)
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if folder.exists():
                os.replace(folder, old)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            _put_back(old, folder)


def _put_back(old: Path, folder: Path) -> None:
    """What stopped between the two renames of `replaced_folder` goes back to its place; what has been replaced goes."""
    if old.exists() and not folder.exists():
        os.replace(old, folder)
    shutil.rmtree(old, ignore_errors=True)

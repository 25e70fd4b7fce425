"""Files of weights in a model's folder: which there are, and the one that the study reads."""

import re
from pathlib import Path

from safetensors.torch import save_file

from posedive_lib.errors import StudyError, require_readable
from posedive_lib.intake.tensors import read_pickled_tensors, read_tensors
from posedive_lib.writing import replacing

# diffusion_pytorch_model.safetensors, model.fp16.safetensors, pytorch_model.bin, …; also a piece of
# a model: transformers names a variant before the number, older diffusers behind it.
WEIGHTS = re.compile(
    r"(?P<kind>diffusion_pytorch_)?(pytorch_)?model(?P<variant>\.[a-z]\w*)?"
    r"(?P<piece>-\d+-of-\d+(\.[a-z]\w*)?)?\.(?P<end>safetensors|bin)"
)


def _weight_files(folder: Path) -> list[re.Match[str]]:
    """Names of a folder's files of weights, those first that are best to load or convert."""
    found = (WEIGHTS.fullmatch(path.name) for path in folder.glob("*"))
    # One file before pieces, full precision before a variant, safetensors before pickles.
    return sorted(
        filter(None, found),
        key=lambda m: (bool(m["piece"]), _is_variant(m), m["end"] == "bin", m[0]),
    )


def _is_variant(name: re.Match[str]) -> bool:
    """Whether a file is named after its precision, wherever in its name."""
    return bool(name["variant"]) or "." in (name["piece"] or "")


def require_plain(folder: Path, *, pickles: bool) -> None:
    """StudyError where a folder has its weights only in files that `from_pretrained` passes by.

    pickles: whether pytorch_model.bin will do.
    """
    found = _weight_files(folder)
    if found and not _plain(found, pickles):
        _require_whole(folder, found)
        raise StudyError(
            f"{folder} has its weights only as {', '.join(m[0] for m in found)}: convert them "
            f"with `python -m posedive_lib.weights {folder}`."
        )


def _plain(found: list[re.Match[str]], pickles: bool = False) -> list[str]:
    """Names of the files that `from_pretrained` reads; pickles: pytorch_model.bin, too."""
    ends = ("safetensors", "bin") if pickles else ("safetensors",)
    return [m[0] for m in found if m["end"] in ends and not _is_variant(m)]


def _require_whole(folder: Path, found: list[re.Match[str]]) -> None:
    """StudyError where the best file is one piece of several."""
    if found[0]["piece"]:
        raise StudyError(
            f"{folder} has its weights in pieces ({found[0][0]}), which are not converted: fetch "
            "them as one file, or as pieces of safetensors in full precision."
        )


def convert(folder: Path) -> Path:
    """Write the float32 safetensors that a folder lacks, from its half-precision or pickled file.

    StudyError where there is nothing to convert: no weights, or safetensors that are read as they
    are. No file that was there is changed.
    """
    require_readable(folder)
    found = _weight_files(folder)
    if not found:
        raise StudyError(f"{folder} holds no weights: name the folder of one model.")
    for name in _plain(found)[:1]:
        raise StudyError(
            f"{folder / name} is read as it is, in any precision: there is nothing to convert."
        )
    _require_whole(folder, found)
    source = folder / found[0][0]
    words = "could not be read", "fetch it again"
    if found[0]["end"] == "bin":
        tensors = read_pickled_tensors(source, *words)
    else:
        tensors, _ = read_tensors(source, *words)
    whole = {
        name: value.float().contiguous().clone() if value.is_floating_point() else value.clone()
        for name, value in tensors.items()
    }
    out = folder / f"{found[0]['kind'] or ''}model.safetensors"
    with replacing(out) as draft:
        save_file(whole, draft, metadata={"format": "pt"})
    return out

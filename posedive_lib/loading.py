"""What loading weights with `transformers` and `diffusers` has in common: their JSON files, silence, which tensors differ, errors in one line."""

import json
import logging
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import logging as bars

from posedive_lib.errors import StudyError


def read_json(path: Path, *needed: str) -> dict:
    """The JSON object in `path`; StudyError where there is none or it lacks one of the keys `needed`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(
            f"{path} could not be read ({first_line(error)}): save or fetch it again."
        ) from error
    if not isinstance(content, dict):
        raise StudyError(
            f"{path} holds a {type(content).__name__} in place of names and values: save or fetch it again."
        )
    missing = [name for name in needed if name not in content]
    if missing:
        raise StudyError(f"{path} lacks {', '.join(missing)}: save or fetch it again.")
    return content


@contextmanager
def quiet():
    """No bar and no report per file: what matters of them becomes one sentence."""
    shown, loggers = (
        bars.is_progress_bar_enabled(),
        [logging.getLogger(name) for name in ("transformers", "diffusers")],
    )
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


def differing(info: dict) -> list[str]:
    """Names of the tensors that are missing, too many or of another shape, from what `output_loading_info` and `ignore_mismatched_sizes` give."""
    found = (
        name
        for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
        for name in info.get(key, ())
    )
    return sorted(name if isinstance(name, str) else name[0] for name in found)


def first_line(error: Exception) -> str:
    """The first line of an error's text, 200 characters at most, or its class."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__

"""Every input of a study is there, and none of the user's own lies where DVC would remove it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from posedive_lib.bench import reports
from posedive_lib.errors import StudyError, is_folder
from posedive_lib.intake.frames import check_domains, check_frames
from posedive_lib.params import Params
from posedive_lib.places import BUILD, require_kept

MODELS = ("stable_diffusion", "phase1", "clip", "resnet", "pose_estimator")  # of `paths`
PARTS = ("vae", "image_encoder")  # of `generator`, models too
DATA = Path("data")
# What the bundle that comes with the study has in data/. Parts of Stable Diffusion may be named.
BUNDLE = (
    "body/SMPL_NEUTRAL.npz",
    "motions",
    "motions/in-domain",
    "motions/out-of-domain",
    "world",
    "pretrained/clip",
    "pretrained/phase1",
    "pretrained/resnet",
    "pretrained/vitpose",
    "pretrained/stable-diffusion",
    "pretrained/stable-diffusion/vae",
    "pretrained/stable-diffusion/image_encoder",
)


def check_inputs(params: Params, params_file: str = "params.yaml") -> None:
    """StudyError unless every file and folder under `paths` is there, but for what is written.

    A model may also be named by its hub id; see `local_folder`.
    """
    for check in input_checks(params, params_file):
        check()


def input_checks(params: Params, params_file: str) -> list[Callable[[], None]]:
    """Checks that raise a StudyError: of each input, and of each place that is written to."""
    checks: list[Callable[[], None]] = []
    for key, value in _named(params):
        checks.append(partial(_check_own_place, value, f"{params_file}: {key}"))
    for part in PARTS:
        place = f"{params_file}: generator.{part}"
        checks.append(partial(_check_model, getattr(params.generator, part), None, place))
    for key in ("bodies", "splits"):
        place = f"{params_file}: paths.{key}"
        checks.append(partial(require_kept, getattr(params.paths, key), place))
    unneeded = {*params.paths.written}
    if reports.own_data(params.paths.datasets):
        unneeded.add("world")
    for key, value in params.paths.model_dump().items():
        if value is not None and key not in unneeded:
            checks.append(partial(_check_path, key, value, params, params_file))
    motions = params.paths.motions
    return [*checks, partial(check_frames, motions), partial(check_domains, motions)]


def _named(params: Params) -> Iterator[tuple[str, str]]:
    """Every parameter that names a file or a folder, and what it names."""
    for section, keys in (
        ("paths", [*params.paths.model_dump()]),
        ("generator", PARTS),
        ("bodies", ("hmr2",)),
    ):
        for key in keys:
            value = getattr(getattr(params, section), key)
            if value is not None:
                yield f"{section}.{key}", value


def _check_path(key: str, value: str, params: Params, params_file: str) -> None:
    """StudyError unless what `paths.key` names is there."""
    if is_folder(value) or Path(value).exists():
        return
    mend = "put it there"
    if key in MODELS and not value.startswith("data/"):
        revision = params.generator.revision if key == "stable_diffusion" else None
        _check_model(value, revision, f"{params_file}: paths.{key}")
        return
    if value.startswith("data/"):
        mend = "run `dvc pull data.dvc`"
    elif key == "datasets" and Path(value).is_relative_to(BUILD):  # where the stage renders
        mend = "run `dvc repro world`"
    raise StudyError(
        f"{params_file}: paths.{key} names {value}, which does not exist; "
        f"{mend} or change the parameter."
    )


def _check_own_place(name: str, parameter: str) -> None:
    """StudyError for files of one's own in data/, which is DVC's: it deletes them, or copies them.

    Only what the bundle has there is the study's.
    """
    path, data = Path(name).resolve(), DATA.resolve()
    bundle = {data / known for known in BUNDLE}
    if path.is_relative_to(data) and path not in bundle:
        raise StudyError(
            f"{parameter} names {name}, but `dvc pull` sets {DATA}/ back, and `dvc push` copies it "
            "into .dvc/bundle: move your own files to licensed/ or outside of this folder."
        )


def _check_model(name: str | None, revision: str | None, parameter: str) -> None:
    """StudyError unless a model is in a folder, in the hub's local cache or on the hub."""
    if name is None or Path(name).is_dir():
        return
    from posedive_lib.weights import local_folder  # PyTorch takes a second to load

    try:
        local_folder(name, revision)
    except StudyError as error:
        raise StudyError(f"{parameter}: {error}") from None

"""The model-and-data card of an augmented data set: what made it, and what it may be used for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from posedive_lib.digests import file_digest, folder_digest
from posedive_lib.intake.tables import read_table
from posedive_lib.weights import local_folder, read_json

if TYPE_CHECKING:
    import pandas as pd

    from posedive_lib.datasets import ReIDDataset
    from posedive_lib.params import Params

NAME = "CARD.md"
TEMPLATE = Path(__file__).with_name("card.md")
PHOTOS = "photos.csv"  # beside a generator: the photos that it was trained on
SETTINGS = ("seed", "image", "conditions", "generator.sampling", "augment")


def card(
    P: Params,
    dataset: ReIDDataset,
    manifest: pd.DataFrame,
    *,
    arm: str,
    generator: Path | None,
    painter: str,
) -> str:
    """Text of `CARD.md`, in Markdown; the same for the same inputs.

    manifest: judged candidates, with column added. generator: its folder, or None where images came
    from elsewhere; `painter` is the key of what drew them.
    """
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=dataset.name,
        arm=arm,
        version=version("posedive-lib"),
        counts=_table("count", "images", _counts(dataset, manifest)),
        rules=_table("rejected by", "candidates", _rules(manifest)),
        settings=yaml.safe_dump(P.pick(*SETTINGS), sort_keys=True).strip(),
        weights=_table("file or folder", "SHA-256", _weights(P, generator)),
        training=_training(generator) if generator else f"Images came from `{painter}`.",
    )


def _counts(dataset: ReIDDataset, manifest: pd.DataFrame) -> dict[str, int]:
    added = manifest[manifest["added"].astype(bool)]
    train = dataset.train
    old = int(train["generated"].sum())
    return {
        "real training images": len(train) - old,
        "generated images that were there before": old,
        "identities in training": train["pid"].nunique(),
        "query images, all real": len(dataset.query),
        "gallery images, all real": len(dataset.gallery),
        "candidates generated": len(manifest),
        "candidates that passed the filter": int(manifest["kept"].sum()),
        "generated images added": len(added),
        "identities with generated images": added["pid"].nunique(),
    }


def _rules(manifest: pd.DataFrame) -> dict[str, int]:
    counts = manifest["rejected_by"].value_counts()
    return {str(rule) or "none: it passed": int(count) for rule, count in counts.items()}


def _weights(P: Params, generator: Path | None) -> dict[str, str]:
    """SHA-256 of all that decides an image: of a file, or over names and contents of a folder."""
    paths = P.paths
    folders: dict[str, str | None] = {
        "pose estimator": paths.pose_estimator,
        "motions": paths.motions,
    }
    if generator is not None:
        others = {"VAE": P.generator.vae, "image encoder": P.generator.image_encoder}
        folders |= {"generator": str(generator), **others}
    found = {
        f"{what}: `{Path(folder).name}`": folder_digest(local_folder(folder))
        for what, folder in folders.items()
        if folder
    }
    if generator is not None:
        frozen = local_folder(paths.stable_diffusion, P.generator.revision)
        found[f"Stable Diffusion: `{paths.stable_diffusion}`"] = folder_digest(frozen)
    return found | {f"body model: `{Path(paths.body).name}`": file_digest(paths.body)}


def _training(generator: Path) -> str:
    settings = read_json(generator / "posedive.json", "generator")
    about = settings.get("training") or {}
    photos = generator.parent / PHOTOS
    seen = "the photos that it was trained on are not known here: name them yourself"
    if photos.is_file():
        table = read_table(photos)
        sets = " and ".join(sorted(set(table["dataset"])))
        people = table["pid"].nunique()
        seen = f"on {len(table)} photos of {people} identities of {sets}, listed in `{PHOTOS}`"
        seen += f" beside it (SHA-256 `{file_digest(photos)}`)"
    return (
        f"The generator was trained for {about.get('steps', 'an unknown number of')} steps "
        f"(run `{about.get('key', 'unknown')}`), {seen}.\nIts settings:\n\n"
        f"```yaml\n{yaml.safe_dump(settings['generator'], sort_keys=True).strip()}\n```"
    )


def _table(name: str, value: str, rows: Mapping[str, object]) -> str:
    lines = [f"| {name} | {value} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {key} | {number} |" for key, number in rows.items())])

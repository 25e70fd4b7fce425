"""A contact sheet of an augmented data set: each person's reference beside what was generated."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from posedive_lib.datasets.archives import Archived
from posedive_lib.datasets.images import read as read_images
from posedive_lib.seeds import rng_for

GAP, LABEL, REJECTED = 4, 26, (200, 60, 40)


def contact_sheet(
    manifest: pd.DataFrame,
    train: pd.DataFrame,
    out: Path,
    *,
    height: int,
    width: int,
    people: int = 12,
    images: int = 8,
) -> Image.Image:
    """One row per person, chosen by a fixed key: the reference, then the first candidates.

    Each candidate has its mean confidence; a rejected one a red frame and the rule's name.
    manifest: judged rows, their archives' paths relative to `out`. train: path and rel of the real
    images.
    """
    pids = np.unique(manifest["pid"].to_numpy(int))
    pids = np.sort(rng_for("contact sheet").permutation(pids)[:people])
    across, down = width + GAP, height + LABEL + GAP
    size = (images + 1) * across + GAP, max(len(pids), 1) * down + GAP
    sheet = Image.new("RGB", size, "white")
    draw, paths = ImageDraw.Draw(sheet), dict(zip(train["rel"], train["path"], strict=True))
    for number, pid in enumerate(pids):
        rows = manifest[manifest["pid"] == pid].sort_values("index").head(images)
        reference = read_images([paths[rows["reference"].iloc[0]]], height, width)
        photos = [*reference, *Archived(rows, out, height, width)]
        notes = [f"{pid}", *(f"{row.gen_mean:.2f}\n{row.rejected_by}" for row in rows.itertuples())]
        for column, (photo, note) in enumerate(zip(photos, notes, strict=True)):
            x, y = GAP + column * across, GAP + number * down
            rejected = column > 0 and not rows["kept"].iloc[column - 1]
            if rejected:
                draw.rectangle([x - 2, y - 2, x + width + 1, y + height + 1], fill=REJECTED)
            sheet.paste(Image.fromarray(photo), (x, y))
            draw.text((x, y + height), note, spacing=1, fill=REJECTED if rejected else "black")
    return sheet

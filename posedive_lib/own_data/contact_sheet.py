"""A contact sheet of an augmented data set: each person's reference beside what was generated of them."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

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
    """One row per person, chosen by a fixed key: reference, then the first candidates with their mean confidence; a rejected one has a
    red frame and the rule's name. manifest: judged rows, their paths relative to `out`; train: path and rel of the real images."""
    pids = np.unique(manifest["pid"].to_numpy(int))
    pids = np.sort(rng_for("contact sheet").permutation(pids)[:people])
    sheet = Image.new(
        "RGB",
        ((images + 1) * (width + GAP) + GAP, max(len(pids), 1) * (height + LABEL + GAP) + GAP),
        "white",
    )
    draw, paths = ImageDraw.Draw(sheet), dict(zip(train["rel"], train["path"], strict=True))
    for number, pid in enumerate(pids):
        rows = manifest[manifest["pid"] == pid].sort_values("index").head(images)
        photos = read_images(
            [paths[rows["reference"].iloc[0]], *(Path(out) / path for path in rows["path"])],
            height,
            width,
        )
        notes = [f"{pid}", *(f"{row.gen_mean:.2f}\n{row.rejected_by}" for row in rows.itertuples())]
        for column, (photo, note) in enumerate(zip(photos, notes, strict=True)):
            x, y = GAP + column * (width + GAP), GAP + number * (height + LABEL + GAP)
            rejected = column > 0 and not rows["kept"].iloc[column - 1]
            if rejected:
                draw.rectangle([x - 2, y - 2, x + width + 1, y + height + 1], fill=REJECTED)
            sheet.paste(Image.fromarray(photo), (x, y))
            draw.text((x, y + height), note, spacing=1, fill=REJECTED if rejected else "black")
    return sheet

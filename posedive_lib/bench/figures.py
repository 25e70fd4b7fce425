"""One look for every figure, and one way to save it: picture, data, caption and alternative text.

Colours are seaborn's colour-blind-safe ones, and every series also has its own marker and line
style. Saved files hold no dates and no versions, so a changed file means a changed result.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from posedive_lib.bench import reports
from posedive_lib.bench.runs import write_bytes, write_text
from posedive_lib.bench.tables import to_csv
from posedive_lib.errors import StudyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = sns.color_palette("colorblind", 8).as_hex()
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
DPI = 110
SVG_LIMIT = 200_000  # bytes; larger vector files load more slowly than their PNG
METRICS = {
    "rank1": "rank-1",
    "pck": "key points right (PCK)",
    "identity_top1": "person right (top-1)",
    "psnr": "PSNR (dB)",
    "psnr_same_side": "PSNR, same side (dB)",
    "psnr_other_side": "PSNR, other side (dB)",
    "ssim": "SSIM",
    "detail": "detail of the person",
    "detail_background": "detail of the background",
    "print_kept": "print kept",
    "print_false": "print where none is",
}  # as axes name them

# One look per arm, wherever it is drawn.
ARMS = (
    "real",
    "repeat",
    "same-distribution",
    "viewpoint",
    "pose",
    "pose-dive",
    "oracle-same",
    "oracle",
)
# Other ways to draw or to choose images of pose-dive look like it; their names tell them apart.
LIKE = dict.fromkeys(("uniform", "unfiltered", "with-bags", "without-bags"), "pose-dive")
Picture = np.ndarray | None  # uint8 (H, W, 3), (H, W, 1) or (H, W); None leaves a gap


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure, inside a `with` block or, as a decorator, inside a function.

    It starts from matplotlib's own defaults, so that a user's matplotlibrc changes nothing.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        sns.set_theme(style="whitegrid", context="notebook", palette=COLOURS)
        cycle = plt.cycler(color=COLOURS) + plt.cycler(marker=MARKERS) + plt.cycler(linestyle=LINES)
        matplotlib.rcParams.update(
            {
                "axes.prop_cycle": cycle,
                "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
                "font.size": 11,
                "axes.titlesize": 12,
                "axes.labelsize": 11,
                "legend.fontsize": 10,
                "figure.figsize": (7.0, 4.2),
                "figure.dpi": DPI,
                "savefig.dpi": DPI,
                "figure.constrained_layout.use": True,
                "lines.markersize": 6,
                "lines.linewidth": 1.8,
                "image.cmap": "cividis",
                "svg.hashsalt": "pose-dive",
                "svg.fonttype": "none",
            }
        )
        yield


def arm_style(arm: str) -> dict[str, Any]:
    """Arguments of `Axes.plot` for an arm: its colour, marker and line in every figure."""
    known = LIKE.get(arm, arm)
    if known not in ARMS:
        names = ", ".join([*ARMS, *LIKE])
        raise StudyError(f"{arm!r} is no arm of the study; the arms are {names}.")
    index = ARMS.index(known)
    return {
        "color": COLOURS[index],
        "marker": MARKERS[index],
        "linestyle": LINES[index],
        "label": arm,
    }


@style()
def save(
    fig: Figure,
    name: str,
    *,
    caption: str,
    alt: str,
    data: pd.DataFrame | None = None,
    svg: bool | None = None,
) -> None:
    """Write a figure below `figures` of the reports, show it and close it.

    NAME.png (.jpg if there are photos in it), NAME.md with caption and alternative text, NAME.csv
    with `data`, and NAME.svg. `name` may hold a folder ("02/viewpoints"). `svg` is None for "if the
    figure has no pixel image in it".
    """
    caption, alt = _one_line("caption", name, caption), _one_line("alt", name, alt)
    has_pixels = any(axes.images for axes in fig.axes)
    kind = "jpg" if has_pixels else "png"
    picture = _render(fig, kind)
    path = reports.folder() / f"figures/{name}.{kind}"
    write_bytes(path, picture)
    links = [f"[{kind.upper()}]({path.name})"]
    if svg if svg is not None else not has_pixels:
        vector = _render(fig, "svg")
        if len(vector) <= SVG_LIMIT:
            write_bytes(path.with_suffix(".svg"), vector)
            links.append(f"[SVG]({path.stem}.svg)")
    if data is not None:
        write_text(path.with_suffix(".csv"), to_csv(data))
        links.append(f"[data]({path.stem}.csv)")
    text = f"![{alt}]({path.name})\n\n{caption}\n\n{' · '.join(links)}\n"
    write_text(path.with_suffix(".md"), text)
    plt.close(fig)
    show(picture, kind, caption=caption, alt=alt)


def show(picture: bytes, kind: str = "png", *, caption: str, alt: str) -> None:
    """Display a picture ("png" or "jpg") and its texts in a notebook; elsewhere do nothing."""
    from IPython import get_ipython
    from IPython.display import Markdown, display

    if get_ipython() is None:
        return
    mime = {"png": "image/png", "jpg": "image/jpeg"}[kind]
    display(
        {mime: base64.b64encode(picture).decode(), "text/plain": alt},
        metadata={mime: {"alt": alt}},
        raw=True,
    )
    display(Markdown(caption))


def _one_line(kind: str, name: str, text: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise StudyError(f"Figure {name} has no {kind}; say in a sentence what it shows.")
    return text


def _render(fig: Figure, kind: str) -> bytes:
    """The figure as "svg", "png" or "jpg".

    PNG has 256 colours: a third of the bytes, and no loss to the eye. Photos need JPEG.
    """
    stream = io.BytesIO()
    if kind == "svg":
        fig.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        return stream.getvalue()
    fig.savefig(stream, format="png", metadata={"Software": None})
    image, small = Image.open(stream).convert("RGB"), io.BytesIO()
    if kind == "jpg":
        image.save(small, format="JPEG", quality=88, subsampling=0, optimize=True)
    else:
        image.quantize(256, dither=Image.Dither.NONE).save(small, format="PNG", optimize=True)
    return small.getvalue()


def wrapped(name: str, width: int = 9) -> str:
    """A name such as "raised_arms_1" in lines of about `width` letters, for a narrow label.

    Its number stays with the word before it: alone on a line it reads like an angle.
    """
    words = re.sub(r" (?=\d+$)", "\xa0", name.replace("_", " "))
    return "\n".join(wrap(words, width)).replace("\xa0", " ")


@style()
def image_grid(
    rows: Sequence[Sequence[Picture]],
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    captions: Sequence[Sequence[str | None]] = (),
    scale: float = 1.0,
    title: str | None = None,
) -> Figure:
    """Figure of pictures of one size, kept in their own shape.

    `captions` are small texts under the pictures; `scale` is screen pixels per picture pixel.
    """
    height, width = _common_size(rows)
    columns = max(len(row) for row in rows)
    # In inches: space for the labels, a cell, and a caption
    label = 0.11 * max((len(text) for text in row_labels), default=0)
    above = max((0.14 + 0.16 * (text.count("\n") + 1) for text in column_labels), default=0.0)
    cell_w, cell_h = width * scale / DPI, height * scale / DPI
    under = 0.22 if captions else 0.0
    fig_w = columns * (cell_w + 0.05) + label
    fig_h = len(rows) * (cell_h + 0.05 + under) + above + 0.35 * bool(title)
    fig, axes = plt.subplots(
        len(rows), columns, squeeze=False, layout="constrained", figsize=(fig_w, fig_h)
    )
    engine = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    fig.set_layout_engine(engine)
    for y, row in enumerate(rows):
        for x in range(columns):
            _draw(axes[y, x], row[x] if x < len(row) else None, (height, width))
    for axis, text in zip(axes[0], column_labels, strict=False):
        axis.set_title(text, fontsize=9, pad=3)
    for axis, text in zip(axes[:, 0], row_labels, strict=False):
        axis.set_ylabel(text, fontsize=9, rotation=0, ha="right", va="center")
    for line, texts in zip(axes, captions, strict=False):
        for axis, under_it in zip(line, texts, strict=False):
            if under_it:
                axis.set_xlabel(under_it, fontsize=8, labelpad=2)
    if title:
        fig.suptitle(title, fontsize=11)
    return fig


def _common_size(rows: Sequence[Sequence[Picture]]) -> tuple[int, int]:
    sizes = {image.shape[:2] for row in rows for image in row if image is not None}
    if len(sizes) != 1:
        found = sorted(sizes) or "none"
        raise StudyError(f"An image grid needs images of one size, and got {found}.")
    return sizes.pop()


def _draw(axes: Axes, image: Picture, size: tuple[int, int]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if image is None:  # keeps the place of an image, so that captions stay in line
        axes.set(facecolor="none", aspect="equal", xlim=(0, size[1]), ylim=(size[0], 0))
        return
    if image.dtype != np.uint8:
        raise StudyError(f"An image grid shows uint8 images, and got {image.dtype}.")
    grey = image.ndim == 2 or image.shape[2] == 1
    axes.imshow(
        image.reshape(image.shape[:2]) if grey else image,
        cmap="gray" if grey else None,
        vmin=0,
        vmax=255,
        interpolation="antialiased",
    )

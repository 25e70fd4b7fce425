"""One look for every figure of the study, and one way to save it: picture, data, caption and alternative text together.

Colours are seaborn's colour-blind-safe ones, and every series also has its own marker and line style. Saved files hold no dates
and no versions, so a changed file means a changed result.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from posedive_lib.bench.runs import write_bytes, write_text
from posedive_lib.bench.tables import to_csv
from posedive_lib.errors import StudyError

FOLDER = Path("reports/figures")
COLOURS = sns.color_palette("colorblind", 8).as_hex()
METRICS = {
    "rank1": "rank-1",
    "pck": "pose right (PCK)",
    "identity_top1": "person right (top-1)",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
}  # as axes name them
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
DPI = 110
SVG_LIMIT = 200_000  # bytes; larger vector files load more slowly than their PNG

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


def use_style() -> None:
    """Set the look of every figure made from now on."""
    sns.set_theme(style="whitegrid", context="notebook", palette=COLOURS)
    plt.rcParams.update(
        {
            "axes.prop_cycle": plt.cycler(color=COLOURS)
            + plt.cycler(marker=MARKERS)
            + plt.cycler(linestyle=LINES),
            "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
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


use_style()


def arm_style(arm: str) -> dict:
    """Keyword arguments of `Axes.plot` for an arm of the study: the same colour, marker and line in every figure."""
    if arm not in ARMS:
        raise StudyError(f"{arm!r} is no arm of the study; the arms are {', '.join(ARMS)}.")
    index = ARMS.index(arm)
    return {
        "color": COLOURS[index],
        "marker": MARKERS[index],
        "linestyle": LINES[index],
        "label": arm,
    }


def save(
    fig: Figure,
    name: str,
    *,
    caption: str,
    alt: str,
    data: pd.DataFrame | None = None,
    svg: bool | None = None,
) -> None:
    """Write reports/figures/NAME.png (.jpg if there are photos in it), .md (caption and alternative text), .csv (`data`) and .svg,
    show the figure, and close it.

    `name` may hold a folder ("02/viewpoints"). `svg` is None for "if the figure has no pixel image in it".
    """
    caption, alt = _one_line("caption", name, caption), _one_line("alt", name, alt)
    kind = "jpg" if _has_pixels(fig) else "png"
    picture = _render(fig, kind)
    path = FOLDER / f"{name}.{kind}"
    write_bytes(path, picture)
    links = [f"[{kind.upper()}]({path.name})"]
    if svg if svg is not None else not _has_pixels(fig):
        vector = _render(fig, "svg")
        if len(vector) <= SVG_LIMIT:
            write_bytes(path.with_suffix(".svg"), vector)
            links.append(f"[SVG]({path.stem}.svg)")
    if data is not None:
        write_text(path.with_suffix(".csv"), to_csv(data))
        links.append(f"[data]({path.stem}.csv)")
    write_text(
        path.with_suffix(".md"), f"![{alt}]({path.name})\n\n{caption}\n\n{' · '.join(links)}\n"
    )
    plt.close(fig)
    show(picture, kind, caption=caption, alt=alt)


def show(picture: bytes, kind: str = "png", *, caption: str, alt: str) -> None:
    """Display a picture ("png" or "jpg") with its alternative text and caption in a notebook; nothing happens outside of one."""
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
    """The figure as "svg", as "png" in 256 colours (a third of the bytes, no loss to the eye), or as "jpg" where photos need more."""
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


def _has_pixels(fig: Figure) -> bool:
    return any(axes.images for axes in fig.axes)


def wrapped(name: str, width: int = 9) -> str:
    """A name such as "raised_arms" in lines of about `width` letters, for a label above a narrow picture."""
    return "\n".join(wrap(name.replace("_", " "), width))


def image_grid(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    captions: Sequence[Sequence[str | None]] | None = None,
    scale: float = 1.0,
    title: str | None = None,
) -> Figure:
    """Figure of uint8 images (H, W, 3), (H, W, 1) or (H, W), all of one size and kept in their own shape; None leaves a gap.

    `captions` are small texts under the images, `scale` is screen pixels per image pixel.
    """
    size = _common_size(rows)
    columns = max(len(row) for row in rows)
    label = 0.11 * max((len(text) for text in row_labels or [""]), default=0)
    above = max((0.14 + 0.16 * (text.count("\n") + 1) for text in column_labels or []), default=0.0)
    cell_w, cell_h = size[1] * scale / DPI, size[0] * scale / DPI
    under = 0.22 if captions is not None else 0.0
    fig, axes = plt.subplots(
        len(rows),
        columns,
        squeeze=False,
        layout="constrained",
        figsize=(
            columns * (cell_w + 0.05) + label,
            len(rows) * (cell_h + 0.05 + under) + above + 0.35 * bool(title),
        ),
    )
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    for y, row in enumerate(rows):
        for x in range(columns):
            _draw(axes[y, x], row[x] if x < len(row) else None, size)
            if captions is not None and x < len(captions[y]) and captions[y][x]:
                axes[y, x].set_xlabel(captions[y][x], fontsize=8, labelpad=2)
            if y == 0 and column_labels is not None and x < len(column_labels):
                axes[y, x].set_title(column_labels[x], fontsize=9, pad=3)
        if row_labels is not None:
            axes[y, 0].set_ylabel(row_labels[y], fontsize=9, rotation=0, ha="right", va="center")
    if title:
        fig.suptitle(title, fontsize=11)
    return fig


def _common_size(rows: Sequence[Sequence[np.ndarray | None]]) -> tuple[int, int]:
    sizes = {image.shape[:2] for row in rows for image in row if image is not None}
    if len(sizes) != 1:
        raise StudyError(
            f"An image grid needs images of one size, and got {sorted(sizes) or 'none'}."
        )
    return sizes.pop()


def _draw(axes, image: np.ndarray | None, size: tuple[int, int]) -> None:
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

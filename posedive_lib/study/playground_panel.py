"""The playground's controls and pictures as widgets, for a notebook and for voila."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import ipywidgets as widgets
import numpy as np
from PIL import Image

from posedive_lib.errors import StudyError
from posedive_lib.params import Params
from posedive_lib.study.playground import Drawn, Playground, Wish

ZOOM = 2  # screen pixels per pixel of a picture
OWN = "the photo that you uploaded"
WIDE = widgets.Layout(width="34rem", max_width="100%")
SAID = {
    "": "kept",
    "reference": "rejected: a key point of the reference is not sure enough (Eq. 3)",
    "target": "rejected: the wanted pose is hard to see (Eq. 4)",
    "difference": "rejected: the estimator is sure of other key points than in the wanted pose "
    "(Eq. 5)",
    "confidence": "rejected: the key points are not sure enough (Eq. 6)",
}

SHOWN = {
    "reference": "the photo of the person to draw",
    "skeleton": "the wanted pose as coloured limbs",
    "depth": "the wanted body, the nearer to the camera the whiter",
    "normals": "the wanted body, coloured by where its surface faces",
    "generated": "the person in the wanted pose, by the generator",
    "truth": "the person in the wanted pose, by the mini world's camera",
}


def panel(P: Params, playground: Playground) -> widgets.VBox:
    """Controls above, pictures below; a changed control draws anew."""
    controls = _controls(P, playground)
    upload = widgets.FileUpload(accept="image/*", description="own photo")
    shown = widgets.HTML()

    def redraw(_: Any = None) -> None:
        chosen = {name: control.value for name, control in controls.items()}
        try:
            if chosen["person"] == OWN:
                chosen["person"] = playground.photo(bytes(upload.value[0]["content"]))
            shown.value = page(playground, playground.draw(Wish(**chosen)))
        except StudyError as error:
            shown.value = f"<p>{html.escape(str(error))}</p>"

    def follow(change: dict[str, Any]) -> None:
        """A motion has its own number of frames."""
        controls["frame"].value = 0
        controls["frame"].max = playground.motions[change["new"]] - 1

    def take(_: Any) -> None:
        person = controls["person"]
        person.options = [(OWN, OWN), *playground.people.items()]
        if person.value == OWN:
            redraw()
        person.value = OWN

    controls["motion"].observe(follow, "value")
    upload.observe(take, "value")
    for control in controls.values():
        control.observe(redraw, "value")
    redraw()
    return widgets.VBox([*controls.values(), upload, shown])


def _controls(P: Params, playground: Playground) -> dict[str, Any]:
    """A control for each field of `Wish`."""
    motions = playground.motions
    first = next(iter(motions))

    def slider(name: str, value: float, low: float, high: float, **options: Any) -> Any:
        kind = widgets.IntSlider if isinstance(value, int) else widgets.FloatSlider
        style = {"description_width": "7rem"}
        limits = {"value": value, "min": low, "max": high}
        return kind(**limits, description=name, layout=WIDE, style=style, **options)

    def choice(name: str, options: Any) -> Any:
        style = {"description_width": "7rem"}
        return widgets.Dropdown(options=options, description=name, layout=WIDE, style=style)

    sampling = P.generator.sampling
    return {
        "person": choice("person", list(playground.people.items())),
        "motion": choice("motion", [(name.replace("_", " "), name) for name in motions]),
        "frame": slider("frame", 0, 0, motions[first] - 1, continuous_update=False),
        "azimuth": slider("azimuth (°)", 30, -180, 180, step=5, continuous_update=False),
        "elevation": slider("elevation (°)", 10, 0, 60, step=5, continuous_update=False),
        "steps": slider("DDIM steps", sampling.steps, 1, 50, continuous_update=False),
        "guidance": slider(
            "guidance", float(sampling.guidance), 1.0, 8.0, step=0.5, continuous_update=False
        ),
    }


def page(playground: Playground, drawn: Drawn) -> str:
    """The pictures with their names, and what the filter says of them, as HTML."""
    pictures = {
        "reference": drawn.reference,
        "skeleton": drawn.skeleton,
        "depth": drawn.depth,
        "normals": drawn.normals,
        "generated": drawn.generated,
        "truth": drawn.truth,
    }
    shown = "".join(
        _figure(name, picture) for name, picture in pictures.items() if picture is not None
    )
    difference = np.abs(drawn.sigma_gen - drawn.sigma_tar).mean()
    limits = playground.limits
    verdict = (
        f"<p><strong>{html.escape(SAID[drawn.rejected_by])}.</strong> "
        f"Least σ of the reference {drawn.sigma_ref.min():.2f} (τ_ref {limits.tau_ref:g}); mean σ "
        f"of the wanted pose {drawn.sigma_tar.mean():.2f} (τ_tar {limits.tau_tar:g}); mean σ of "
        f"the generated image {drawn.sigma_gen.mean():.2f} (τ_gen {limits.tau_gen:g}); mean "
        f"difference {difference:.2f} (ε_gen {limits.epsilon_gen:g}).</p>"
        f"<p>Drawn in {drawn.seconds:.2f} s.</p>"
    )
    return f'<div style="display: flex; flex-wrap: wrap; gap: 8px">{shown}</div>{verdict}'


def _figure(name: str, picture: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    source = base64.b64encode(stream.getvalue()).decode()
    alt = html.escape(f"{name}: {SHOWN[name]}")
    height, width = (ZOOM * side for side in picture.shape[:2])
    return (
        f'<figure style="margin: 0"><img src="data:image/png;base64,{source}" alt="{alt}" '
        f'width="{width}" height="{height}"><figcaption>{name}</figcaption></figure>'
    )

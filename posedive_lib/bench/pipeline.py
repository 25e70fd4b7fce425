"""The pipeline of dvc.yaml: its stages, which needs which, and an SVG drawing of such a thing.

The drawing has a row per step of the longest way from the inputs.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from posedive_lib.errors import StudyError
from posedive_lib.params.experiments import value_at

Stages = dict[str, dict[str, Any]]
Link = tuple[str, str]  # a stage, and one that reads what it writes

BOX_W, BOX_H, GAP_X, GAP_Y = 156, 36, 8, 36
LETTERS = 27  # that fit into a box
TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>'
)


def read(root: Path = Path(".")) -> Stages:
    """The stages of a repository's dvc.yaml, in its order, with its parameters filled in."""
    path = root / "dvc.yaml"
    try:
        text = path.read_text(encoding="utf-8")
        values = {}
        if "${" in text:
            values = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        filled = re.sub(r"\$\{([\w.]+)\}", lambda key: str(value_at(values, key[1])), text)
        stages: Stages = yaml.safe_load(filled)["stages"]
        return stages
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        raise StudyError(f"{path} is no pipeline: go to the repository's root.") from None


def paths(items: list[Any]) -> list[str]:
    """The paths of a stage's deps or outs, without their options."""
    return [item if isinstance(item, str) else next(iter(item)) for item in items]


def maker(stages: Stages, path: str) -> str | None:
    """The stage that has `path`, or what lies above or below it, among its outs; else None."""
    for name, stage in stages.items():
        for out in paths(stage.get("outs", [])):
            if f"{path}/".startswith(f"{out}/") or out.startswith(f"{path}/"):
                return name
    return None


def edges(stages: Stages) -> list[Link]:
    """(from, to) for every stage that reads what another one writes."""
    found = []
    for name, stage in stages.items():
        for dep in paths(stage.get("deps", [])):
            start = maker(stages, dep)
            if start and (start, name) not in found:
                found.append((start, name))
    return found


def direct(links: list[Link]) -> list[Link]:
    """The links without those that a longer way implies."""
    after: dict[str, set[str]] = {}
    for start, end in links:
        after.setdefault(start, set()).add(end)

    def reach(node: str, seen: set[str]) -> set[str]:
        for following in after.get(node, set()) - seen:
            seen.add(following)
            reach(following, seen)
        return seen

    return [
        (start, end)
        for start, end in links
        if not any(end in reach(other, set()) for other in after[start] - {end})
    ]


def levels(stages: Iterable[str], links: list[Link]) -> dict[str, int]:
    """Row of each stage: one more than the furthest of what it needs."""
    place = dict.fromkeys(stages, 0)
    for _ in place:  # as many rounds as the longest way can have
        for start, end in links:
            place[end] = max(place[end], place[start] + 1)
    return place


def diagram(
    boxes: dict[str, str], links: list[Link], title: str, anchor: Callable[[str], str] | None = None
) -> str:
    """SVG text: boxes with arrows between them, in rows from top to bottom.

    boxes: what each box says to whoever rests on it; anchor: id on the page that a box leads to.
    Colours come from the page, so that a dark one has light lines.
    """
    level = levels(boxes, links)
    rows = [[name for name in boxes if level[name] == row] for row in sorted(set(level.values()))]
    widest = max(map(len, rows))
    spot = {}
    for y, row in enumerate(rows):
        left = (widest - len(row)) / 2  # a narrow row stands in the middle
        for i, name in enumerate(row):
            spot[name] = int((i + left) * (BOX_W + GAP_X)), y * (BOX_H + GAP_Y)
    width = max(x for x, _ in spot.values()) + BOX_W + 2
    height = max(y for _, y in spot.values()) + BOX_H + 2
    arrows = "".join(_arrow(spot[start], spot[end]) for start, end in links)
    drawn = "".join(_box(name, *spot[name], boxes[name], anchor) for name in boxes)
    words = html.escape(f"{title}: {_in_words(links)}", quote=True)
    return (
        f'<div class="diagram"><svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="{words}" width="{width}" height="{height}" '
        f'viewBox="-1 -1 {width} {height}">{TIP}{arrows}{drawn}</svg></div>'
    )


def _in_words(links: list[Link]) -> str:
    """The links for an alternative text."""
    needs: dict[str, list[str]] = {}
    for start, end in links:
        needs.setdefault(end, []).append(start)
    return "; ".join(f"{end} after {', '.join(starts)}" for end, starts in needs.items())


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1, x2, y2 = start[0] + BOX_W / 2, start[1] + BOX_H, end[0] + BOX_W / 2, end[1]
    curve = f"M{x1:g} {y1}C{x1:g} {y1 + GAP_Y} {x2:g} {y2 - GAP_Y} {x2:g} {y2}"
    return f'<path d="{curve}" marker-end="url(#tip)"/>'


def _box(name: str, x: int, y: int, said: str, anchor: Callable[[str], str] | None) -> str:
    label = name.replace("_", " ")
    label = label if len(label) <= LETTERS else f"{label[: LETTERS - 1]}…"
    box = (
        f"<g><title>{html.escape(said or name)}</title>"
        f'<rect x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="5"/>'
        f'<text x="{x + BOX_W / 2:g}" y="{y + BOX_H / 2 + 4:g}" text-anchor="middle">'
        f"{html.escape(label)}</text></g>"
    )
    return f'<a href="#{anchor(name)}">{box}</a>' if anchor else box

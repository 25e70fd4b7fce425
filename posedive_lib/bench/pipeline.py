"""The pipeline of dvc.yaml: its stages, which needs which, and an SVG picture with a row per step of the longest way from the inputs."""

import html
from pathlib import Path

import yaml

from posedive_lib.errors import StudyError

BOX_W, BOX_H, GAP_X, GAP_Y = 180, 36, 14, 36  # five boxes fit the text's width


def read(root: Path = Path(".")) -> dict[str, dict]:
    """The stages of a repository's dvc.yaml, in its order."""
    try:
        return yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        raise StudyError(
            f"{root / 'dvc.yaml'} is no pipeline: go to the repository's root."
        ) from None


def paths(items: list) -> list[str]:
    """The paths of a stage's deps or outs, without their options."""
    return [item if isinstance(item, str) else next(iter(item)) for item in items]


def maker(stages: dict[str, dict], path: str) -> str | None:
    """The stage that has `path`, or a folder above it, among its outs; None without one."""
    return next(
        (
            name
            for name, stage in stages.items()
            for out in paths(stage.get("outs", []))
            if f"{path}/".startswith(f"{out}/")
        ),
        None,
    )


def edges(stages: dict[str, dict]) -> list[tuple[str, str]]:
    """(from, to) for every stage that reads what another one writes."""
    found = [
        (maker(stages, dep), name)
        for name, stage in stages.items()
        for dep in paths(stage.get("deps", []))
    ]
    return [link for link in dict.fromkeys(found) if link[0]]


def direct(links: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The links without those that a longer way implies."""
    after = {}
    for start, end in links:
        after.setdefault(start, set()).add(end)

    def reach(node: str, seen: set[str]) -> set[str]:
        for following in after.get(node, ()):
            if following not in seen:
                seen.add(following)
                reach(following, seen)
        return seen

    return [
        (start, end)
        for start, end in links
        if not any(end in reach(other, set()) for other in after[start] - {end})
    ]


def levels(stages: dict[str, dict], links: list[tuple[str, str]]) -> dict[str, int]:
    """Row of each stage: one more than the furthest of what it needs."""
    place = dict.fromkeys(stages, 0)
    for _ in stages:  # as many rounds as the longest way can have
        for start, end in links:
            place[end] = max(place[end], place[start] + 1)
    return place


def picture(stages: dict[str, dict]) -> str:
    """SVG text: boxes that link to stages.html#NAME, arrows for what they need."""
    links = direct(edges(stages))
    level = levels(stages, links)
    members = {row: [name for name in stages if level[name] == row] for row in level.values()}
    widest = max(map(len, members.values()))
    spot = {
        name: (int((i + (widest - len(row)) / 2) * (BOX_W + GAP_X)), y * (BOX_H + GAP_Y))
        for y, row in members.items()
        for i, name in enumerate(row)
    }
    width, height = (
        max(p[i] for p in spot.values()) + size + 2 for i, size in ((0, BOX_W), (1, BOX_H))
    )
    arrows = "".join(_arrow(spot[start], spot[end]) for start, end in links)
    boxes = "".join(_box(name, *spot[name], stages[name]["desc"]) for name in stages)
    words = "; ".join(
        f"{end} after {', '.join(s for s, e in links if e == end)}"
        for end in dict.fromkeys(e for _, e in links)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Stages of the pipeline: {html.escape(words, quote=True)}" width="{width}" height="{height}" '
        f'viewBox="-1 -1 {width} {height}" font-family="system-ui, sans-serif" font-size="11">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>'
        f"{arrows}{boxes}</svg>"
    )


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1, x2, y2 = start[0] + BOX_W / 2, start[1] + BOX_H, end[0] + BOX_W / 2, end[1]
    return f'<path d="M{x1:g} {y1}C{x1:g} {y1 + GAP_Y} {x2:g} {y2 - GAP_Y} {x2:g} {y2}" fill="none" stroke="#555" marker-end="url(#tip)"/>'


def _box(name: str, x: int, y: int, description: str) -> str:
    label = name.replace("_", " ")
    label = label if len(label) <= 30 else f"{label[:29]}…"
    return (
        f'<a href="stages.html#{name}"><title>{html.escape(description)}</title><rect x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="5" fill="#f2f8fc" stroke="#0173b2"/>'
        f'<text x="{x + BOX_W / 2:g}" y="{y + BOX_H / 2 + 4:g}" text-anchor="middle" fill="#1a1a1a">{html.escape(label)}</text></a>'
    )

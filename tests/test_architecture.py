"""docs/architecture.md says what is true: the rooms' arrows are the imports, the places exist."""

import importlib
import re

from pipeline import ROOT

from posedive_lib.digests import PACKAGES, Code

TEXT = (ROOT / "docs/architecture.md").read_text()
DRAWN = set(re.findall(r"^    (\w+) --> (\w+)$", TEXT, re.MULTILINE))
ROOMS = {room for arrow in DRAWN for room in arrow}


def room(module: str) -> str:
    """The room of a module; a small module beside the rooms is none."""
    first, *rest = module.split(".")
    return first if first == "miniworld" else (rest[:1] or [""])[0]


def arrows() -> set[tuple[str, str]]:
    """(from, to): room `to` imports from room `from`."""
    code, found = Code(ROOT), set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            imported = code.imported(module.removesuffix(".__init__"))
            found |= {(room(other), room(module)) for other in imported}
    commands = {("own_data", "augment")}  # the kept names of two commands, which forward
    return {(a, b) for a, b in found - commands if a != b and {a, b} <= ROOMS}


def ways(links: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """All pairs that one or more arrows connect."""
    found = set(links)
    while longer := {(a, d) for a, b in found for c, d in links if b == c} - found:
        found |= longer
    return found


def test_the_picture_shows_the_imports_between_rooms():
    real = arrows()
    assert not real - ways(DRAWN), "imports that the picture does not show"
    assert not DRAWN - real, "arrows without an import"


def test_every_room_is_drawn_and_explained():
    folders = {path.parent.name for path in (ROOT / "posedive_lib").glob("*/__init__.py")}
    assert folders - {"params", "intake"} | {"miniworld"} == ROOMS
    assert ROOMS == set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))


def test_every_place_on_a_photos_way_exists():
    places = re.findall(r"`(posedive_lib\.[\w.]+)`", TEXT)
    assert len(places) > 15
    for place in places:
        module, _, name = place.rpartition(".")
        found = importlib.import_module(module)
        assert hasattr(found, name) or importlib.import_module(place), place

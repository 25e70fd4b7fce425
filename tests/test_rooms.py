"""The rooms of the house: imports run one way, in no circle, and the mini world has one door."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module

import pytest
from pipeline import ROOT

from posedive_lib import generator
from posedive_lib.digests import Code

ROOMS = ("body", "datasets", "generator", "augment", "reid", "bench", "study")  # as data flows
OWN_DATA = "own_data"  # uses any room but the last two, and none uses it
# Commands whose names in the room `augment` are older than the room `own_data`.
COMMANDS = {
    "posedive_lib.augment.__main__": "posedive_lib.own_data.augment",
    "posedive_lib.augment.fit": "posedive_lib.own_data.fit",
}
DOOR = "posedive_lib.study.mini_world"


def modules(package: str) -> list[str]:
    """Every module of a package, by its dotted name; a package stands for its `__init__`."""
    names = []
    for file in sorted((ROOT / package).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Module -> the project's modules that it imports, also inside functions; not for types."""
    code = Code(ROOT)
    names = modules("posedive_lib") + modules("miniworld")
    return {name: code.imported(name) - {name} for name in names}


def room(module: str) -> str:
    """The room of a module of the library; "" for what belongs to none, such as `errors`."""
    parts = module.split(".")
    return parts[1] if parts[1:] and parts[1] in (*ROOMS, OWN_DATA) else ""


def may_import(one: str, other: str) -> bool:
    """Whether a module of room `one` may import from room `other`."""
    if one == other or other == "":
        return True
    if OWN_DATA in (one, other):
        return one == OWN_DATA and other not in ("bench", "study")
    return one != "" and ROOMS.index(other) < ROOMS.index(one)


def test_imports_between_rooms_run_one_way(imports):
    upward = [
        f"{module} imports {found}"
        for module, names in imports.items()
        for found in sorted(names)
        if module.startswith("posedive_lib") and found.startswith("posedive_lib")
        if not may_import(room(module), room(found)) and COMMANDS.get(module) != found
    ]
    assert not upward


def test_no_module_imports_itself_through_others(imports):
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_only_one_module_of_the_library_imports_the_mini_world(imports):
    found = {
        module
        for module, names in imports.items()
        if module.startswith("posedive_lib") and any(n.startswith("miniworld") for n in names)
    }
    assert found == {DOOR}


def test_the_library_but_for_that_module_is_imported_without_the_mini_world():
    names = [n for n in modules("posedive_lib") if n != DOOR and not n.endswith("__main__")]
    script = f"""
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "miniworld":
            raise ImportError("there is no mini world here")

sys.meta_path.insert(0, Refuse())
for name in {names!r}:
    importlib.import_module(name)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_planning_loads_no_model_library():
    """diffusers and transformers take seconds; a notebook that finds its records needs neither."""
    script = """
import sys
import posedive_lib.study.generation, posedive_lib.study.phase2

assert "diffusers" not in sys.modules and "transformers" not in sys.modules
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_the_generator_s_names_are_those_of_its_modules():
    for name in generator.__all__:
        assert getattr(generator, name) is getattr(
            import_module(f"posedive_lib.generator.{generator.MODULES[name]}"), name
        )
    assert set(generator.__all__) == set(generator.MODULES)
    with pytest.raises(AttributeError, match="no attribute 'none'"):
        generator.none  # noqa: B018


def test_files_are_short_and_no_choice_hides_in_another():
    """None has more than 350 lines; no conditional expression stands in another."""
    files = [path for room in ("posedive_lib", "miniworld") for path in (ROOT / room).rglob("*.py")]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {path.name: count for path, count in lines.items() if count > 350} == {}
    nested = [
        f"{path.name}:{node.lineno}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.IfExp)
        and any(isinstance(part, ast.IfExp) for part in (node.test, node.body, node.orelse))
    ]
    assert nested == []

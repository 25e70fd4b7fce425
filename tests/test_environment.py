"""requirements.lock, pyproject.toml, environment.yml and the running environment say the same."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import licences
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked() -> dict[str, str]:
    """Package → version, from requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    for line in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), f"not a plain pin: {line}"
    return {
        canonicalize_name(name): version for name, version in (line.split("==") for line in pins)
    }


def declared() -> dict[str, str]:
    """Package → version, from pyproject.toml (the extras included)."""
    lines = PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), [])
    pins = {}
    for requirement in map(Requirement, lines):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"{requirement} is not pinned with =="
        pins[canonicalize_name(requirement.name)] = specifier.version
    return pins


def installed_version(name: str) -> str:
    """Version without its local part: torch 2.13.0+cpu is torch 2.13.0."""
    return metadata.version(name).split("+")[0]


def test_declared_versions_are_the_locked_ones():
    pins = locked()
    assert {name: pins.get(name) for name in declared()} == declared()


def test_the_lock_is_installed():
    assert {name: installed_version(name) for name in locked()} == locked()


def test_the_lock_covers_everything_that_the_dependencies_need():
    pins, seen, todo = locked(), set(), list(declared())
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            needed = canonicalize_name(requirement.name)
            if name == "torch" and re.match(r"(nvidia|cuda)-|triton$", needed):
                continue  # a build for CUDA brings its own: which one, the machine decides
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(needed)
    # setuptools comes with the environment itself, and pip freeze leaves it out.
    assert seen - set(pins) <= {"setuptools"}


def test_conda_installs_the_lock_and_the_same_python():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *plain, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    (python,) = [item for item in plain if item.startswith("python=")]
    assert python == "python=" + PROJECT["requires-python"].removeprefix(">=")


def imported_packages() -> set[str]:
    """Top-level names that the library imports."""
    names = set()
    for path in (ROOT / "posedive_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"posedive_lib", "miniworld"}


def test_every_import_of_the_library_is_declared():
    distributions = metadata.packages_distributions()
    for name in imported_packages():
        owners = {canonicalize_name(owner) for owner in distributions.get(name, [])}
        # pyrender and pydantic each need exactly one version of these.
        assert owners & (set(declared()) | {"pyopengl", "pydantic-core"}), (
            f"{name} is imported but not declared in pyproject.toml"
        )


@pytest.mark.parametrize("path", ["requirements.lock", "environment.yml", "pyproject.toml"])
def test_no_place_of_this_machine_is_named(path):
    text = (ROOT / path).read_text()
    assert "file:" not in text and "://" not in text and " @ " not in text


def test_the_page_of_licences_is_that_of_the_installed_packages():
    written = licences.PAGE.read_text(encoding="utf-8")
    assert written == licences.page(), "python tests/licences.py writes it"

"""Digests change with everything that can change a result, and with nothing else."""

import ast
import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest

from posedive_lib import digests, generator
from posedive_lib.body.poses import load_poses
from posedive_lib.digests import Code, code_digest, file_digest, files_below, folder_digest
from posedive_lib.errors import StudyError
from posedive_lib.intake.frames import check_frames

ROOT = Path(__file__).resolve().parents[1]


def test_digests_of_files_and_folders(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.txt").write_text("a")
    before = folder_digest(tmp_path)
    assert before == folder_digest(tmp_path)
    (tmp_path / "sub/a.txt").rename(tmp_path / "sub/b.txt")
    assert folder_digest(tmp_path) != before
    assert folder_digest(tmp_path, ".csv") == folder_digest(tmp_path / "sub", ".csv")
    assert folder_digest(tmp_path, ".txt") == folder_digest(tmp_path)
    assert file_digest(tmp_path / "sub/b.txt").startswith("ca978112")  # SHA-256 of "a"
    for digest in (file_digest, folder_digest):
        with pytest.raises(StudyError, match="missing"):
            digest(tmp_path / "missing")


def test_what_lies_behind_a_link_counts(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "weights"
    elsewhere.mkdir()
    folder.mkdir()
    (elsewhere / "model.safetensors").write_text("first")
    os.symlink(elsewhere, folder / "unet")
    before = folder_digest(folder)
    (elsewhere / "model.safetensors").write_text("other")
    assert folder_digest(folder) != before


def test_a_link_that_leads_nowhere_is_refused(tmp_path):
    """Its disk is not mounted: the rest is less than what a run needs, and no digest of it."""
    (tmp_path / "here.npz").write_text("a")
    before = folder_digest(tmp_path)
    (tmp_path / ".#here.npz").symlink_to("somebody@somewhere")  # an editor's lock
    assert folder_digest(tmp_path) == before
    for target in ("/mnt/not-mounted/out", "out"):  # the second leads to itself
        (tmp_path / "out").symlink_to(target)
        for read in (folder_digest, files_below, load_poses, check_frames):
            with pytest.raises(StudyError, match="out leads nowhere: mount its disk or remove"):
                read(tmp_path)
        (tmp_path / "out").unlink()


def test_names_may_be_any_bytes_and_those_of_text_keep_their_digest(tmp_path):
    (tmp_path / "café.txt").write_text("a")
    text = f"café.txt\n{file_digest(tmp_path / 'café.txt')}\n"
    assert folder_digest(tmp_path) == hashlib.sha256(text.encode()).hexdigest()
    os.rename(tmp_path / "café.txt", os.fsencode(tmp_path) + b"/caf\xe9.txt")
    assert folder_digest(tmp_path) != hashlib.sha256(text.encode()).hexdigest()


def test_links_in_a_circle_and_closed_folders_are_refused(tmp_path, monkeypatch):
    os.symlink(tmp_path, tmp_path / "again")
    with pytest.raises(StudyError, match="again links to a folder above itself"):
        folder_digest(tmp_path)
    (tmp_path / "again").unlink()

    def closed(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(StudyError, match="cannot be read .Permission denied.: make it readable"):
        folder_digest(tmp_path)


@pytest.fixture
def package(tmp_path):
    """A small project: `work` imports `helper` in a function, `helper` imports `deep`."""
    folder = tmp_path / "posedive_lib/reid"
    folder.mkdir(parents=True)
    for place in (folder.parent, folder):
        (place / "__init__.py").write_text("")
    (folder / "work.py").write_text(
        "import numpy as np\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from posedive_lib.reid.types import Params\n"
        "def work():\n    from posedive_lib.reid import helper\n    return helper.f(1)\n"
    )
    (folder / "helper.py").write_text(
        'from .deep import G\n\n\ndef f(x):\n    """Doc."""\n    return x + G\n'
    )
    (folder / "deep.py").write_text("G = 1\n")
    (folder / "types.py").write_text("class Params:\n    pass\n")
    (folder / "other.py").write_text("H = 1\n")
    return folder


def digest(package: Path) -> str:
    return Code(package.parents[1]).digest("posedive_lib.reid.work")


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("helper", "x + G", "x - G"),
        ("deep", "G = 1", "G = 2"),
        ("work", "f(1)", "f(2)"),
    ],
)
def test_a_change_in_what_the_work_reaches_changes_its_digest(package, name, old, new):
    before, file = digest(package), package / f"{name}.py"
    file.write_text(file.read_text().replace(old, new))
    assert digest(package) != before


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("helper", "Doc.", "Other words."),
        ("helper", "x + G", "(x  +  G)  # why"),
        ("other", "H = 1", "H = 2"),
        ("types", "pass", "x = 1"),
    ],
)
def test_words_layout_and_other_modules_do_not_count(package, name, old, new):
    before, file = digest(package), package / f"{name}.py"
    file.write_text(file.read_text().replace(old, new))
    assert digest(package) == before


def test_the_words_of_an_error_do_not_count_but_its_condition_does(package):
    def with_check(condition: str, words: str) -> str:
        source = f"G = 1\nif {condition}:\n    raise ValueError(f'{words}')\n"
        (package / "deep.py").write_text(source)
        return digest(package)

    assert with_check("G > 1", "too large: {G}") == with_check("G > 1", "lower G, it is {G}")
    assert with_check("G > 1", "too large") != with_check("G > 2", "too large")


def test_packages_and_strangers_are_refused():
    with pytest.raises(StudyError, match="posedive_lib.reid is a package: name the module"):
        code_digest("posedive_lib.reid")
    for stranger in ("posedive_lib.reids", "numpy"):
        with pytest.raises(StudyError, match=f"{stranger} is not a module of this project"):
            code_digest(stranger)


def test_every_package_only_passes_names_on():
    """So a digest may leave out the `__init__` of packages that it goes through."""
    for package in digests.PACKAGES:
        for file in (ROOT / package).rglob("__init__.py"):
            for node in ast.parse(file.read_text()).body:
                places = ("__all__", "MODULES")  # whose names a package loads when it is asked
                names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in places
                words = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                imports = isinstance(node, ast.Import | ast.ImportFrom)
                types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
                asked = isinstance(node, ast.FunctionDef) and node.name == "__getattr__"
                known = names or words or imports or types or asked
                assert known, f"{file}: {ast.unparse(node)[:60]}"


def test_no_code_of_ours_asks_a_package_for_names_that_its_key_would_miss():
    for package in (*digests.PACKAGES, "notebooks"):
        files = [*(ROOT / package).rglob("*.py"), *(ROOT / package).glob("*.ipynb")]
        for file in files:
            for names in re.findall("from posedive_lib.generator import (.+)", file.read_text()):
                assert not set(re.findall(r"\w+", names)) & set(generator.__all__), file


def asks_for_its_own_digest(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node) == "code_digest(__name__)"


def recorded_work() -> list[str]:
    """Modules that ask for the digest of their own code."""
    found = []
    for package in digests.PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            if any(asks_for_its_own_digest(node) for node in ast.walk(ast.parse(file.read_text()))):
                found.append(".".join(file.relative_to(ROOT).with_suffix("").parts))
    return sorted(found)


def test_there_is_recorded_work():
    assert len(recorded_work()) >= 4


@pytest.mark.parametrize("work", recorded_work())
def test_every_module_that_recorded_work_reaches_is_in_its_key(work, tmp_path):
    for package in digests.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("runs"))
    code = Code(tmp_path)
    before = code.digest(work)

    def digest_with(module: str, source: str) -> str:
        code.path(module).write_text(source)
        code.forget(module)
        return code.digest(work)

    for module in sorted(code.reached([work])):
        source = code.path(module).read_text()
        assert digest_with(module, f"{source}\nADDED = 1\n") != before, f"{module} is left out"
        assert digest_with(module, f"{source}\n# a comment\n") == before
        assert digest_with(module, source) == before

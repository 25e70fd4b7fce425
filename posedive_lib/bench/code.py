"""Which code each notebook and each command of the study runs, as one small file for each:

    python -m posedive_lib.bench.code

`build/code/NAME.txt` lists every module that a notebook or a command imports, directly or not, with
a digest of what that module does. In dvc.yaml each stage depends on the file of what it runs. So a
change of code runs the stages that use it, and a changed comment or docstring runs none. No list of
modules is kept by hand.
"""

import ast
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat

from posedive_lib.bench.runs import write_text
from posedive_lib.digests import PACKAGES, Code
from posedive_lib.errors import StudyError, command

FOLDER = Path("build/code")
NOTEBOOKS = Path("notebooks")
RUNNER = "posedive_lib.bench.notebook"  # runs each notebook
GUARD = 'if __name__ == "__main__":'


def read_notebook(path: str | Path) -> nbformat.NotebookNode:
    """The notebook; StudyError where the file is not a readable one."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # JSON, schema and version problems have only the file in common
        raise StudyError(
            f"{path} is not a readable notebook ({type(error).__name__}); restore it from git."
        ) from None


def notebook_code(path: str | Path) -> str:
    """The code cells of a notebook as one text, without IPython's magics."""
    cells = [cell.source for cell in read_notebook(path).cells if cell.cell_type == "code"]
    return re.sub(r"^\s*[%!].*$", "pass", "\n".join(cells), flags=re.MULTILINE)


def listing(modules: Iterable[str], code: Code) -> str:
    """One line per module that these reach: its name, and what it does as 16 hexadecimal digits."""
    return "".join(f"{name} {code.meaning(name)[:16]}\n" for name in sorted(code.reached(modules)))


def roots(root: Path) -> dict[str, set[str]]:
    """What runs -> the modules it names itself: every notebook (with its runner), every command.

    A command is a module that can be run: `python -m NAME`.
    """
    code, found = Code(root), {}
    for notebook in sorted((root / NOTEBOOKS).glob("*.ipynb")):
        imported = code.imports_of(ast.parse(notebook_code(notebook)))
        found[notebook.stem] = {RUNNER} | imported
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            if GUARD in file.read_text(encoding="utf-8"):
                name = ".".join(file.relative_to(root).with_suffix("").parts)
                found[name] = {name}
    return found


def write_listings(root: Path = Path()) -> None:
    """Write `build/code/NAME.txt` of every notebook and command below `root`."""
    code = Code(root)
    for name, modules in roots(root).items():
        write_text(root / FOLDER / f"{name}.txt", listing(modules, code))


@command()
def main() -> int:
    """Write the listings of the repository in the working folder. Returns the exit status."""
    _require_usable_build()
    write_listings()
    return 0


def _require_usable_build() -> None:
    """StudyError before anything long runs where DVC would refuse outputs behind a linked build/.

    DVC asks git about every output, and git knows nothing behind a link.
    """
    settings = [path.read_text() for path in Path(".dvc").glob("config*")]
    if FOLDER.parent.is_symlink() and Path(".git").exists():
        if not any(re.search(r"no_scm\s*=\s*true", text, re.IGNORECASE) for text in settings):
            raise StudyError(
                f"{FOLDER.parent}/ is a link, and DVC takes no outputs behind a link from a git "
                "repository: run `dvc config --local core.no_scm true`, then start again."
            )


if __name__ == "__main__":
    sys.exit(main())

"""Digests of everything that can change a result: files, folders, arrays, and the code behind it.

A digest of code follows imports. A piece of work names only the module that does it:

    spec = {"photos": folder_digest(folder), "code": code_digest(__name__)}
"""

import ast
import hashlib
import stat
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from posedive_lib.errors import StudyError, is_folder, shown, unreadable
from posedive_lib.intake.companions import among_companions

PACKAGES = ("posedive_lib", "miniworld")  # whose code counts; other packages are pinned by the lock


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content, hexadecimal. StudyError where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error, "cannot be read", "a run needs it as input") from None


def array_digest(array: np.ndarray) -> str:
    """SHA-256 of an array's shape, type and values."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.shape}{array.dtype}".encode() + array.data).hexdigest()


def folder_digest(path: str | Path, suffix: str = "") -> str:
    """SHA-256 over names and contents of all files below a folder whose names end in `suffix`.

    Their dates do not count. Links to folders are followed. StudyError where there is no folder,
    and as `files_below`.
    """
    if not is_folder(path):
        raise StudyError(f"There is no folder {path}; a run needs it as input.")
    digest = hashlib.sha256()
    for file in files_below(path):
        if not file.name.endswith(suffix):
            continue
        line = f"{file.relative_to(path).as_posix()}\n{file_digest(file)}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))  # a name may be any bytes
    return digest.hexdigest()


def files_below(folder: str | Path) -> list[Path]:
    """All files below a folder, sorted; links to folders are followed.

    `Path.glob` does not enter linked folders, so changed weights behind a link would go unseen.
    StudyError where a folder cannot be read, where links lead in a circle, and where a link leads
    nowhere, because its disk is not mounted.
    """
    folder, found = Path(folder), []
    for path, mode in _walk(folder, frozenset()):
        if mode and stat.S_ISREG(mode):
            found.append(path)
        elif mode is None and not among_companions(path.relative_to(folder)):
            raise StudyError(f"{shown(path)} leads nowhere: mount its disk or remove the link.")
    return sorted(found)


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[tuple[Path, int | None]]:
    """What lies below a folder and is no folder, each with its mode (see `_mode`)."""
    real = folder.resolve()
    if real in above:
        raise StudyError(f"{folder} links to a folder above itself: remove that link.")
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error, "cannot be read", "check the folder and its disk") from None
    for entry in entries:
        mode = _mode(entry)
        if mode and stat.S_ISDIR(mode):
            yield from _walk(entry, above | {real})
        else:
            yield entry, mode


def _mode(path: Path) -> int | None:
    """The mode of a file or folder, links followed; None: a link to nothing, 0: gone meanwhile.

    `Path.is_dir` and `Path.is_file` would take what may not be looked at for neither.
    """
    try:
        return path.stat().st_mode
    except OSError as error:
        if isinstance(error, PermissionError):
            raise unreadable(path, error, "", "") from None
        if path.is_symlink():
            return None
        if isinstance(error, FileNotFoundError):
            return 0
        raise unreadable(path, error, "cannot be read", "check the disk") from None


def code_digest(*modules: str) -> str:
    """SHA-256 of what modules do, with every module of the project that they import.

    Imports are followed through the source, those inside functions too. Comments, docstrings,
    layout and the words of errors do not count, nor do imports that only a type checker reads.
    StudyError for a module that is not the project's.
    """
    return _installed().digest(*modules)


@cache
def _installed() -> "Code":
    return Code(Path(__file__).resolve().parent.parent)


class Code:
    """The project's source below `root`: which module imports which, and what each does."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self._trees: dict[str, ast.Module] = {}
        self._meanings: dict[str, str] = {}
        self._imports: dict[str, set[str]] = {}

    def forget(self, module: str) -> None:
        """Read this module's file again when it is asked for next."""
        for known in (self._trees, self._meanings, self._imports):
            known.pop(module, None)

    def digest(self, *modules: str) -> str:
        """See `code_digest`."""
        for module in modules:
            if self.path(module).name == "__init__.py":
                raise StudyError(
                    f"{module} is a package: name the module in it that does the work."
                )
        return self.digest_of(self.reached(modules))

    def digest_of(self, modules: Iterable[str]) -> str:
        """SHA-256 of what exactly these modules do."""
        lines = (f"{module}\n{self.meaning(module)}\n" for module in sorted(modules))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def reached(self, modules: Iterable[str]) -> set[str]:
        """The project's modules that these import, directly or not, with themselves."""
        found: set[str] = set()
        waiting = list(modules)
        while waiting:
            module = waiting.pop()
            if module not in found:
                found.add(module)
                waiting += self.imported(module)
        return found

    def imported(self, module: str) -> set[str]:
        """The project's modules that one module imports itself."""
        if module not in self._imports:
            path = self.path(module)
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            self._imports[module] = self.imports_of(self._tree(module), package)
        return self._imports[module]

    def imports_of(self, tree: ast.AST, package: str = "") -> set[str]:
        """The project's modules that source code imports. `package`: where relative imports start.

        `from a.b import c` means the module `a.b.c` where there is one, else the module `a.b`.
        """
        found: set[str] = set()
        for node in run_time_nodes(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = _absolute(node, package)
                names = {f"{base}.{alias.name}" for alias in node.names}
                modules = {name for name in names if self._find(name)}
                found |= modules | ({base} if names - modules else set())
        return {name for name in found if name.split(".")[0] in PACKAGES}

    def meaning(self, module: str) -> str:
        """SHA-256 of what one module does."""
        if module not in self._meanings:
            tree = _Meaning().visit(self._parsed(module))  # a tree of its own: it is changed
            self._meanings[module] = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
        return self._meanings[module]

    def path(self, module: str) -> Path:
        """Source file of a module; StudyError where the project has none of that name."""
        path = self._find(module)
        if path is None:
            raise StudyError(f"{module} is not a module of this project: a code digest needs one.")
        return path

    def _find(self, module: str) -> Path | None:
        first, *rest = module.split(".")
        if first not in PACKAGES:
            return None
        place = self.root.joinpath(first, *rest)
        files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
        return next((file for file in files if file.is_file()), None)

    def _tree(self, module: str) -> ast.Module:
        if module not in self._trees:
            self._trees[module] = self._parsed(module)
        return self._trees[module]

    def _parsed(self, module: str) -> ast.Module:
        return ast.parse(self.path(module).read_text(encoding="utf-8"))


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that `from ... import` names, also where it is relative to `package`."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a tree but those under `if TYPE_CHECKING:`, which never run."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from run_time_nodes(other)
        else:
            yield from run_time_nodes(child)


class _Meaning(ast.NodeTransformer):
    """Takes out docstrings, the words of errors, and what only a type checker reads."""

    def _without_docstring(self, node: Any) -> ast.AST:
        self.generic_visit(node)
        first = node.body[0].value if node.body and isinstance(node.body[0], ast.Expr) else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            node.body = node.body[1:]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _without_docstring

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.exc, ast.Call):
            words = (ast.Constant, ast.JoinedStr)
            node.exc.args = [part for part in node.exc.args if not isinstance(part, words)]
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test).endswith("TYPE_CHECKING") else node

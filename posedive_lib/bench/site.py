"""The study as a book that needs no network, neither to build nor to read:

    python -m posedive_lib.bench.site        reports/ and docs/ -> build/site/index.html

Sphinx with MyST-NB makes it, by docs/book/conf.py: the README as its front page, the executed
notebooks, all figures, tables and claims, the pages of docs/, and the library's own docstrings.
It shows what `dvc repro` made, and runs nothing.

The sources are gathered in a folder of the repository's own layout. So a link of a page leads to
the same file there, whether that becomes a page of the book or a file to download.
"""

import argparse
import hashlib
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nbformat

from posedive_lib import params as parameters
from posedive_lib.bench import pages
from posedive_lib.bench.chapters import illustrate, not_executed
from posedive_lib.bench.code import read_notebook
from posedive_lib.bench.pipeline import diagram, read
from posedive_lib.bench.runs import write_bytes, write_text
from posedive_lib.errors import StudyError, command
from posedive_lib.writing import replacing_folder

TARGET = Path("build/site")
SETTINGS = Path("docs/book")
PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/results/*.md",
    "docs/*.md",
    "miniworld/pretrain/README.md",
    "replication/README.md",
)
# What stands in the book for a place of the repository.
PLACES = {
    "README.md": "index.md",
    "notebooks": "study.md",
    "reports/notebooks": "study.md",
    "reports/figures": "figures.md",
    "reports/tables": "tables.md",
    "dvc.yaml": "pipeline.md",
}
# Pages about the run of this study; the others speak of the mini world's reports, which git has.
OF_THE_RUN = ("study.md", "figures.md", "tables.md", "pipeline.md", "reports/claims.md")
COMMITTED = "mini_world"  # their folder in a book about other data
README, DOCS = "<!-- README.md -->", "<!-- docs -->"  # their places in docs/book/index.md
CHAPTER = re.compile(r"(?:reports/)?notebooks/(\w+)\.ipynb")
ALT = re.compile(r"(?<=!\[)[^\]]+(?=\])")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)[^)\s]+(?=\))")
ARROWS = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def build(root: Path = Path("."), target: Path = TARGET) -> Path:
    """Write the whole book, in the place of an earlier one, and return its front page.

    StudyError where something is missing that it shows, or where Sphinx fails or warns.
    """
    reports = root / parameters.load(root / "params.yaml").paths.reports
    study = pages.Study(root, reports, read(root))
    with tempfile.TemporaryDirectory(prefix="pose-dive-book-") as folder:
        sources = Sources(study, Path(folder, "sources"))
        sources.gather()
        made = _sphinx(root / SETTINGS, sources.folder, Path(folder))
        with replacing_folder(target) as draft:
            shutil.copytree(made, draft, dirs_exist_ok=True)
    return target / "index.html"


def _sphinx(settings: Path, sources: Path, folder: Path) -> Path:
    """Make the pages below `folder`, and return where they are."""
    made = folder / "html"
    kept = str(folder / "doctrees")
    options = ["-b", "html", "-q", "-W", "--keep-going", "-c", str(settings), "-d", kept]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, sources, made],
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        said = done.stderr.replace(f"{sources}/", "").strip()
        raise StudyError(f"Sphinx could not build the book without a warning:\n{said}")
    return made


@dataclass(frozen=True)
class Sources:
    """The sources of the book about a study, gathered in `folder`."""

    study: pages.Study
    folder: Path

    def gather(self) -> None:
        """Write every page, and copy what the pages link to."""
        shown = pages.figures(self.study)
        known = {(self.study.reports / item.picture).read_bytes(): item for item in shown}
        numbered: set[str] = set()
        for name in (*pages.notebooks(self.study.stages), *pages.beside(self.study)):
            numbered |= self._chapter(f"reports/notebooks/{name}.ipynb", known)
        made = {
            "study.md": pages.contents(self.study),
            "figures.md": pages.gallery(shown, numbered),
            "tables.md": pages.tables(self.study),
            "pipeline.md": pages.pipeline(self.study),
            "reports/claims.md": self._read("reports/claims.md"),
        }
        for own in ("literature.md", "measurements.md"):
            made[own] = self._read(SETTINGS / own)
        for pattern in PAGES:
            for path in sorted(self.study.root.glob(pattern)):
                page = path.relative_to(self.study.root).as_posix()
                text, title = self._read(page), path.stem.replace("_", " ").capitalize()
                made[page] = text if text.startswith("# ") else f"# {title}\n\n{text}"
        made["index.md"] = self._front(made)
        for page, text in made.items():
            text = ARROWS.sub(lambda found: _drawn(found[1]), self.linked(text, page))
            write_text(self.folder / page, text)
        for item in shown:
            self._bring(f"reports/{item.picture}")

    def _front(self, made: dict[str, str]) -> str:
        """The front page: the README, and a table of contents that names every page of docs/."""
        front = self._read(SETTINGS / "index.md")
        docs = [page.removesuffix(".md") for page in made if page.startswith("docs/")]
        others = "\n".join(page for page in docs if page not in front.split())
        return front.replace(README, self._read("README.md")).replace(DOCS, others)

    def _place(self, path: str | Path) -> Path:
        """Where a file of the book's sources comes from."""
        own = Path(path)
        if own.parts[:1] == ("reports",):
            return self.study.reports.joinpath(*own.parts[1:])
        if own.parts[:1] == (COMMITTED,):
            return self.study.root.joinpath(*own.parts[1:])
        return self.study.root / own

    def _read(self, path: str | Path) -> str:
        place = self._place(path)
        if not place.is_file():
            mend = "`dvc repro` makes it" if "reports" in place.parts else "restore it from git"
            raise StudyError(f"The book needs {place}, which does not exist; {mend}.")
        return place.read_text(encoding="utf-8")

    def _bring(self, path: str) -> None:
        """Copy a file, unless the book has it already."""
        if self._place(path).is_file() and not (self.folder / path).exists():
            write_bytes(self.folder / path, self._place(path).read_bytes())

    def _chapter(self, page: str, known: dict[bytes, pages.Shown]) -> set[str]:
        """Write one notebook; the names of the figures that have a number in it.

        known: the pictures of the reports.
        """
        executed = self._place(page)
        source = self.study.root / "notebooks" / executed.name
        notebook = read_notebook(executed) if executed.is_file() else not_executed(source)

        def place(content: bytes, kind: str) -> tuple[str, str]:
            """Where a picture lies; one that is no figure of the reports is written."""
            if content in known:
                return f"../{known[content].picture}", known[content].name
            own = f"{executed.stem}-{hashlib.sha256(content).hexdigest()[:12]}.{kind}"
            write_bytes(self.folder / "reports/notebooks" / own, content)
            return own, ""

        numbered = illustrate(notebook, place)
        start = executed.parent if executed.is_file() else None  # its links hold where it was run
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = self.linked(cell.source, page, start)
            for output in cell.get("outputs", []):
                if text := output.get("data", {}).get("text/markdown"):
                    output.data["text/markdown"] = self.linked(text, page, start)
        write_text(self.folder / page, nbformat.writes(notebook))
        return numbered

    def linked(self, text: str, page: str, start: Path | None = None) -> str:
        """Markdown whose links to files lead to what stands for them in the book.

        start: the folder from which they lead; None: the page's own in the book. Alternative texts
        come into one line: MyST would join the words at a line's end.
        """
        text = ALT.sub(lambda found: " ".join(found[0].split()), text)
        return LINK.sub(lambda found: self._link(found[0], page, start), text)

    def _named(self, path: Path) -> str:
        """What the book calls a file of the study: own reports may lie anywhere."""
        there = Path(os.path.abspath(path))
        for folder, name in ((self.study.reports, "reports"), (self.study.root, "")):
            above = Path(os.path.abspath(folder))
            if there.is_relative_to(above):
                return posixpath.join(name, there.relative_to(above).as_posix())
        return path.as_posix()

    def _link(self, link: str, page: str, start: Path | None) -> str:
        path, mark, anchor = link.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if start is not None:
            place = self._named(start / path)
        found = PLACES.get(place, place)
        if match := CHAPTER.fullmatch(place):
            found = f"reports/notebooks/{match[1]}.ipynb"
        elif found == place and (self.study.root / place).is_dir():
            found = f"{place}/README.md"
        elif start is None and self._committed(place, page):
            found = f"{COMMITTED}/{place}"
        self._bring(found)
        return posixpath.relpath(found, posixpath.dirname(page) or ".") + mark + anchor

    def _committed(self, place: str, page: str) -> bool:
        """Whether a page means a file of the mini world's reports, in a book about other data."""
        other = self.study.reports.resolve() != (self.study.root / "reports").resolve()
        file = place.startswith("reports/") and place not in (*PLACES, *OF_THE_RUN)
        return other and file and page not in OF_THE_RUN


def _drawn(mermaid: str) -> str:
    """A flow chart of Mermaid ("a --> b", one arrow a line) as a drawing."""
    links = re.findall(r"^ *(\w+) --> (\w+)$", mermaid, re.MULTILINE)
    names = list(dict.fromkeys(name for link in links for name in link))
    return pages.raw(diagram({name: "" for name in names}, links, "Arrows of the drawing"))


@command()
def main(arguments: list[str] | None = None) -> int:
    """Build the book. Returns the exit status."""
    argparse.ArgumentParser(
        prog="python -m posedive_lib.bench.site", description="Build the book: build/site."
    ).parse_args(arguments)
    print(f"Wrote {build()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

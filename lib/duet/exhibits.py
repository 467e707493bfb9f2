"""Which tables and figures of the papers there are, and where: the file, and the cell of the notebook that makes it.

Nothing is typed twice.  A file is named after what it shows: ``tables/table3.csv``, ``figures/figure7.png``, and
``tables/figure7_boxes.csv`` where one is not enough.  The cell that makes it is the one whose code has that name, its
heading is the nearest one above it, and what it shows is what that cell has put out.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

from . import paths, studies
from .errors import DuetError

#: What of each paper is made again.  The papers' other figures are drawings.
EXHIBITS: dict[str, tuple[str, ...]] = {
    "transfer_learning": ("Table 1", "Table 2", "Table 3"),
    "passage_retrieval": ("Table 1", "Table 2", "Table 3", "Figure 1", "Figure 3", "Figure 4"),
    "alignment": ("Table 1", "Table 2", "Table 3", "Figure 2", "Figure 3", "Figure 6", "Figure 7"),
    "synthetic_pretraining": ("Table 1", "Table 2", "Table 3", "Figure 3"),
    "ctc_chroma": (
        *("Table 1", "Table 2", "Table 3", "Table 4", "Table 5", "Table 6"),
        *("Figure 1", "Figure 3", "Figure 4"),
    ),
}

FOLDERS = {".csv": "tables", ".png": "figures"}
_FILE = re.compile(r"\"(\w+\.(?:csv|png))\"")
_TITLE = re.compile(r"^(?:#.*\n*|\*\*[^*]+\.\*\*\s*)", re.MULTILINE)
_HEADING = re.compile(r"^#+ +(.+)$|^\*\*(.+?)\*\*", re.MULTILINE)


class Cell(NamedTuple):
    """A cell that writes files, and what a reader needs to know of it.

    ``number`` is that of its last execution, 0 for none.  ``prose`` (Markdown) is the text above it, without headings.
    ``tables`` (HTML) and ``printed`` are its output.
    """

    id: str
    number: int
    heading: str
    prose: str
    files: tuple[str, ...]
    tables: tuple[str, ...]
    printed: str


def finished(key: str, preset: str, corpus: str = "") -> bool:
    """Whether a study's notebook has run to its end."""
    return (paths.study_results(key, preset, corpus) / "provenance.json").exists()


def notebook(key: str, preset: str, corpus: str = "") -> NotebookNode:
    """A study's notebook: as it was executed where it has run to its end, else as it is written.

    Raises DuetError where the file is missing or damaged.
    """
    name = f"{studies.get(key).NOTEBOOK}.ipynb"
    done = finished(key, preset, corpus)
    path = paths.study_results(key, preset, corpus) / "notebook.ipynb" if done else paths.NOTEBOOKS / name
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise DuetError("no such notebook", path=path, remedy=f"`duet notebook {key}` makes it") from None
    except Exception as error:  # nbformat hands on what JSON and its schema raise
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DuetError(f"is not a notebook: {first}", path=path, remedy=f"`duet notebook {key}` makes it") from None


def writing(notebook: NotebookNode) -> list[Cell]:
    """The cells of a notebook that write tables or figures, in its order; ``files`` are relative to the results."""
    found, prose, section, heading = [], "", "", ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = _TITLE.sub("", cell.source).strip()
            for part, run_in in _HEADING.findall(cell.source):
                section = part or section
                heading = part or run_in.rstrip(".:,")
        elif cell.cell_type == "code" and (names := _FILE.findall(cell.source)):
            files = tuple(f"{FOLDERS[name[-4:]]}/{name}" for name in names)
            tables = tuple(
                "".join(output.data["text/html"])
                for output in cell.outputs
                if "<table" in output.get("data", {}).get("text/html", "")
            )
            printed = "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")
            # "Figure 6." names nothing: what does is the heading of its section
            title = section if re.fullmatch(r"(?:Table|Figure) \d+", heading) else heading
            found.append(Cell(cell.id, cell.execution_count or 0, title, prose, files, tables, printed.strip()))
    return found


def showing(cells: list[Cell], label: str) -> list[Cell]:
    """The cells that make an exhibit, each with its files alone: of "Table 3" they are ``table3`` or ``table3_...``."""
    name = re.compile(rf"\w+/{label.lower().replace(' ', '')}(?:_\w+)?\.\w+")
    chosen = [cell._replace(files=tuple(f for f in cell.files if name.fullmatch(f))) for cell in cells]
    return [cell for cell in chosen if cell.files]


def introduction(notebook: NotebookNode) -> str:
    """Markdown of a notebook's first cell without its title: the citation, the question, the claim."""
    return re.sub(r"^# .*\n*", "", notebook.cells[0].source)


def differences(notebook: NotebookNode) -> str:
    """Markdown of the cell that says what differs from the paper and why, without its heading."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := re.match(r"## What differs[^\n]*\n+", cell.source)):
            return cell.source[found.end() :]
    return ""

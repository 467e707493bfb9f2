"""One notebook run headless: checked parameters in; a finished notebook, its HTML and its provenance out."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from . import files, paths, runs, studies
from .errors import DuetError

# One thread a run, so that runs side by side share the cores and a repeated run adds in the same order.  The
# others: OpenMP threads that sleep instead of spinning, and what Python and cuBLAS want for equal results.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONHASHSEED": "0",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
TYPES = {"str": str, "int": int, "float": float, "bool": bool}
SWITCHES = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def study_module(study: str, preset: str) -> ModuleType:
    """The study's module.  Raises DuetError, with the valid names, for an unknown study or preset."""
    module = studies.get(study)
    if preset not in module.PRESETS:
        raise DuetError(
            f"unknown preset {preset!r} of the study {study}", remedy=f"choose one of {', '.join(module.PRESETS)}"
        )
    return module


def parse_parameters(study: str, assignments: Iterable[str]) -> dict:
    """From ``name=value`` as typed in a shell to values of the types that the study's notebook declares.

    Raises DuetError for an unknown study or name and for a text that is not of the declared type.
    """
    notebook = _notebook(studies.get(study))
    declared, values = _declared(notebook), {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise DuetError(f"parameter {assignment!r} has no value", remedy="write name=value")
        kind = _kind(name, declared, notebook)
        try:
            values[name] = SWITCHES[text.lower()] if kind == "bool" else TYPES[kind](text)
        except (KeyError, ValueError):
            raise DuetError(f"parameter {name} must be {kind}, not {text!r}") from None
    return values


def execute(study: str, preset: str = "smoke", parameters: dict | None = None, progress: bool = False) -> Path:
    """Run a study's notebook and return the folder with notebook.ipynb, notebook.html and provenance.json.

    ``provenance.json`` is removed first and written last: where it stands, the notebook beside it ran to its end.
    A run that fails or is killed leaves ``notebook.failed.ipynb`` as far as it came.  ``progress`` copies to
    stderr what the cells print.

    Raises DuetError for an unknown study, preset or parameter, a value of the wrong type, a cell that raises, a
    kernel that dies and a page that would load something from elsewhere.
    """
    notebook = _notebook(study_module(study, preset))
    if {"preset", "progress"} & set(parameters or {}):
        raise DuetError("preset and progress are no free parameters", remedy="they are arguments of their own")
    values = {"preset": preset, "progress": progress, **(parameters or {})}
    _check(values, notebook)

    folder = paths.study_results(study, preset, values.get("corpus", ""))
    finished, failed = folder / "provenance.json", folder / "notebook.failed.ipynb"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        finished.unlink(missing_ok=True)
        failed.unlink(missing_ok=True)
    except OSError as error:
        raise DuetError(
            f"cannot be written: {error.strerror}", path=folder, remedy="choose another DUET_RESULTS"
        ) from error
    began = time.monotonic()
    executed = _run(notebook, failed, values, progress)
    page = to_html(executed, notebook.stem)
    files.write_text(folder / "notebook.ipynb", _text(executed))
    files.write_text(folder / "notebook.html", page)
    failed.unlink()
    files.write_json(
        finished,
        {
            "study": study,
            "preset": preset,
            "notebook": notebook.name,
            "parameters": values,
            "seconds": round(time.monotonic() - began, 1),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            **runs.provenance(),
        },
    )
    return folder


def to_html(notebook, title: str) -> str:
    """A page that needs nothing but itself: no scripts, styles, fonts or images from elsewhere.

    Every image has an alternative text: the one the notebook gave (``Image(..., alt=...)``, or the output's
    ``alt`` metadata), else the heading it stands under.  Formulas stay as typed, since what renders them would
    have to be loaded.  Raises DuetError where a cell's own output loads something from elsewhere.
    """
    from bs4 import BeautifulSoup
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab", raw_template=TEMPLATE, embed_images=True)
    exporter.exclude_anchor_links = True
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title, "path": str(paths.NOTEBOOKS)}})
    page = BeautifulSoup(page, "html.parser")
    for image in page.select("img"):
        if not image.get("alt", "").strip():
            heading = image.find_previous(["h1", "h2", "h3", "h4"])
            image["alt"] = f"Figure under the heading {heading.get_text().strip()}" if heading else f"Figure of {title}"
    loads = outside_references(page)
    if loads:
        raise DuetError(f"the page of {title} would load {loads[0]}", remedy="embed it in the notebook's output")
    return str(page)


def outside_references(page) -> list[str]:
    """Everything a page (BeautifulSoup) loads by itself over the network; links to click on are fine."""
    loads = [
        str(element[attribute])
        for element in page.select("[src], [srcset], [poster], [data], link[href]")
        for attribute in ("src", "srcset", "poster", "data", "href")
        if element.has_attr(attribute)
    ]
    loads += [
        str(element[name])
        for element in page.select("image, use")
        for name in ("href", "xlink:href")
        if element.has_attr(name)
    ]
    code = [element.get_text() for element in page.select("script, style")]
    code += [element["style"] for element in page.select("[style]")]
    address = r"""(?:url\(|@import|\bimport\b|\bfrom\b|\bfetch\()[\s("']*((?:https?:)?//[^\s"')]+)"""
    for text in code:
        loads += re.findall(address, text)
    return [load for load in loads if re.match(r"\s*(https?:)?//", load)]


# nbconvert's page without the parts that load require.js, MathJax, Mermaid and the widget manager, and with the
# alternative text that an image's metadata hold.
TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- macro picture(output, kind) -%}
<div class="jp-RenderedImage jp-OutputArea-output">
<img src="data:{{ kind }};base64,{{ output.data[kind] | escape_html }}"
 alt="{{ (output | get_metadata('alt', kind) or '') | escape_html }}"
 {%- for side in ('width', 'height') %}{% set size = output | get_metadata(side, kind) %}
 {%- if size is not none %} {{ side }}="{{ size | escape_html }}"{% endif %}{% endfor %}></div>
{%- endmacro -%}
{%- block data_png scoped -%}{{ picture(output, 'image/png') }}{%- endblock -%}
{%- block data_jpg scoped -%}{{ picture(output, 'image/jpeg') }}{%- endblock -%}
"""


def _notebook(module: ModuleType) -> Path:
    return paths.NOTEBOOKS / f"{module.NOTEBOOK}.ipynb"


def _declared(notebook: Path) -> dict[str, str]:
    """{name: type} as the notebook's parameters cell has them."""
    import papermill

    if not notebook.is_file():
        raise DuetError("no such notebook", path=notebook)
    try:
        declared = papermill.inspect_notebook(_literal(notebook))
    except ValueError as error:  # not JSON, not a notebook, or one without a kernel
        raise DuetError(f"is not a notebook: {error}", path=notebook) from error
    return {name: parameter["inferred_type_name"] for name, parameter in declared.items()}


def _kind(name: str, declared: dict[str, str], notebook: Path) -> str:
    if name not in declared:
        raise DuetError(
            f"unknown parameter {name!r}", path=notebook, remedy=f"there are {', '.join(declared) or 'none'}"
        )
    if declared[name] not in TYPES:
        raise DuetError(
            f"its parameter {name} declares no plain type",
            path=notebook,
            remedy=f"write name: type = value with one of {', '.join(TYPES)}",
        )
    return declared[name]


def _check(values: dict, notebook: Path) -> None:
    declared = _declared(notebook)
    for name, value in values.items():
        kind = _kind(name, declared, notebook)
        fits = type(value) is TYPES[kind] or (kind == "float" and type(value) is int)
        if not fits or (kind == "float" and not math.isfinite(value)):
            raise DuetError(f"parameter {name} must be {kind}, not {value!r}")


def _run(notebook: Path, output: Path, values: dict, progress: bool):
    """The executed notebook without papermill's marks.  ``output`` holds each finished cell while it runs."""
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    stream = sys.stderr if progress else None
    try:
        with _kernel_environment():
            # The working directory is the one that JupyterLab and nbval give a notebook: its own folder.
            executed = papermill.execute_notebook(
                _literal(notebook),
                _literal(output),
                values,
                kernel_name="python3",
                cwd=str(notebook.parent),
                progress_bar=False,
                stdout_file=stream,
                stderr_file=stream,
                start_timeout=600,  # a kernel of a machine at work takes its time
                # On a shared machine others could listen to an open port; without this the kernel warns of it.
                config=Config(KernelManager={"transport_encryption": "auto"}),
            )
    except papermill.PapermillExecutionError as error:
        raise DuetError(
            f"cell {error.exec_count} ({_first_line(error.source)}) failed: {error.ename}: {error.evalue}", path=output
        ) from error
    except DeadKernelError as error:
        # Papermill's metadata call every cell completed; which were begun, the times tell.
        begun = [
            cell
            for cell in nbformat.read(output, as_version=4).cells
            if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time")
        ]
        raise DuetError(
            f"the kernel died in cell {len(begun)} ({_first_line(begun[-1].source)})",
            path=output,
            remedy="most often the memory was too small",
        ) from error
    for cell in executed.cells:
        # SystemExit(0) ends a notebook early, and papermill takes it for success.
        if cell.cell_type == "code" and any(result.output_type == "error" for result in cell.outputs):
            raise DuetError(
                f"cell {cell.execution_count} ({_first_line(cell.source)}) ended the notebook early", path=output
            )
    for part in (executed, *executed.cells):
        part.metadata.pop("papermill", None)
        part.metadata.pop("execution", None)
    for cell in executed.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"  # papermill draws a random one; a repeated run should give an equal file
    return executed


@contextlib.contextmanager
def _kernel_environment() -> Iterator[None]:
    """Variables for the kernel: this environment's own kernel, figures inline, no history shared between kernels."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="duet-ipython-") as ipython:
        os.environ.update(
            ENVIRONMENT,
            IPYTHONDIR=ipython,
            JUPYTER_PREFER_ENV_PATH="1",
            PYDEVD_DISABLE_FILE_VALIDATION="1",
            MPLBACKEND="module://matplotlib_inline.backend_inline",
        )
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _literal(path: Path) -> str:
    """Papermill takes paths for format strings."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _first_line(source: str) -> str:
    return next((line.strip() for line in source.splitlines() if line.strip()), "")


def _text(notebook) -> str:
    import nbformat

    return nbformat.writes(notebook) + "\n"

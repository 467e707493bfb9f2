"""Run records: one trained and evaluated model is one small JSON file, made once and never repeated.

A record lies at ``results/<preset>/<study>/runs/<name>.json`` with the blocks ``id``, ``config``, ``result`` (bit for
bit the same when repeated on the same kind of machine) and ``provenance``.  Its id hashes the config, the corpus's
fingerprint, the study's version and the ids of the runs whose weights it starts from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from . import files, paths
from .errors import DuetError

PACKAGES = ("torch", "numpy", "librosa", "verovio", "music21", "pyfluidsynth", "resvg_py", "rapidfuzz", "duet")


@dataclass(frozen=True)
class Run:
    """One cell of a grid.  ``parents`` are names of runs of the same grid whose weights it starts from."""

    name: str
    config: Any  # a frozen dataclass of the study
    parents: tuple[str, ...] = ()
    core: bool = True
    note: str = ""  # why it is there, for lists


def studies_get(study: str):
    from . import studies  # studies import this module

    return studies.get(study)


#: metadata of a config's field that joined after records had been made: at its default they keep their ids
LATER = {"later": True}


def identity(config: Any) -> dict:
    """What of a config is hashed: every field, nested ones too, but for those marked LATER at their default."""
    values = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not (field.metadata.get("later") and value == field.default):
            values[field.name] = identity(value) if dataclasses.is_dataclass(value) else value
    return values


def run_id(config: Any, fingerprint: str, version: int, parents: list[str]) -> str:
    """16 hex digits."""
    content = json.dumps(identity(config), sort_keys=True)
    return files.digest(content, fingerprint, str(version), *parents)[:16]


class Grid:
    """The runs of one study and preset, with the corpus they are made on.

    ``corpus`` is a path to the paper's own data; empty means the preset's open corpus.
    """

    def __init__(self, study: str, preset: str, corpus: str = ""):
        self.study, self.preset, self.corpus = studies_get(study), preset, corpus
        if preset not in self.study.PRESETS:
            raise DuetError(f"unknown preset {preset!r}", remedy=f"one of {', '.join(self.study.PRESETS)}")
        self.runs = {run.name: run for run in self.study.runs(preset)}
        self.folder = paths.study_results(self.study.KEY, preset, corpus)
        self._data = None

    def run(self, name: str) -> Run:
        if name not in self.runs:
            raise DuetError(
                f"{self.study.KEY} has no run {name!r} in preset {self.preset}", remedy=f"one of {', '.join(self.runs)}"
            )
        return self.runs[name]

    def data(self, progress: bool = False):
        """The study's corpus and splits, prepared once."""
        if self._data is None:
            self._data = self.study.prepare(self.preset, self.corpus, progress)
        return self._data

    def id(self, name: str) -> str:
        run = self.run(name)
        return run_id(run.config, self.data().fingerprint, self.study.VERSION, [self.id(p) for p in run.parents])

    def path(self, name: str) -> Path:
        return self.folder / "runs" / f"{name}.json"

    def find(self, name: str) -> dict | None:
        """The record, or None where it is missing or was made with another config, corpus or version."""
        path = self.path(name)
        if not path.exists():
            return None
        record = files.read_json(path)
        if not isinstance(record, dict):
            raise DuetError("is not a run record", path=path, remedy="delete it and make it again")
        return record if record.get("id") == self.id(name) else None

    def weights(self, name: str) -> Path:
        """Where a run's weights are kept: in the cache, since anybody can train them again."""
        return paths.cache() / "weights" / self.study.KEY / f"{name}-{self.id(name)}.safetensors"

    def make(self, name: str, progress: bool = False, with_weights: bool = False) -> dict:
        """The record, made first if need be; with its weights if asked for.

        A parent whose record is known but whose weights are not on this machine is trained again for its weights;
        its record stays as it is.
        """
        record = self.find(name)
        if record is not None and (not with_weights or self.weights(name).exists()):
            return record
        run = self.run(name)
        for parent in run.parents:
            self.make(parent, progress, with_weights=True)
        with _locked(paths.cache() / "locks" / f"{self.id(name)}.lock"):
            record = self.find(name)  # another process may have made it while this one waited
            if record is not None and (not with_weights or self.weights(name).exists()):
                return record
            checkpoint = paths.cache() / "checkpoints" / f"{name}-{self.id(name)}.pt"
            origin, started, cpu = provenance(), time.time(), time.process_time()  # as it is when the run starts
            result = self.study.execute(
                run,
                self.data(progress),
                parents={p: self.weights(p) for p in run.parents},
                weights=self.weights(name),
                checkpoint=checkpoint,
                progress=progress,
            )
            if record is None:
                record = {
                    "id": self.id(name),
                    "study": self.study.KEY,
                    "preset": self.preset,
                    "name": name,
                    "config": json.loads(json.dumps(dataclasses.asdict(run.config))),
                    "corpus": self.data().name,
                    "fingerprint": self.data().fingerprint,
                    "result": result,
                    "provenance": {
                        **origin,
                        "wall_seconds": round(time.time() - started, 1),
                        "cpu_seconds": round(time.process_time() - cpu, 1),
                    },
                }
                files.write_json(self.path(name), record)
            checkpoint.unlink(missing_ok=True)
        return record


def prepare(study: str, preset: str, corpus: str = "", progress: bool = False) -> None:
    """Build or check the corpus and its features."""
    Grid(study, preset, corpus).data(progress)


def make(study: str, preset: str, name: str, corpus: str = "", progress: bool = False) -> dict:
    """One run's record; made if it is not there."""
    return Grid(study, preset, corpus).make(name, progress)


def provenance() -> dict:
    """Versions, commit and machine: what a result may depend on without being part of it."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=paths.ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    from .training import device  # here: importing torch takes seconds that listing runs need not spend

    return {
        "versions": versions,
        "commit": commit,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "device": str(device()),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time makes a run; the lock goes with its process, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        # a file system that has no locks may make a run twice, to the same record
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        _locks.add(handle)
        try:
            yield
        finally:
            _locks.discard(handle)


# A worker that outlives its killed parent must not keep the lock: forked processes close what they inherit of it.
_locks: set[IO] = set()
os.register_at_fork(after_in_child=lambda: [handle.close() for handle in _locks])

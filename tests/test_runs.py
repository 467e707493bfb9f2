"""Run records of a fake study that counts its trainings: made once, made again when stale, never lost."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from duet import DuetError, files, paths, runs, studies
from duet.runs import LATER, Grid, Run, run_id


@dataclass(frozen=True)
class Config:
    rate: float = 0.1
    layers: tuple[int, ...] = (1, 2)


class Study:
    """Two parents and a child whose result depends on config and parents' weights."""

    KEY, VERSION, PRESETS = "fake", 1, {"smoke": None, "laptop": None}

    def __init__(self):
        self.made, self.prepared, self.fingerprint, self.during = [], 0, "corpus", lambda run, checkpoint: None
        self.configs = {"father": Config(), "mother": Config(0.2), "child": Config(0.3)}

    def runs(self, preset):
        return [
            Run("father", self.configs["father"]),
            Run("mother", self.configs["mother"]),
            Run("child", self.configs["child"], ("father", "mother")),
        ]

    def prepare(self, preset, corpus, progress):
        self.prepared += 1
        return SimpleNamespace(fingerprint=self.fingerprint + corpus, name="toy corpus")

    def execute(self, run, data, parents, weights, checkpoint, progress):
        files.write_text(checkpoint, "epoch 1")
        self.during(run, checkpoint)
        self.made.append(run.name)
        files.write_text(weights, f"{run.name}({','.join(path.read_text() for path in parents.values())})")
        return {"weights": weights.read_text(), "rate": run.config.rate}


@pytest.fixture
def study(workspace, monkeypatch):
    fake = Study()

    def get(key):
        if key != "fake":
            raise DuetError(f"unknown study {key!r}", remedy="one of fake")
        return fake

    monkeypatch.setattr(studies, "get", get)
    monkeypatch.setattr(runs, "provenance", lambda: {"commit": f"after {len(fake.made)} trainings"})
    return fake


def grid():
    return Grid("fake", "smoke")


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_an_id_depends_on_config_corpus_version_and_parents():
    base = run_id(Config(), "corpus", 1, ["a" * 16])
    others = [
        run_id(Config(0.2), "corpus", 1, ["a" * 16]),
        run_id(Config(layers=(1,)), "corpus", 1, ["a" * 16]),
        run_id(Config(), "corpus 2", 1, ["a" * 16]),
        run_id(Config(), "corpus", 2, ["a" * 16]),
        run_id(Config(), "corpus", 1, ["b" * 16]),
        run_id(Config(), "corpus", 1, []),
        run_id(Config(), "corpus", 1, ["a" * 16, "a" * 16]),
    ]
    assert len({base, *others}) == 8
    assert base == run_id(Config(), "corpus", 1, ["a" * 16]) and len(base) == 16


def test_a_setting_that_joins_later_leaves_the_ids_of_old_records_alone():
    @dataclass(frozen=True)
    class Grown(Config):
        extra: int = field(default=0, metadata=LATER)

    @dataclass(frozen=True)
    class Outer:
        inner: Config

    assert run_id(Grown(), "c", 1, []) == run_id(Config(), "c", 1, []) != run_id(Grown(extra=1), "c", 1, [])
    assert run_id(Outer(Grown()), "c", 1, []) == run_id(Outer(Config()), "c", 1, [])
    assert run_id(Outer(Grown()), "c", 1, []) != run_id(Outer(Grown(extra=1)), "c", 1, [])


def test_an_id_is_the_same_for_ever():
    """The records that are published are found by it."""
    assert run_id(Config(), "corpus", 1, []) == PINNED


PINNED = "4a2caa560f4805cd"


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.configs.update(father=Config(0.9)),
        lambda s: setattr(s, "VERSION", 2),
        lambda s: setattr(s, "fingerprint", "another corpus"),
    ],
)
def test_what_changes_a_parent_changes_its_child(study, change):
    before = {name: grid().id(name) for name in grid().runs}
    change(study)
    after = {name: grid().id(name) for name in grid().runs}
    assert before["child"] != after["child"] and before["father"] != after["father"]


def test_ones_own_corpus_is_part_of_the_id(study):
    assert grid().id("father") != Grid("fake", "smoke", "/somewhere").id("father")


# -- records -----------------------------------------------------------------------------------------------------------


def test_a_record_says_what_was_made_and_how(study):
    record = runs.make("fake", "smoke", "child")
    assert study.made == ["father", "mother", "child"] and study.prepared == 1
    path = paths.results() / "smoke" / "fake" / "runs" / "child.json"
    assert record == files.read_json(path)
    assert set(record) == {"id", "study", "preset", "name", "config", "corpus", "fingerprint", "result", "provenance"}
    assert record["id"] == grid().id("child") and record["config"] == {"rate": 0.3, "layers": [1, 2]}
    assert record["result"] == {"weights": "child(father(),mother())", "rate": 0.3}
    assert set(record["provenance"]) == {"commit", "wall_seconds", "cpu_seconds"}
    assert list((paths.cache() / "checkpoints").iterdir()) == []


def test_provenance_names_versions_and_machine():
    found = runs.provenance()
    assert {"versions", "commit", "python", "machine", "processor", "device", "threads"} == set(found)
    assert {"torch", "numpy", "verovio", "duet"} <= set(found["versions"])
    json.dumps(found)


def test_a_run_that_has_a_record_is_not_repeated(study):
    first = grid().make("child")
    assert grid().make("child") == first and grid().find("child") == first
    assert study.made == ["father", "mother", "child"]
    assert [grid().make(name)["name"] for name in ("father", "mother")] == ["father", "mother"]
    assert len(study.made) == 3


def test_a_stale_record_is_made_again_and_the_old_one_stays_until_then(study):
    grid().make("father")
    path = grid().path("father")
    old = path.read_bytes()
    study.configs["father"] = replace(study.configs["father"], rate=0.7)
    assert grid().find("father") is None and path.read_bytes() == old

    def fail(run, checkpoint):
        assert path.read_bytes() == old
        raise DuetError("the disk is full")

    study.during = fail
    with pytest.raises(DuetError, match="the disk is full"):
        grid().make("father")
    assert path.read_bytes() == old
    study.during = lambda run, checkpoint: None
    assert grid().make("father")["config"]["rate"] == 0.7 and study.made == ["father", "father"]


def test_a_run_that_failed_keeps_its_checkpoint_and_writes_no_record(study):
    def fail(run, checkpoint):
        raise KeyboardInterrupt

    study.during = fail
    with pytest.raises(KeyboardInterrupt):
        grid().make("father")
    assert not grid().path("father").exists()
    assert [p.read_text() for p in (paths.cache() / "checkpoints").iterdir()] == ["epoch 1"]


def test_lost_weights_are_made_again_and_the_record_stays_as_it_was(study):
    grid().make("father")
    record = grid().path("father").read_bytes()
    grid().weights("father").unlink()
    assert grid().make("father") and study.made == ["father"]  # nobody asked for weights
    grid().make("child")
    assert study.made == ["father", "father", "mother", "child"]
    assert grid().path("father").read_bytes() == record and grid().weights("father").exists()
    assert grid().make("father", with_weights=True) == files.read_json(grid().path("father"))
    assert len(study.made) == 4


def test_weights_of_another_config_are_not_taken_for_this_one(study):
    grid().make("father")
    old = grid().weights("father")
    study.configs["father"] = Config(0.9)
    assert grid().weights("father") != old
    grid().make("child")
    assert study.made == ["father", "father", "mother", "child"] and old.exists()


@pytest.mark.parametrize("content", ["{", "", "[1, 2]", "null", "\udcff"])
def test_a_damaged_record_is_named(study, content):
    grid().make("father")
    path = grid().path("father")
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DuetError, match=r"runs/father\.json: is not .*delete it and make it again"):
        grid().find("father")
    with pytest.raises(DuetError, match=r"father\.json"):
        grid().make("father")
    assert path.exists()


def test_a_record_without_an_id_is_another_ones(study):
    grid().make("father")
    files.write_json(grid().path("father"), {"result": {}})
    assert grid().find("father") is None


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_unknown_names_are_refused_with_the_valid_ones(study):
    with pytest.raises(DuetError, match=r"fake has no run 'son' in preset smoke \(one of father, mother, child\)"):
        runs.make("fake", "smoke", "son")
    with pytest.raises(DuetError, match=r"unknown preset 'smokey' \(one of smoke, laptop\)"):
        runs.make("fake", "smokey", "child")
    with pytest.raises(DuetError, match=r"unknown study 'fakes' \(one of fake\)"):
        runs.prepare("fakes", "smoke")
    assert study.made == []


def test_the_real_studies_are_listed():
    with pytest.raises(DuetError, match=r"unknown study 'fakes' \(one of transfer_learning"):
        studies.get("fakes")


# -- several processes -------------------------------------------------------------------------------------------------

#: A study that trains once every process that was started has asked for its run; a marker says that it trains.
CHILD = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from duet import files, runs, studies

folder, name, others = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

@dataclass(frozen=True)
class Config:
    rate: float = 0.1

def execute(run, data, parents, weights, checkpoint, progress):
    with open(folder / "trained", "a") as log:
        log.write(name + "\\n")
    while len(list(folder.glob("ready-*"))) < others:
        time.sleep(0.01)
    if sys.argv[4:] == ["orphan"]:
        from concurrent.futures import ProcessPoolExecutor
        pool = ProcessPoolExecutor(1)
        pool.submit(time.sleep, 0.01).result()
        (folder / "worker").write_text(str(next(iter(pool._processes))))
        time.sleep(60)
    time.sleep(0.3)
    files.write_text(weights, name)
    return {"by": name}

fake = SimpleNamespace(KEY="fake", VERSION=1, PRESETS={"smoke": None}, runs=lambda preset: [runs.Run("one", Config())],
                       prepare=lambda *_: SimpleNamespace(fingerprint="f", name="toy"), execute=execute)
studies.get = lambda key: fake
runs.provenance = dict
(folder / f"ready-{name}").touch()
print(runs.make("fake", "smoke", "one")["result"]["by"])
"""


def start(folder, name, others, *more):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), name, str(others), *more], stdout=subprocess.PIPE, text=True
    )


def test_two_processes_that_ask_for_the_same_run_make_it_once(workspace):
    children = [start(workspace, name, 3) for name in "abc"]
    said = [child.communicate(timeout=60)[0].strip() for child in children]
    trained = (workspace / "trained").read_text().split()
    assert len(trained) == 1 and said == trained * 3


def test_workers_that_outlive_a_killed_run_do_not_keep_others_waiting(workspace):
    killed = start(workspace, "a", 1, "orphan")
    while not (workspace / "worker").exists() or not (workspace / "worker").read_text():
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    worker = int((workspace / "worker").read_text())
    try:
        os.kill(worker, 0)  # it is still there
        assert start(workspace, "b", 2).communicate(timeout=30)[0].strip() == "b"
    finally:
        os.kill(worker, signal.SIGKILL)
        killed.stdout.close()

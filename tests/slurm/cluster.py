"""The graph on a real SLURM of one node: ``make test-slurm``, where slurm-wlm and munge are installed.

The daemons run in the foreground in a scratch folder, as whoever starts this, on free ports, and end with it.  The
smoke preset of one study goes through profiles/slurm.  One job is cancelled; Snakemake is killed and started again
while another job of its is still there, and then that job's process.  All records must equal those made without SLURM.
pytest does not collect this file by itself: it takes minutes.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from tests.waiting import wait_for

from duet import files, launch, paths, studies

KEY = "transfer_learning"  # its smoke runs are the shortest, and some start from others' weights
HERE = Path(__file__).parent
MISSING = [tool for tool in ("munged", "slurmctld", "slurmd", "sbatch", "setpriv") if not shutil.which(tool)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (Debian: slurm-wlm, munge)")

# What only this cluster needs: it has no accounting, and nobody wants to wait a minute for a job of seconds.
HASTE = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"]
HASTE += ["--seconds-between-status-checks", "2", "--jobs", "2"]
LISTING = "%i %T %C %m %l %N %k"  # of squeue: job, state, cores, memory, time, node, rule with its wildcards
GUARD = ["setpriv", "--pdeathsig", "KILL"]  # what is started dies with this process, also when that is killed


def ended(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE  # not every container's first process buries the dead
    return True


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def queue(what="%i", states="PENDING,RUNNING,COMPLETING"):
    """A line a job, as ``squeue --format`` has it."""
    done = subprocess.run(
        ["squeue", "--noheader", "--states", states, "--format", what], capture_output=True, text=True
    )
    return done.stdout.splitlines() if done.returncode == 0 else None


def described(job):
    """{field: value} of ``scontrol show job``."""
    text = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """munged, slurmctld and slurmd; the environment of this process points at them."""
    # Not pytest's own folder: a socket's path must be short, and munge wants one that others may enter.
    with tempfile.TemporaryDirectory(prefix="duet-slurm-") as folder, contextlib.ExitStack() as stack:
        folder = Path(folder)
        folder.chmod(0o711)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(1024))
        controller, node = free_ports(2)
        values = {"host": socket.gethostname().split(".")[0], "controller": controller, "node": node}
        values |= {"user": getpass.getuser(), "folder": folder}
        (folder / "slurm.conf").write_text((HERE / "slurm.conf").read_text().format(**values))
        shutil.copy(HERE / "gres.conf", folder)
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        # Snakemake keeps SLURM's variables, this one too, from the srun inside a job: a site has it in /etc/slurm.
        srun = folder / "bin" / "srun"
        srun.parent.mkdir()
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        environment.setenv("PATH", str(srun.parent), prepend=os.pathsep)

        before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", 143))  # what is below is stopped
        stack.callback(signal.signal, signal.SIGTERM, before)

        def start(*command):
            log = stack.enter_context(open(folder / f"{command[0]}.log", "w"))
            daemon = subprocess.Popen([*GUARD, *command], stdout=log, stderr=log, start_new_session=True)
            stack.callback(stop, daemon)

        def logs():
            return "".join(f"\n{log.name}: {log.read_text()[-1500:]}" for log in folder.glob("*.log"))

        munge = [f"--{what}={folder / name}" for what, name in
                 (("key-file", "munge.key"), ("socket", "munge.socket"), ("pid-file", "munge.pid"),
                  ("log-file", "munge.log"), ("seed-file", "munge.seed"))]  # fmt: skip
        start("munged", "--foreground", *munge)
        wait_for((folder / "munge.socket").exists, "munged", 20)
        start("slurmctld", "-D")
        start("slurmd", "-D")
        state = ["sinfo", "--noheader", "--format", "%t"]
        try:
            wait_for(lambda: "idle" in subprocess.run(state, capture_output=True, text=True).stdout, "an idle node", 60)
        except pytest.fail.Exception:
            pytest.fail("SLURM did not start" + logs())
        try:
            yield
        finally:
            subprocess.run(["scancel", "--user", getpass.getuser()], check=False)
            with contextlib.suppress(pytest.fail.Exception):
                wait_for(lambda: queue() == [], "an empty queue", 30)


def stop(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Graph:
    """The Snakefile over one results and one cache folder."""

    def __init__(self, root, monkeypatch):
        self.root, self.log = root, root / "snakemake.log"
        self.cache, self.results = root / "cache", root / "results"
        root.mkdir()
        monkeypatch.setenv("DUET_RESULTS", str(self.results))
        monkeypatch.setenv("DUET_CACHE", str(self.cache))

    @contextlib.contextmanager
    def start(self, profile, *arguments):
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(paths.ROOT / "Snakefile")]
        command += ["--directory", str(self.root), "--workflow-profile", str(paths.ROOT / "profiles" / profile)]
        with open(self.log, "w") as log:
            guarded = [*GUARD, *command, *arguments]
            process = subprocess.Popen(guarded, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)  # Snakemake cancels its jobs
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(60)
                stop(process)

    def records(self):
        folder = self.results / "smoke" / KEY / "runs"
        return {file.stem: files.read_json(file) for file in folder.glob("*.json")}

    def trainings(self, run):
        """Processes that make a run, oldest first."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                if command[1:4] == ["-m", "duet.cli", "run"] and command[5] == run:
                    if process.environ().get("DUET_CACHE") == str(self.cache):
                        found.append(process)
        return sorted(found, key=lambda process: process.create_time())

    def freeze(self, runs, process):
        """Stop each run behind its first checkpoint: its process, and the SLURM job that it belongs to."""
        frozen, end = {}, time.monotonic() + 1800
        while len(frozen) < len(runs):
            for run in set(runs) - set(frozen):
                if list((self.cache / "checkpoints").glob(f"{run}-*.pt")):
                    training = self.trainings(run)[0]
                    training.suspend()
                    assert run not in self.records(), "it was done before it could be stopped"
                    frozen[run] = training, training.environ()["SLURM_JOB_ID"]
            assert process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"{runs} have not begun: {self.log.read_text()}"
            time.sleep(0.02)
        return frozen

    def first_epoch(self, run):
        """Where a run's last job began, from 1."""
        log = (self.cache / "snakemake" / "smoke" / KEY / "log" / f"{run}.log").read_text()
        return int(log.split("epoch ", 1)[1].split(",")[0])


def test_a_study_over_slurm_with_a_job_and_snakemake_killed_equals_the_local_one(tmp_path, monkeypatch):
    graph = Graph(tmp_path / "slurm", monkeypatch)
    runs = [run.name for run in studies.get(KEY).runs("smoke")]
    command = ["slurm", *HASTE, "--set-resources", "run:gpu=1"]  # smoke would ask for no GPU
    command += ["--config", "preset=smoke", f"study={KEY}"]
    with graph.start(*command) as process:
        frozen = graph.freeze(["image-s0", "audio-s0"], process)
        print(*queue(LISTING), sep="\n")
        devices = set()
        for training, job in frozen.values():
            about = described(job)
            asked = {name: about[name] for name in ("TresPerJob", "NumCPUs", "MinMemoryNode", "TimeLimit")}
            print(job, asked, "GPU", training.environ()["CUDA_VISIBLE_DEVICES"])
            assert asked == {
                "TresPerJob": "gres:gpu:1",
                "NumCPUs": "1",
                "MinMemoryNode": "4000M",
                "TimeLimit": "12:00:00",
            }
            devices.add(training.environ()["CUDA_VISIBLE_DEVICES"])
        assert len(devices) == 2 and devices < {"0", "1", "2", "3"}

        # One job is cancelled: the profile submits it once more, and it goes on behind its checkpoint.
        training, job = frozen["image-s0"]
        subprocess.run(["scancel", job], check=True)
        wait_for(lambda: described(job)["JobState"] == "CANCELLED" and ended(training), "a cancelled job")
        assert "image-s0" not in graph.records()
        wait_for(lambda: "image-s0" in graph.records(), "the cancelled run again")
        assert graph.first_epoch("image-s0") == 2

        # Snakemake dies, its jobs stay.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    training, first = frozen["audio-s0"]
    assert described(first)["JobState"] == "RUNNING"

    # The same command submits that run again.  Its job waits for the first one's, until the node of that breaks down.
    with graph.start(*command) as process:
        _, second = wait_for(lambda: len(both := graph.trainings("audio-s0")) == 2 and both, "a second job of a run")
        print(*queue(LISTING), sep="\n")
        assert second.environ()["SLURM_JOB_ID"] != first
        training.kill()
        assert process.wait(3600) == 0, graph.log.read_text()
    assert graph.first_epoch("audio-s0") == 2
    assert (graph.results / "smoke" / KEY / "notebook.html").is_file()
    assert (graph.results / "smoke" / "index.html").is_file()
    wait_for(lambda: queue() == [], "an empty queue")

    local = Graph(tmp_path / "local", monkeypatch)
    alone = f"from duet.runs import Grid; grid = Grid({KEY!r}, 'smoke'); [grid.make(name) for name in grid.runs]"
    subprocess.run([sys.executable, "-c", alone], env={**os.environ, **launch.ENVIRONMENT}, check=True)
    made, expected = graph.records(), local.records()
    assert set(made) == set(expected) == set(runs)
    for name in runs:
        assert made[name]["id"] == expected[name]["id"] and made[name]["result"] == expected[name]["result"], name


def test_a_paper_run_asks_for_one_gpu(tmp_path, monkeypatch):
    graph = Graph(tmp_path / "paper", monkeypatch)
    files.write_text(graph.cache / "snakemake" / "paper" / KEY / "corpus.done", "\n")
    config = ["--config", "preset=paper", f"study={KEY}", f"corpus={tmp_path}/A data set"]
    # Jobs queue, and none starts.
    subprocess.run(["scontrol", "update", "PartitionName=gpu", "State=DOWN"], check=True)
    try:
        with graph.start("slurm", *HASTE, *config):
            jobs = wait_for(lambda: len(waiting := queue("%i", "PENDING") or []) == 2 and waiting, "two jobs")
            print(*queue(LISTING), sep="\n")
            for job in jobs:
                about = described(job)
                assert about["TresPerJob"] == "gres:gpu:1" and about["Comment"].startswith("rule_run")
        assert wait_for(lambda: queue() == [], "jobs cancelled by the interrupt", 30)
    finally:
        subprocess.run(["scontrol", "update", "PartitionName=gpu", "State=UP"], check=True)

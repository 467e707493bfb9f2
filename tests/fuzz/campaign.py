"""Cases in child processes with limits on memory and time, and the log of how each ended."""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from duet import files, paths
from duet.errors import DuetError

from . import page
from .damage import damage
from .formats import FORMATS, Format

LOG = paths.ROOT / "results" / "reliability.json"
VERSION = 1  # raise it when a number stands for another case
BATCH = 100  # cases of one child
MEMORY = 3 << 30  # bytes that a case may take more than the child has when it begins
SECONDS = 20  # of calculation that a case may take
PATIENCE = 60  # times as long by the clock: other work may share the machine
LINE = 600  # characters of an error besides the file's name
_NOBODY = 65534

# -- one case ----------------------------------------------------------------------------------------------------------


class Place:
    """The whole files of a format, copied once for a child, and one case after the other in them."""

    def __init__(self, name: str, planted: Path, targets: Sequence[str], folder: Path):
        self.name, self.format, self.planted, self.folder = name, FORMATS[name], planted, folder
        self.targets, self.last = targets, None
        shutil.copytree(planted, folder)

    def prepare(self, case: int) -> tuple[Path, str]:
        """Damage a file; which one, and what stands in its place: "file", "folder", "nothing" or "locked"."""
        if self.last is not None:
            self._clear(self.last)
            shutil.copy2(self.planted / self.last, self.folder / self.last)
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), VERSION, case])
        self.last = self.targets[rng.integers(len(self.targets))]
        path, dice = self.folder / self.last, rng.random()
        kind = "folder" if dice < 0.005 else "nothing" if dice < 0.01 else "locked" if dice < 0.015 else "file"
        if kind in ("folder", "nothing"):
            path.unlink()
        if kind == "folder":
            path.mkdir()
        if kind == "locked":
            path.chmod(0)
        if kind == "file":
            path.write_bytes(damage(path.read_bytes(), self.format.kind, rng))
        return path, kind

    def _clear(self, name: str) -> None:
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


def outcome(format_: Format, folder: Path, path: Path, deep: bool) -> str:
    """ "read", "refused", or what is wrong with how it ended."""
    refused = False
    for reader in (*format_.readers, *(format_.deep if deep else ())):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader(folder, path)
        except DuetError as error:
            refused = True
            if error.path is None:
                return f"{reader.__name__}: an error that names no file: {error.problem[:60]}"
            if len(str(error)) > LINE + len(str(error.path)):
                return f"{reader.__name__}: an error of more than {LINE} characters"
        except BaseException as error:  # that is what is looked for
            return f"{reader.__name__}: {_told(error)}"
    return "refused" if refused else "read"


def _told(error: BaseException) -> str:
    """Type, and the last line of the library that it went through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/lib/duet/" in f.filename]
    where = f" in {frames[-1].filename.split('/lib/')[1]}, {frames[-1].name}" if frames else ""
    return f"{type(error).__name__}{where}"


def _child(place: Place, cases: Sequence[int], deep: bool, pipe: int) -> None:
    with open("/proc/self/statm") as handle:
        limit = int(handle.read().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # whole files are read, and what readers import at their first call is there before files are locked
    how = outcome(place.format, place.folder, place.folder / place.targets[0], False)
    assert how == "read", f"{place.name}, undamaged: {how}"
    for case in cases:
        path, kind = place.prepare(case)
        os.write(pipe, f"{case}\n".encode())
        started = time.process_time()
        if kind == "locked" and os.getuid() == 0:
            os.seteuid(_NOBODY)
        try:
            how = outcome(place.format, place.folder, path, deep and (case % 5 == 0 or not place.format.readers))
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
        spent = time.process_time() - started
        if spent > SECONDS:
            how = f"took {spent:.0f} s"
        os.write(pipe, f"{case} {how}\n".encode())


# -- many cases --------------------------------------------------------------------------------------------------------


def plant(name: str, folder: Path) -> list[str]:
    """Write a format's whole files, and see that its readers read them; names of those to damage."""
    folder.mkdir(parents=True)
    targets = [str(path.relative_to(folder)) for path in FORMATS[name].plant(folder)]
    return sorted(targets)


def run(
    name: str, cases: Sequence[int], planted: Path, targets: Sequence[str], deep: bool
) -> Iterator[tuple[int, str]]:
    """(case, how it ended) one after the other; a child that dies or hangs ends one case, the next goes on."""
    cases = list(cases)
    while cases:
        with tempfile.TemporaryDirectory(prefix="duet-fuzz-") as scratch:
            os.chmod(scratch, 0o755)
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                status = 1
                try:
                    os.close(reading)
                    os.setpgid(0, 0)
                    sink = os.open(os.devnull, os.O_RDWR)
                    for stream in (0, 1):
                        os.dup2(sink, stream)
                    os.dup2(os.open(f"{scratch}/stderr", os.O_CREAT | os.O_WRONLY), 2)
                    tempfile.tempdir = scratch
                    _child(Place(name, planted, targets, Path(scratch) / "tree"), cases[:BATCH], deep, writing)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            os.close(writing)
            try:
                for case, how in _watched(child, reading, f"{scratch}/stderr"):
                    cases.remove(case)
                    yield case, how
            finally:
                os.close(reading)


def _watched(child: int, pipe: int, errors: str) -> Iterator[tuple[int, str]]:
    begun, since, spent, held = None, time.monotonic(), 0.0, b""
    while True:
        ready, _, _ = select.select([pipe], [], [], 1)
        data = os.read(pipe, 65536) if ready else None
        if data:
            held += data
            *lines, held = held.split(b"\n")
            for line in lines:
                number, _, how = line.decode().partition(" ")
                if how:
                    begun = None
                    yield int(number), how
                else:
                    begun, since, spent = int(number), time.monotonic(), _cpu(child)
        elif data == b"":  # it has ended
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if begun is not None:
                yield begun, _ended(status)
            elif status:
                raise RuntimeError(
                    f"the child ended with {status} between two cases: {Path(errors).read_text()[-3000:]}"
                )
            return
        elif begun is not None:
            waited = time.monotonic() - since
            if _cpu(child) - spent > 2 * SECONDS or waited > PATIENCE * SECONDS:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                yield begun, f"did not end within {2 * SECONDS} s"
                return


def _ended(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"


def _cpu(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- the log -----------------------------------------------------------------------------------------------------------


def read_log(path: Path) -> dict:
    return files.read_json(path) if path.exists() else {"version": VERSION, "formats": {}, "interruptions": {}}


def save(log: Path, content: dict) -> None:
    """The log and, where it is the project's, the page."""
    files.write_json(log, content)
    if log == LOG:
        page.write(content)


def campaign(names: Sequence[str], count: int | None, log: Path, deep: bool, echo=print) -> dict:
    """Try what the log has not tried yet, ``count`` cases of each format (none: as many as it is to have).

    Cases that ended badly before come first, again: what ends well now is fixed.  A fault is a way of ending, whatever
    the number of cases that end so.  The log is written after each batch.
    """
    content = read_log(log)
    if content["version"] != VERSION:
        again = {name: {**own, "tried": 0, "read": 0, "refused": 0} for name, own in content["formats"].items()}
        content = {**content, "version": VERSION, "formats": again}
    with tempfile.TemporaryDirectory(prefix="duet-seeds-") as place:
        os.chmod(place, 0o755)
        for name in names:
            if not (FORMATS[name].readers or (deep and FORMATS[name].deep)):
                continue
            own = content["formats"].setdefault(name, {"tried": 0, "read": 0, "refused": 0, "faults": []})
            planted = Path(place) / name.replace(" ", "-")
            targets = plant(name, planted)
            run_ = lambda cases: run(name, cases, planted, targets, deep)  # noqa: B023, E731
            again = sorted({case for fault in own["faults"] for case in fault["cases"] if not fault["fixed"]})
            ends = dict(run_(again))
            for fault in own["faults"]:
                fault["fixed"] = fault["fixed"] or all(ends[c] in ("read", "refused") for c in fault["cases"])
            wanted = FORMATS[name].cases if count is None else count
            while own["tried"] < wanted:
                batch = range(own["tried"], min(wanted, own["tried"] + BATCH))
                for case, how in run_(batch):
                    _enter(own, case, how)
                own["tried"] = batch.stop
                save(log, content)
            save(log, content)
            open_ = [fault for fault in own["faults"] if not fault["fixed"]]
            echo(f"{name}: {own['tried']} tried, {own['read']} read, {own['refused']} refused, {len(open_)} faults")
            for fault in open_:
                echo(f"    {fault['what']}: cases {', '.join(map(str, fault['cases']))}")
    return content


def _enter(own: dict, case: int, how: str) -> None:
    if how in ("read", "refused"):
        own[how] += 1
        return
    fault = next((f for f in own["faults"] if f["what"] == how and not f["fixed"]), None)
    if fault is None:
        fault = {"what": how, "cases": [], "count": 0, "fixed": False}
        own["faults"].append(fault)
    fault["count"] += 1
    fault["cases"] = (fault["cases"] + [case])[:5]


def show(name: str, case: int, deep: bool) -> int:
    """One case in this process, its damaged file kept: for who looks into a fault."""
    folder = Path(tempfile.mkdtemp(prefix=f"duet-case-{case}-"))
    planted = folder / "whole"
    targets = plant(name, planted)
    place = Place(name, planted, targets, folder / "tree")
    path, kind = place.prepare(case)
    print(f"{kind}: {path}")
    for reader in (*FORMATS[name].readers, *(FORMATS[name].deep if deep else ())):
        try:
            reader(place.folder, path)
            print(f"{reader.__name__}: read")
        except DuetError as error:
            print(f"{reader.__name__}: {error}")
        except BaseException:
            traceback.print_exc()
    return 0

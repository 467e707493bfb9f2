"""Fetching open scores: from a server on this machine that also fails in every way, by tiny manifests."""

import csv
import http.server
import io
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from duet import paths
from duet.corpora import openscores
from duet.corpora.openscores import Origin, Source, check, fetch, require
from duet.errors import DuetError
from duet.files import git_blob_id

SONGS = {"scores/A,_B/Lied_ä/1.mxl": b"one" * 50, "scores/C/2.mxl": b"two" * 70, "scores/C/3.mxl": b"three" * 20}
LISTS = {"splits/all.yaml": b"train: [a]\n", "splits/größe.yaml": b"test: [b]\n"}
ARCHIVE, FILE = "/some/songs/zip/abc1234", "/some/lists/def5678/splits/"


def archive(members, top="songs-abc1234/", extra=()):
    """A zip as a host makes it of a commit: one top folder, and files that nobody asked for."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in [("README.md", b"hello"), *members.items()]:
            packed.writestr(top + name, data)
        for name, data in extra:
            packed.writestr(name, data)
    return content.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``pages``; a page is content, or a function of the request that answers as it likes."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages, self.asked, self.closing = {}, [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        pass  # clients hang up on purpose here


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        page = self.server.pages.get(self.path)
        if page is None:
            self.send_error(404)
        elif callable(page):
            page(self)
        else:
            self.answer(page)

    def answer(self, content, length=None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        server.pages = {ARCHIVE: archive(SONGS), FILE + "all.yaml": LISTS["splits/all.yaml"],
                        FILE + "gr%C3%B6%C3%9Fe.yaml": LISTS["splits/größe.yaml"]}
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


def write_manifest(path):
    with open(path, "w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(("origin", "path", "local", "blob", "size"))
        for name, data in SONGS.items():
            rows.writerow(("songs", name, "", git_blob_id(data), len(data)))
        # One content can be wanted in two places.
        rows.writerow(("songs", "again.mxl", "copy.mxl", git_blob_id(b"two" * 70), 210))
        for name, data in LISTS.items():
            rows.writerow(("yaml", name, Path(name).name, git_blob_id(data), len(data)))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder of a user without a copy, and sources of a few bytes."""
    write_manifest(tmp_path / "manifest.csv")
    monkeypatch.delenv("DUET_SCORES", raising=False)
    monkeypatch.delenv("DUET_LISTS", raising=False)
    monkeypatch.setattr(paths, "ROOT", tmp_path / "home")
    monkeypatch.setattr(openscores, "MANIFEST", tmp_path / "manifest.csv")
    monkeypatch.setattr(openscores, "TIMEOUT", (1, 0.4))
    monkeypatch.setattr(openscores, "SOURCES", {
        "songs": Source("songs", "song_folder", "CC0", {"songs": Origin("some/songs", "abc1234")}),
        "lists": Source("lists", "", "MIT", {"yaml": Origin("some/lists", "def5678", archive=False)}),
    })
    return tmp_path / "home"


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


WHOLE_SONGS = {**SONGS, "copy.mxl": b"two" * 70}
WHOLE_LISTS = {Path(name).name: data for name, data in LISTS.items()}


def failure(server, keys):
    with pytest.raises(DuetError) as caught:
        fetch(keys, base_url=server.url, progress=False)
    message = str(caught.value)
    assert "\n" not in message and "make corpora" in message
    assert not list(paths.ROOT.rglob(".*")), "nothing unfinished stays"
    return message


# --- what works -----------------------------------------------------------------------------------------------------

def test_fetch_brings_archives_and_single_files(server, home):
    fetch(base_url=server.url + "/", progress=False)
    assert tree(paths.scores()) == {f"song_folder/{name}": data for name, data in WHOLE_SONGS.items()}
    assert tree(paths.lists()) == WHOLE_LISTS
    assert require("songs") == paths.scores() / "song_folder" and require("lists") == paths.lists()
    assert check("songs") == check("lists") == []


def test_what_is_there_is_not_fetched_again(server, home):
    fetch(base_url=server.url, progress=False)
    first = len(server.asked)
    fetch(base_url=server.url, progress=False)
    assert len(server.asked) == first == 3


def test_a_lost_and_a_changed_file_are_fetched_alone(server, home):
    fetch(base_url=server.url, progress=False)
    (paths.lists() / "all.yaml").write_bytes(b"train: [z]\n")  # as long as the right one
    (paths.scores() / "song_folder/copy.mxl").unlink()
    kept = paths.scores() / "song_folder/scores/C/3.mxl"
    before = kept.stat().st_mtime_ns
    assert check("lists") == [paths.lists() / "all.yaml"]
    server.asked.clear()
    fetch(base_url=server.url, progress=False)
    assert server.asked == [ARCHIVE, FILE + "all.yaml"]
    assert check("songs") == check("lists") == []
    assert kept.stat().st_mtime_ns == before


def test_names_in_the_archive_do_not_matter(server, home):
    server.pages[ARCHIVE] = archive({f"moved/{i}": data for i, data in enumerate(SONGS.values())}, top="other-name/")
    fetch(["songs"], base_url=server.url, progress=False)
    assert tree(paths.scores() / "song_folder") == WHOLE_SONGS


def test_progress_is_told_on_stderr(server, home, capsys):
    fetch(["songs"], base_url=server.url, progress=True)
    assert "songs: 100%" in capsys.readouterr().err
    fetch(["lists"], base_url=server.url)  # not a terminal: silent
    assert capsys.readouterr().err == ""


# --- what fails: one line, and what was there stays -----------------------------------------------------------------

def stall(request):
    request.answer(b"tr", length=11)
    request.wfile.flush()
    request.server.closing.wait(10)


def drip(request):
    """Chunk by chunk for ever: never silent for as long as a time-out."""
    request.send_response(200)
    request.send_header("Content-Length", "100000")
    request.end_headers()
    while not request.server.closing.wait(0.1):
        request.wfile.write(b"x")
        request.wfile.flush()


def flood(request):
    request.answer(b"x" * 1000)


def redirect(request):
    request.send_response(302)
    request.send_header("Location", f"{request.server.url}/elsewhere")
    request.end_headers()


def page_of_errors(request):
    request.send_error(503)


@pytest.mark.parametrize(("page", "word"), [
    (b"train: [b]\n", "wrong checksum"),
    (b"short", "wrong checksum"),
    (None, "404"),
    (page_of_errors, "503"),
    (redirect, "elsewhere"),
    (stall, "stopped sending"),
    (lambda request: request.answer(b"tr", length=11), "broke off"),
    (flood, "larger"),
    (lambda request: None, "no connection"),
])
def test_a_bad_answer_for_a_file(server, home, page, word):
    server.pages["/elsewhere"] = LISTS["splits/all.yaml"]  # even the right content, from where nobody asked
    good, server.pages[FILE + "all.yaml"] = server.pages[FILE + "all.yaml"], page
    paths.lists().mkdir(parents=True)
    (paths.lists() / "all.yaml").write_bytes(b"my own")
    message = failure(server, ["lists"])
    assert word in message and message.startswith(str(paths.lists() / "all.yaml")) and server.url in message
    assert tree(paths.lists()) == {"all.yaml": b"my own"}
    assert "/elsewhere" not in server.asked

    server.pages[FILE + "all.yaml"] = good
    fetch(["lists"], base_url=server.url, progress=False)
    assert tree(paths.lists()) == WHOLE_LISTS


def corrupt(content):
    """Damage inside a member's packed bytes: the directory at the end still reads."""
    at = content.index(b"1.mxl") + len(b"1.mxl") + 4
    return content[:at] + b"\xff\xff\xff" + content[at + 3:]


@pytest.mark.parametrize(("page", "word"), [
    (archive(SONGS)[:-60], "arrived damaged"),
    (b"", "arrived damaged"),
    (b"<html>sign in</html>", "arrived damaged"),
    (corrupt(archive(SONGS)), "arrived damaged"),
    (archive(SONGS, extra=[("../../evil.txt", b"x")]), None),
    (archive({}, extra=[("../../evil.txt", b"x"), *SONGS.items()]), "points outside"),
    (archive({**SONGS, "scores/C/3.mxl": b"THREE" * 20}), "wrong checksum"),
    (archive({"scores/C/2.mxl": b"two" * 70}), "missing in the archive"),
    (None, "404"),
    (redirect, "elsewhere"),
    (stall, "stopped sending"),
    (lambda request: request.answer(archive(SONGS)[:200], length=500), "broke off"),
])
def test_a_bad_answer_for_an_archive(server, home, page, word):
    folder = paths.scores() / "song_folder"
    folder.mkdir(parents=True)
    (folder / "copy.mxl").write_bytes(b"my own")
    server.pages[ARCHIVE] = page
    if word:
        message = failure(server, ["songs"])
        assert word in message and "zip/abc1234" in message and message.startswith(str(folder))
        assert not list(home.parent.rglob("evil.txt"))
        for name, data in tree(folder).items():  # whole files or none
            assert data in (WHOLE_SONGS[name], b"my own")
        server.pages[ARCHIVE] = archive(SONGS)
    fetch(["songs"], base_url=server.url, progress=False)
    assert tree(folder) == WHOLE_SONGS


def test_a_drip_of_bytes_ends_at_the_limit(server, home, monkeypatch):
    monkeypatch.setattr(openscores, "LIMIT", 0.5)
    server.pages[ARCHIVE] = drip
    started = time.monotonic()
    assert "more than 0.5 s" in failure(server, ["songs"])
    assert time.monotonic() - started < 5


def test_no_server(server, home):
    server.url = "http://127.0.0.1:9"
    assert "no connection" in failure(server, ["lists"])


def test_an_archive_larger_than_reason_is_not_stored(server, home, monkeypatch):
    monkeypatch.setattr(openscores, "MOST", 100)
    assert "larger" in failure(server, ["songs"])


def test_a_folder_in_the_way(server, home):
    (paths.lists() / "all.yaml").mkdir(parents=True)
    with pytest.raises(DuetError, match="all.yaml: could not be written.*move away"):
        fetch(["lists"], base_url=server.url, progress=False)


def test_files_that_came_before_a_failure_stay(server, home):
    del server.pages[FILE + "gr%C3%B6%C3%9Fe.yaml"]
    failure(server, ["lists"])
    assert tree(paths.lists()) == {"all.yaml": LISTS["splits/all.yaml"]}
    server.asked.clear()
    server.pages[FILE + "gr%C3%B6%C3%9Fe.yaml"] = LISTS["splits/größe.yaml"]
    fetch(["lists"], base_url=server.url, progress=False)
    assert server.asked == [FILE + "gr%C3%B6%C3%9Fe.yaml"]


def test_two_at_once(server, home):
    with openscores._workplace(paths.lists()), pytest.raises(DuetError, match="another `make corpora`"):
        fetch(["lists"], base_url=server.url, progress=False)


CHILD = """
import sys
from pathlib import Path
from duet import paths
from duet.corpora import openscores as o
paths.ROOT, o.MANIFEST = Path(sys.argv[1]), Path(sys.argv[2])
o.SOURCES = {"songs": o.Source("songs", "song_folder", "CC0", {"songs": o.Origin("some/songs", "abc1234")})}
o.fetch(base_url=sys.argv[3], progress=False)
"""


def test_killed_while_downloading(server, home):
    def half(request):
        request.answer(archive(SONGS)[:100], length=500)
        request.wfile.flush()
        request.server.closing.wait(20)

    server.pages[ARCHIVE] = half
    environment = {name: value for name, value in os.environ.items() if name not in ("DUET_SCORES", "DUET_LISTS")}
    environment["PYTHONPATH"] = str(Path(openscores.__file__).parents[2])
    child = subprocess.Popen([sys.executable, "-c", CHILD, home, openscores.MANIFEST, server.url], env=environment)
    try:
        until = time.monotonic() + 20
        while not list(home.rglob("*tmp-*")) and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert list(home.rglob("*tmp-*")), "killed too early to tell"
    assert not (paths.scores() / "song_folder").exists()

    server.pages[ARCHIVE] = archive(SONGS)
    fetch(["songs"], base_url=server.url, progress=False)
    assert tree(paths.scores()) == {f"song_folder/{name}": data for name, data in WHOLE_SONGS.items()}


# --- asking for a source --------------------------------------------------------------------------------------------

def test_require_says_what_to_do(home):
    with pytest.raises(DuetError, match=r"1\.mxl: is missing and 3 more of songs \(songs\).*make corpora.*DUET_SCORES"):
        require("songs")


def test_unknown_key(server, home):
    for ask in (require, check, lambda key: fetch(["lists", key], base_url=server.url)):
        with pytest.raises(DuetError, match="unknown source of scores 'nosuch'.*choose from songs, lists"):
            ask("nosuch")
    assert server.asked == []


def test_a_copy_is_verified_and_never_changed(server, home, tmp_path, monkeypatch):
    fetch(base_url=server.url, progress=False)
    monkeypatch.setenv("DUET_SCORES", str(paths.scores()))
    monkeypatch.setattr(paths, "ROOT", tmp_path / "another home")
    server.asked.clear()
    fetch(base_url=server.url)
    assert require("songs").is_dir() and require("lists").is_dir() and server.asked == []

    damaged = paths.scores() / "song_folder/copy.mxl"
    damaged.write_bytes(b"TWO" * 70)
    with pytest.raises(DuetError, match="copy.mxl: is not the published file.*DUET_SCORES"):
        fetch(base_url=server.url)
    assert damaged.read_bytes() == b"TWO" * 70 and server.asked == []


def test_a_copy_of_the_lists_alone(server, home, tmp_path, monkeypatch):
    monkeypatch.setenv("DUET_LISTS", str(tmp_path / "mine"))
    with pytest.raises(DuetError, match="DUET_LISTS"):
        fetch(["lists"], base_url=server.url)
    fetch(["songs"], base_url=server.url, progress=False)
    assert require("songs")


# --- the manifest of the package ------------------------------------------------------------------------------------

def test_every_row_belongs_to_a_source_and_stays_in_its_folder():
    seen = set()
    for key, count in {"rism": 3697, "lieder": 1460, "quartets": 122, "mutopia": 536, "polish_kern": 681,
                       "lists": 23}.items():
        rows = openscores._rows(key)
        assert len(rows) == len({row.local for row in rows}) == count
        assert all(not Path(row.local).is_absolute() and ".." not in Path(row.local).parts for row in rows)
        assert all(len(row.blob) == 40 and row.size > 0 for row in rows)
        seen |= {row.origin for row in rows}
    with open(openscores.MANIFEST, newline="", encoding="utf-8") as handle:
        assert {row["origin"] for row in csv.DictReader(handle)} == seen
    assert set(openscores.SOURCES) == {"rism", "lieder", "quartets", "mutopia", "polish_kern", "lists"}


@pytest.mark.parametrize("key", ["rism", "lists"])
def test_the_copy_at_hand_is_what_was_published(key):
    if not os.environ.get("DUET_SCORES") or not openscores._folder(key).is_dir():
        pytest.skip("DUET_SCORES names no copy here")
    assert check(key) == []
    assert require(key).is_dir()

"""Fetching open scores: from a server on this machine that also fails in every way, by tiny manifests."""

import csv
import http.server
import io
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
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
        server.pages = {
            ARCHIVE: archive(SONGS),
            FILE + "all.yaml": LISTS["splits/all.yaml"],
            FILE + "gr%C3%B6%C3%9Fe.yaml": LISTS["splits/größe.yaml"],
        }
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
    monkeypatch.setattr(
        openscores,
        "SOURCES",
        {
            "songs": Source("songs", "song_folder", "CC0", {"songs": Origin("some/songs", "abc1234")}),
            "lists": Source("lists", "", "MIT", {"yaml": Origin("some/lists", "def5678", archive=False)}),
        },
    )
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


def redirect_to(where):
    def answer(request):
        request.send_response(302)
        request.send_header("Location", where.format(url=request.server.url, port=request.server.server_port))
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


redirect = redirect_to("{url}/elsewhere")


def silence(request):
    request.server.closing.wait(10)


def drip_of_headers(request):
    """A header that never ends, byte by byte."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not request.server.closing.wait(0.1):
        request.wfile.write(b"x")
        request.wfile.flush()


def page_of_errors(request):
    request.send_error(503)


@pytest.mark.parametrize(
    ("page", "word"),
    [
        (b"train: [b]\n", "wrong checksum"),
        (b"short", "wrong checksum"),
        (None, "404"),
        (page_of_errors, "503"),
        (redirect, "elsewhere"),
        (redirect_to("http://localhost:{port}/elsewhere"), "elsewhere"),
        (redirect_to("file:///etc/hostname"), "points elsewhere, to file:"),
        (stall, "stopped sending"),
        (silence, "did not answer"),
        (lambda request: request.answer(b"tr", length=11), "broke off"),
        (flood, "larger"),
        (lambda request: None, "no connection"),
    ],
)
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
    return content[:at] + b"\xff\xff\xff" + content[at + 3 :]


@pytest.mark.parametrize(
    ("page", "word"),
    [
        (archive(SONGS)[:-60], "arrived damaged"),
        (b"", "arrived damaged"),
        (b"<html>sign in</html>", "arrived damaged"),
        (archive(SONGS)[100:], "arrived damaged"),
        (corrupt(archive(SONGS)), "arrived damaged"),
        (archive(SONGS, extra=[("../../evil.txt", b"x")]), None),
        (archive({}, extra=[("../../evil.txt", b"x"), *SONGS.items()]), "points outside"),
        (archive({**SONGS, "scores/C/3.mxl": b"THREE" * 20}), "wrong checksum"),
        (archive({"scores/C/2.mxl": b"two" * 70}), "missing in the archive"),
        (None, "404"),
        (redirect, "elsewhere"),
        (stall, "stopped sending"),
        (lambda request: request.answer(archive(SONGS)[:200], length=500), "broke off"),
    ],
)
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


@pytest.mark.parametrize("page", [drip, drip_of_headers])
def test_a_drip_of_bytes_ends_at_the_limit(server, home, monkeypatch, page):
    monkeypatch.setattr(openscores, "LIMIT", 0.5)
    server.pages[ARCHIVE] = page
    started = time.monotonic()
    assert "more than 0.5 s" in failure(server, ["songs"])
    assert time.monotonic() - started < 5


# --- archives that mean harm ----------------------------------------------------------------------------------------


def hostile(names, kind=0):
    """The songs, behind members of the given names and, in their attributes, of a kind of file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            member = zipfile.ZipInfo(name)
            member.external_attr = (kind | 0o777) << 16
            packed.writestr(member, b"/etc")
        for name, data in SONGS.items():
            packed.writestr(f"songs-abc1234/{name}", data)
    return content.getvalue()


@pytest.mark.parametrize("name", ["/evil.txt", "../evil.txt", "a/../../evil.txt", "C:/evil.txt", "..\\evil.txt"])
def test_members_that_point_outside_are_refused(server, home, name):
    server.pages[ARCHIVE] = hostile([name])
    assert "points outside" in failure(server, ["songs"])
    assert not list(home.parent.rglob("evil*")) and not Path("/evil.txt").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_never_made(server, home, kind):
    """A link in the place of a folder would lead what follows it out of the corpus."""
    server.pages[ARCHIVE] = hostile(["songs-abc1234/scores", "scores", "songs-abc1234/scores/C"], kind)
    fetch(["songs"], base_url=server.url, progress=False)
    folder = paths.scores() / "song_folder"
    assert tree(folder) == WHOLE_SONGS
    assert all(path.is_dir() or stat.S_ISREG(path.lstat().st_mode) for path in folder.rglob("*"))


def test_of_members_of_one_name_the_right_one_is_taken(server, home):
    twice = [(f"songs-abc1234/{name}", b"x" * len(data)) for name, data in SONGS.items()]
    with pytest.warns(UserWarning, match="Duplicate name"):
        server.pages[ARCHIVE] = archive(SONGS, extra=twice)
        before = archive(dict(twice), top="", extra=[(f"songs-abc1234/{n}", d) for n, d in SONGS.items()])
    for page in (server.pages[ARCHIVE], before):
        server.pages[ARCHIVE] = page
        fetch(["songs"], base_url=server.url, progress=False)
        assert tree(paths.scores() / "song_folder") == WHOLE_SONGS
        (paths.scores() / "song_folder/scores/C/2.mxl").unlink()


def announced(content, size):
    """Every member's announced size set to ``size``, in both of the places where a zip has it."""
    content = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.find(mark)
        while at >= 0:
            content[at + offset : at + offset + 4] = struct.pack("<I", size)
            at = content.find(mark, at + 4)
    return bytes(content)


@pytest.mark.parametrize("lie", [False, True])
def test_a_bomb_is_not_unpacked(server, home, lie):
    """64 MB in 64 kB, as announced, or said to be as long as a song."""
    bomb = archive({"bomb.mxl": bytes(64 << 20)})
    server.pages[ARCHIVE] = announced(bomb, 100) if lie else bomb
    tracemalloc.start()
    try:
        message = failure(server, ["songs"])
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert ("damaged" if lie else "missing in the archive") in message


def test_archives_damaged_anywhere(server, home):
    """Fifty of them: a whole tree or one line, and never another content."""
    rng, good = random.Random(7), archive(SONGS)
    for _ in range(50):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        server.pages[ARCHIVE] = bytes(bad[: rng.choice((len(bad), rng.randrange(len(bad))))])
        try:
            fetch(["songs"], base_url=server.url, progress=False)
        except DuetError as error:
            assert "\n" not in str(error)
        folder = paths.scores() / "song_folder"
        for name, data in tree(folder).items() if folder.exists() else ():
            assert data == WHOLE_SONGS[name]
        shutil.rmtree(folder, ignore_errors=True)


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


def start_child(server, home, code=CHILD):
    environment = {name: value for name, value in os.environ.items() if name not in ("DUET_SCORES", "DUET_LISTS")}
    environment["PYTHONPATH"] = str(Path(openscores.__file__).parents[2])
    return subprocess.Popen([sys.executable, "-c", code, home, openscores.MANIFEST, server.url], env=environment)


DYING = """
import os, signal
def place(*arguments, one=o._place, placed=[]):
    if placed:
        os.kill(os.getpid(), signal.SIGKILL)
    placed.append(one(*arguments))
o._place = place
"""


def test_killed_while_unpacking(server, home):
    """What is whole stays, and the archive, which is complete, is not fetched again."""
    assert start_child(server, home, CHILD.replace("o.fetch", f"{DYING}o.fetch")).wait(60) == -signal.SIGKILL
    folder = paths.scores() / "song_folder"
    there = tree(folder)
    assert len(there) == 1 and there.items() <= WHOLE_SONGS.items()
    kept = next(path for path in folder.rglob("*") if path.is_file())
    before = kept.stat().st_mtime_ns
    fetch(["songs"], base_url=server.url, progress=False)
    assert server.asked == [ARCHIVE] and kept.stat().st_mtime_ns == before
    assert tree(paths.scores()) == {f"song_folder/{name}": data for name, data in WHOLE_SONGS.items()}


def test_an_archive_left_behind_damaged_is_fetched_again(server, home):
    left = paths.scores() / ".downloads/some-songs-abc1234.zip"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of it")
    assert "arrived damaged" in failure(server, ["songs"])
    fetch(["songs"], base_url=server.url, progress=False)
    assert tree(paths.scores() / "song_folder") == WHOLE_SONGS


def test_killed_while_downloading(server, home):
    def half(request):
        request.answer(archive(SONGS)[:100], length=500)
        request.wfile.flush()
        request.server.closing.wait(20)

    server.pages[ARCHIVE] = half
    child = start_child(server, home)
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
    for key, count in {
        "rism": 3697,
        "lieder": 1460,
        "quartets": 122,
        "mutopia": 536,
        "polish_kern": 681,
        "lists": 23,
    }.items():
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

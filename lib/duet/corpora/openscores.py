"""Open scores and published lists: fetched once from pinned public commits, every file checked.

========== ====== ============================================================ =====================
key        files  what, and where from                                         licence
========== ====== ============================================================ =====================
rism        3,697 MARCXML records with incipits in Plaine & Easie: 3,696 of    CC BY 3.0
                  pl-wnifc/nifc-rism-records, 1,000 more in one file of
                  rism-digital/muscat
lieder      1,460 songs, MusicXML, of OpenScore/Lieder                         CC0
quartets      122 string quartets, MusicXML, of OpenScore/StringQuartets       CC0
mutopia       536 LilyPond sources of the 467 pieces of MSMD, of               public domain, CC BY
                  MutopiaProject/MutopiaProject                                or CC BY-SA, by piece
polish_kern   681 piano music, Humdrum kern, of                                CC BY 4.0
                  pl-wnifc/humdrum-polish-scores
lists          23 splits of MSMD (CPJKU/msmd) and of the passage study         NC-SA (MSMD), MIT
                  (luisfvc/lcasr), vocabularies of PrIMuS                      (lcasr, smc-2022), as
                  (OMR-Research/tf-end-to-end), the ids and five folds of the  published (the
                  transfer-learning study (mariaalfaroc/smc-2022)              vocabularies)
========== ====== ============================================================ =====================

``make corpora`` calls :func:`fetch`, the only function here that uses the network.  Where ``DUET_SCORES`` (for the
lists also ``DUET_LISTS``) names somebody's copy, fetch verifies that copy and downloads nothing.  Studies call
:func:`require`.  ``openscores.csv`` beside this module holds a row per file: its path in its repository, its local
path where that is another one, the id under which git stores its content, its size.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import os
import shutil
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pooch
import requests
from tqdm import tqdm

from .. import files, paths
from ..errors import DuetError

MANIFEST = Path(__file__).with_name("openscores.csv")
ARCHIVES, FILES = "https://codeload.github.com", "https://raw.githubusercontent.com"

TIMEOUT = (15, 60)  # seconds to connect, seconds without a byte
LIMIT = 3600  # seconds for one download altogether, however steadily it drips
MOST = 4 << 30  # bytes of an archive; the largest here has a fraction of it

REMEDY = "run `make corpora`, or set DUET_SCORES to a copy"
AGAIN = "run `make corpora` again later, it goes on where it stopped, or set DUET_SCORES to a copy"


@dataclass(frozen=True)
class Origin:
    """A repository at a commit; an abbreviated id is as good as a full one, since content is checked file by file.

    ``archive``: one zip of the whole commit, where most of the repository is wanted, instead of one request per file.
    """

    repository: str
    commit: str
    archive: bool = True


@dataclass(frozen=True)
class Source:
    """What one key stands for: a folder of the open scores, or (``folder`` empty) that of the lists."""

    title: str
    folder: str
    licence: str
    origins: dict[str, Origin]  # by the name that the manifest calls them


SOURCES = {
    "rism": Source(
        "RISM records with incipits",
        "rism_marcxml",
        "CC BY 3.0",
        {
            "nifc": Origin("pl-wnifc/nifc-rism-records", "a65c43bd75128bd1085ed78e3e42a897d5603396"),
            "muscat": Origin("rism-digital/muscat", "83d58685", archive=False),
        },
    ),
    "lieder": Source(
        "OpenScore Lieder",
        "openscore_lieder",
        "CC0 1.0",
        {
            "lieder": Origin("OpenScore/Lieder", "bca12245"),
        },
    ),
    # File by file: the archive also has some 600 PDF files of parts, many times the size of the scores.
    "quartets": Source(
        "OpenScore String Quartets",
        "openscore_stringquartets",
        "CC0 1.0",
        {
            "quartets": Origin("OpenScore/StringQuartets", "2c723a5", archive=False),
        },
    ),
    "mutopia": Source(
        "Mutopia's LilyPond sources of MSMD's pieces",
        "mutopia_msmd",
        "public domain, CC BY or CC BY-SA, stated in each file",
        {
            "mutopia": Origin("MutopiaProject/MutopiaProject", "2144afd6"),
        },
    ),
    "polish_kern": Source(
        "Polish piano music in Humdrum kern",
        "polish_scores_piano_kern",
        "CC BY 4.0",
        {
            "polish": Origin("pl-wnifc/humdrum-polish-scores", "c0403623c"),
        },
    ),
    "lists": Source(
        "published splits, folds and vocabularies",
        "",
        "each repository's own, see the module",
        {
            "msmd": Origin("CPJKU/msmd", "11b9981", archive=False),
            "lcasr": Origin("luisfvc/lcasr", "59578af22915a642227df8cb7e18f49cfbbc9da2", archive=False),
            "tf-end-to-end": Origin("OMR-Research/tf-end-to-end", "3c93cea", archive=False),
            "smc-2022": Origin("mariaalfaroc/smc-2022", "d23828c75f3d490d7e91ac295f4de1ead7e4b1dd"),
        },
    ),
}


class Row(NamedTuple):
    """A file of the manifest."""

    origin: str
    path: str  # in the repository
    local: str  # below the source's folder
    blob: str
    size: int


def fetch(keys: Iterable[str] | None = None, base_url: str | None = None, progress: bool | None = None) -> None:
    """Bring the named sources (default: all) here, whole and verified; what is there and right is not fetched again.

    A file appears only when its content has the right id, so a killed fetch leaves whole files, and the next one
    fetches the rest.  Every failure is one DuetError, and leaves what was there before.  ``base_url`` replaces both
    hosts, for a mirror: ``<base_url>/<repository>/zip/<commit>`` and ``<base_url>/<repository>/<commit>/<path>``.
    ``progress``: show it, or not, or (None) only in a terminal.
    """
    keys, base_url = list(SOURCES if keys is None else keys), base_url and base_url.rstrip("/")
    for key in keys:  # a misspelt key is told before the first download
        _source(key)
    disable = None if progress is None else not progress
    for key in keys:
        folder, rows = _folder(key), _wrong(key)
        if not rows:
            continue
        if variable := _copy(key):
            raise _not_whole(
                key,
                rows,
                f"{variable} names a copy, which is never changed: complete it, or unset "
                f"{variable} and run `make corpora`",
            )
        with _workplace(folder) as downloads, tqdm(total=len(rows), desc=key, unit="file", disable=disable) as bar:
            for name, origin in SOURCES[key].origins.items():
                wanted = [row for row in rows if row.origin == name]
                if wanted and origin.archive:
                    _fetch_archive(origin, wanted, folder, downloads, base_url or ARCHIVES, bar)
                elif wanted:
                    _fetch_files(origin, wanted, folder, downloads, base_url or FILES, bar)


def check(key: str) -> list[Path]:
    """The files of a source that are missing or have other content than published: none when all is well."""
    return [_folder(key) / row.local for row in _wrong(key)]


def require(key: str) -> Path:
    """The folder of a source; a DuetError that says what to do where it is not complete.

    Looks at presence and size only, in milliseconds; :func:`fetch` and :func:`check` look at content.
    """
    folder = _folder(key)
    missing = [row for row in _rows(key) if not _has_size(folder / row.local, row.size)]
    if missing:
        raise _not_whole(key, missing, REMEDY)
    return folder


def _source(key: str) -> Source:
    if key not in SOURCES:
        raise DuetError(f"unknown source of scores {key!r}", remedy=f"choose from {', '.join(SOURCES)}")
    return SOURCES[key]


def _folder(key: str) -> Path:
    source = _source(key)
    return paths.scores() / source.folder if source.folder else paths.lists()


def _copy(key: str) -> str:
    """The variable through which somebody's own copy of this source is in use, or ""."""
    if not SOURCES[key].folder and os.environ.get("DUET_LISTS"):
        return "DUET_LISTS"
    return "DUET_SCORES" if os.environ.get("DUET_SCORES") else ""


def _rows(key: str) -> list[Row]:
    origins = _source(key).origins
    with open(MANIFEST, newline="", encoding="utf-8") as handle:
        return [
            Row(row["origin"], row["path"], row["local"] or row["path"], row["blob"], int(row["size"]))
            for row in csv.DictReader(handle)
            if row["origin"] in origins
        ]


def _wrong(key: str) -> list[Row]:
    folder = _folder(key)
    return [row for row in _rows(key) if not _is_right(folder / row.local, row)]


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.is_file() and path.stat().st_size == size
    except OSError:
        return False


def _is_right(path: Path, row: Row) -> bool:
    try:
        return _has_size(path, row.size) and files.git_blob_id(path.read_bytes()) == row.blob
    except OSError:
        return False


def _not_whole(key: str, rows: list[Row], remedy: str) -> DuetError:
    first, source = _folder(key) / rows[0].local, SOURCES[key]
    state = "is not the published file" if first.exists() else "is missing"
    more = f" and {len(rows) - 1} more of {source.title} ({key})" if len(rows) > 1 else f", of {source.title} ({key})"
    return DuetError(state + more, path=first, remedy=remedy)


@contextlib.contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A hidden folder for what is not verified yet, for one process at a time; it is removed afterwards.

    It is beside the source's folder: on the same file system, so that a rename is atomic, and where no reader looks.
    After a kill the next fetch finds it, uses a complete archive in it, and removes the rest.
    """
    downloads = (folder if folder == paths.lists() else folder.parent) / ".downloads"
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        lock = open(downloads / "lock", "w")
    except OSError as error:
        raise DuetError(
            f"could not be written: {error.strerror}",
            path=downloads,
            remedy="make the folder writable, or set DUET_SCORES to a copy",
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the system when the process ends, however
        except BlockingIOError:
            raise DuetError("another `make corpora` is at work here", path=downloads, remedy="wait for it") from None
        try:
            yield downloads
        finally:
            shutil.rmtree(downloads, ignore_errors=True)


def _fetch_archive(origin: Origin, rows: list[Row], folder: Path, downloads: Path, base_url: str, bar: tqdm) -> None:
    url = f"{base_url}/{origin.repository}/zip/{origin.commit}"
    archive = downloads / f"{origin.repository.replace('/', '-')}-{origin.commit}.zip"
    if not archive.exists():
        with files.atomic(archive) as temporary, open(temporary, "wb") as handle:
            with tqdm(desc=origin.repository, unit="B", unit_scale=True, leave=False, disable=bar.disable) as received:
                _download(url, handle, MOST, folder, received)
    # Members are known by content, not by name: names in archives have encodings and top folders, content has an id.
    # One content can be wanted in two places.
    wanted: dict[str, list[Row]] = {}
    for row in rows:
        wanted.setdefault(row.blob, []).append(row)
    sizes, named, changed = {row.size for row in rows}, {row.path for row in rows}, set()
    try:
        for name, content in _members(archive, sizes):
            found = wanted.pop(files.git_blob_id(content), [])
            for row in found:
                _place(content, row, folder, downloads)
                bar.update()
            if not found and (path := name.partition("/")[2]) in named:
                changed.add(path)
            if not wanted:
                return
    except _Damaged as error:
        raise DuetError(f"the archive {url} arrived damaged: {error}", path=folder, remedy=AGAIN) from None
    row = next(iter(wanted.values()))[0]
    state = "has the wrong checksum" if row.path in changed else "is missing"
    raise DuetError(
        f"its published version {state} in the archive {url} ({row.path})", path=folder / row.local, remedy=AGAIN
    )


def _fetch_files(origin: Origin, rows: list[Row], folder: Path, downloads: Path, base_url: str, bar: tqdm) -> None:
    for row in rows:
        url = f"{base_url}/{origin.repository}/{origin.commit}/{quote(row.path)}"
        content = io.BytesIO()
        # A byte more than the right file has is enough to know that this is another one.
        _download(url, content, row.size, folder / row.local)
        if files.git_blob_id(content.getvalue()) != row.blob:
            raise DuetError(f"has the wrong checksum as downloaded from {url}", path=folder / row.local, remedy=AGAIN)
        _place(content.getvalue(), row, folder, downloads)
        bar.update()


def _members(archive: Path, sizes: set[int]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every member of a zip; b"" of one whose announced size is none of ``sizes``.

    No more is unpacked than a wanted file has, whatever the archive announces and holds, and nothing is written by a
    member's name.  Raises _Damaged, for a name that points outside too.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                files.check_member(archive, member.filename)
                content = b""
                if member.file_size in sizes and member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    with packed.open(member) as handle:
                        content = handle.read(member.file_size)
                yield member.filename, content
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, struct.error, zlib.error) as error:
        raise _Damaged(str(error)) from None
    except DuetError as error:
        raise _Damaged(error.problem) from None


class _Damaged(Exception):
    """An archive that cannot be read."""


def _place(content: bytes, row: Row, folder: Path, downloads: Path) -> None:
    """Write elsewhere, then rename: not even a temporary file is ever seen in a folder that readers list."""
    target, staged = folder / row.local, downloads / row.blob
    files.write_bytes(staged, content)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged, target)
    except OSError as error:
        raise DuetError(
            f"could not be written: {error.strerror}",
            path=target,
            remedy="move away what is in its place, or make the folder writable",
        ) from None


class _Sink:
    """Where a download goes: counts it, so that a server that never ends fills neither memory nor disk."""

    def __init__(self, handle, most: int, bar: tqdm | None):
        self.handle, self.left, self.bar = handle, most, bar

    def write(self, chunk: bytes) -> None:
        self.left -= len(chunk)
        if self.left < 0:
            raise _Unwanted("it is larger than the file that was published")
        self.handle.write(chunk)
        if self.bar is not None:
            self.bar.update(len(chunk))

    def flush(self) -> None:
        pass


class _Unwanted(Exception):
    """An answer that is not the file."""


def _download(url: str, handle, most: int, path: Path, bar: tqdm | None = None) -> None:
    """``url`` into ``handle``; a DuetError that names ``path`` for anything but a whole answer of that very server."""
    sink, opened, outcome = _Sink(handle, most, bar), contextlib.ExitStack(), []

    def arrived(response, *_, **__):
        opened.callback(response.close)
        if 300 <= response.status_code < 400:
            raise _Unwanted(f"the server points elsewhere, to {response.headers.get('location', 'nowhere')}")

    download = pooch.HTTPDownloader(
        chunk_size=1 << 16,
        timeout=TIMEOUT,
        allow_redirects=False,
        hooks={"response": arrived},
        headers={"Accept-Encoding": "identity", "User-Agent": "duet"},
    )  # the length announced is then the file's own

    def work() -> None:
        try:
            with opened:
                download(url, sink, None)
            outcome.append(None)
        except BaseException as error:  # told by who waits for it, who may have left
            outcome.append(error)

    # TIMEOUT starts anew with every byte, in headers too, so that a slow drip of bytes would never end: leaving does.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(LIMIT)
    if not outcome:
        sink.left = -1  # what still comes is not taken
        outcome.append(_Unwanted(f"it took more than {LIMIT} s"))
    error = outcome[0]
    if isinstance(error, (requests.RequestException, _Unwanted)):
        raise DuetError(f"could not be downloaded from {url}: {_reason(error)}", path=path, remedy=AGAIN) from None
    if error is not None:
        raise error


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError):
        return f"the server answers {error.response.status_code} {error.response.reason}"
    # requests tells a read that timed out in the middle as a lost connection.
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return f"the server did not answer, or stopped sending, for {TIMEOUT[1]} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "it broke off before the end"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return str(error)

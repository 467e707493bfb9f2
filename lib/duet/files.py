"""Files that are either whole or absent, and archives that stay where they are unpacked."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import DuetError


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success it is synced and renamed to ``path``.

    A process killed at any moment leaves the old file, or none, never half a file.  A full disk or a
    read-only folder raises :class:`DuetError` and leaves what was there before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # numpy's error on a full disk has no number
        if error.errno in (None, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise DuetError(
                f"could not be written: {error.strerror or error}",
                path=path,
                remedy="free some space or choose another folder; the previous file is untouched",
            ) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | Path, content: str) -> None:
    write_bytes(path, content.encode())


_NUMBERS = re.compile(r"\[\n\s*(-?\d[\d.eE+-]*(?:,\s+-?\d[\d.eE+-]*)*)\n\s*\]")


def write_json(path: str | Path, content) -> None:
    """Sorted keys and a fixed layout, a list of numbers on one line: equal content is equal bytes.

    NaN is refused, JSON has none.
    """
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    write_text(path, _NUMBERS.sub(lambda numbers: "[" + re.sub(r"\s+", " ", numbers[1]) + "]", text) + "\n")


def read_json(path: str | Path):
    """Raises DuetError for a missing or damaged file."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise DuetError("no such file", path=path) from None
    except OSError as error:
        raise DuetError(f"cannot be read: {error.strerror}", path=path, remedy="check the file") from None
    except (ValueError, RecursionError) as error:
        raise DuetError(f"is not valid JSON: {error}", path=path, remedy="delete it and make it again") from None


def read_object(path: str | Path) -> dict:
    """Names and values; where ``name`` and ``fingerprint`` are among them they are texts.

    Raises DuetError for a missing or damaged file, and where it holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DuetError("holds no names and values", path=path, remedy="delete it and make it again")
    for key in ("name", "fingerprint"):
        if not isinstance(content.get(key, ""), str):
            raise DuetError(f"its {key} is no text", path=path, remedy="delete it and make it again")
    return content


def digest(*parts: str | bytes) -> str:
    """SHA-256 over the parts, each preceded by its length so that no two lists of parts collide."""
    state = hashlib.sha256()
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.hexdigest()


def file_digest(path: str | Path) -> str:
    """Raises DuetError for what cannot be read."""
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise DuetError(f"cannot be read: {error.strerror}", path=path, remedy="restore it") from None


def git_blob_id(content: bytes) -> str:
    """The id under which git stores these bytes: what a pinned public commit promises about a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def read_archive(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """(member name, content) of every plain file in a .zip, .tar or .tar.gz.

    Raises DuetError for a damaged archive, for one that unpacks to more than 256 MiB whatever it announces, and for a
    member that points outside its folder: an absolute name or one with "..".  Links and devices are skipped, they are
    never followed.
    """
    path = Path(path)
    try:
        if zipfile.is_zipfile(path):
            left = _UNPACKED
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    check_member(path, member.filename)
                    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise DuetError("is packed in a rare way", path=path, remedy="pack it again as a common zip")
                    if not member.is_dir():
                        with archive.open(member) as handle:
                            content = _bounded(handle, left, path)
                        left -= len(content)
                        yield member.filename, content
        else:
            with open(path, "rb") as handle:
                packed = handle.read(2) == b"\x1f\x8b"
            # as a whole first: a tar can announce what it likes, and names of any length
            with gzip.open(path) if packed else open(path, "rb") as handle:
                content = io.BytesIO(_bounded(handle, _UNPACKED, path))
            with tarfile.open(fileobj=content, mode="r:") as archive:
                for member in archive:
                    check_member(path, member.name)
                    if member.isfile():
                        yield member.name, archive.extractfile(member).read()
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, struct.error,
            zlib.error) as error:  # fmt: skip
        raise DuetError(
            f"is not a readable archive: {error}", path=path, remedy="delete it and download it again"
        ) from error


_UNPACKED = 256 << 20  # bytes; the largest that is read here has a tenth of it


def _bounded(handle: IO[bytes], most: int, path: Path) -> bytes:
    content = handle.read(most + 1)
    if len(content) > most:
        raise DuetError(f"unpacks to more than {_UNPACKED >> 20} MiB", path=path, remedy="do not use this archive")
    return content


def check_member(archive: Path, name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or ".." in parts or ":" in parts[0]:
        raise DuetError(
            f"its member {name!r} points outside the folder", path=archive, remedy="do not use this archive"
        )

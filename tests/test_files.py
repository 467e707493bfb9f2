"""Files are whole or absent, and archives stay where they are unpacked."""

import errno
import io
import os
import signal
import subprocess
import sys
import tarfile
import zipfile

import pytest

from duet import DuetError, files


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "deep" / "down" / "a.txt"
    files.write_text(path, "first")
    files.write_text(path, "second")
    assert path.read_text() == "second"
    assert os.listdir(path.parent) == ["a.txt"]


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    """Writers such as Pillow and numpy choose the format by it."""
    with files.atomic(tmp_path / "a.tar.npy") as temporary:
        assert temporary.suffix == ".npy" and temporary.parent == tmp_path
        temporary.write_bytes(b"x")


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.atomic(path) as temporary:
        temporary.write_text("half of the n")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_writer_that_writes_nothing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), files.atomic(path):
        pass
    assert path.read_text() == "old"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("where", ["write", "fsync", "rename"])
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, monkeypatch, code, where):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(*_):
        raise OSError(code, os.strerror(code))

    if where == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    elif where == "rename":
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DuetError, match="a.txt.*could not be written.*untouched") as caught, files.atomic(path) as new:
        new.write_text("new")
        if where == "write":
            fail()
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_errors_without_a_number_are_one_line_too(tmp_path):
    """numpy's, when a disk fills while it writes an array."""
    with pytest.raises(DuetError, match="a.npy.*1000 requested and 12 written"), files.atomic(tmp_path / "a.npy"):
        raise OSError("1000 requested and 12 written")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", fail)
    with pytest.raises(DuetError, match="Read-only"):
        files.write_text(tmp_path / "new" / "a.txt", "x")


KILLED = """
import os, signal, sys
from duet import files
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "written": os.fsync = die
if sys.argv[2] == "synced": os.replace = die
with files.atomic(sys.argv[1]) as path:
    with open(path, "w") as handle:
        handle.write("half")
        handle.flush()
        if sys.argv[2] == "writing": die()
"""


@pytest.mark.parametrize("moment", ["writing", "written", "synced"])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_kill_leaves_the_old_file_or_none(tmp_path, moment, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), moment])
    assert done.returncode == -signal.SIGKILL
    assert (path.read_text() if path.exists() else None) == old
    files.write_text(path, "new")  # what the killed process left is in nobody's way
    assert path.read_text() == "new"


def test_json_has_one_layout_and_no_nan(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"b": [1, 0.1], "a": None})
    first = path.read_bytes()
    files.write_json(path, {"a": None, "b": [1, 0.1]})
    assert path.read_bytes() == first
    assert files.read_json(path) == {"a": None, "b": [1, 0.1]}
    content = {"text": "[ 1,  2 ]", "numbers": [[1, -2.5e-07], [], [3]], "mixed": [1, "2", None]}
    files.write_json(tmp_path / "b.json", content)
    assert files.read_json(tmp_path / "b.json") == content
    with pytest.raises(ValueError):
        files.write_json(path, {"a": float("nan")})
    assert path.read_bytes() == first


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe\x00", b"no"])
def test_damaged_json_is_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DuetError, match="a.json"):
        files.read_json(path)
    with pytest.raises(DuetError, match="missing.json"):
        files.read_json(tmp_path / "missing.json")


def test_digests(tmp_path):
    assert files.digest("ab", "c") != files.digest("a", "bc") != files.digest("abc")
    assert files.digest("a") == files.digest(b"a")
    (tmp_path / "a").write_bytes(b"abc")
    assert files.file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.git_blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


# -- archives ----------------------------------------------------------------------------------------------------------


def make_archive(path, members, links=()):
    """A zip or a tar of ``{name: content}``; ``links`` are (name, target, type) of a tar."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target, kind in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return path


ARCHIVES = ["a.zip", "a.tar", "a.tar.gz", "a.tgz"]


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_give_their_plain_files(tmp_path, name):
    members = {"one/a.txt": b"alpha", "one/..two..": b"", "b.bin": bytes(range(256)) * 50}
    assert dict(files.read_archive(make_archive(tmp_path / name, members))) == members


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("member", ["../x", "a/../../x", "/etc/x", "C:/x", "\\x", "..\\x", "a\\..\\..\\x"])
def test_members_that_point_outside_are_refused(tmp_path, name, member):
    archive = make_archive(tmp_path / name, {"good": b"1", member: b"2"})
    with pytest.raises(DuetError, match="points outside|not a readable archive"):
        list(files.read_archive(archive))


def test_links_and_devices_are_skipped(tmp_path):
    links = [("soft", "/etc/passwd", tarfile.SYMTYPE), ("hard", "/etc/passwd", tarfile.LNKTYPE),
             ("pipe", "", tarfile.FIFOTYPE), ("folder", "", tarfile.DIRTYPE)]  # fmt: skip
    archive = make_archive(tmp_path / "a.tar", {"a": b"1"}, links)
    assert dict(files.read_archive(archive)) == {"a": b"1"}


def test_an_archive_of_the_folder_itself(tmp_path):
    """``tar czf a.tar.gz .`` names its folder ``.`` and its files ``./a``."""
    archive = make_archive(tmp_path / "a.tar.gz", {"./a": b"1"}, [(".", "", tarfile.DIRTYPE)])
    assert dict(files.read_archive(archive)) == {"./a": b"1"}


@pytest.mark.parametrize("name", ARCHIVES)
def test_truncated_and_damaged_archives_are_one_line(tmp_path, name):
    whole = make_archive(tmp_path / name, {f"{i}.bin": os.urandom(3000) for i in range(5)}).read_bytes()
    path = tmp_path / f"cut-{name}"
    for content in (b"", b"not an archive", whole[:3], whole[: len(whole) // 2], whole[:1900]):
        path.write_bytes(content)
        with pytest.raises(DuetError, match=f"cut-{name}.*not a readable archive") as caught:
            list(files.read_archive(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(DuetError, match="missing"):
        list(files.read_archive(tmp_path / f"missing-{name}"))


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_flipped_byte_is_found(tmp_path, name):
    whole = bytearray(make_archive(tmp_path / name, {"a.bin": os.urandom(3000)}).read_bytes())
    whole[1500] ^= 0xFF
    (tmp_path / name).write_bytes(whole)
    with pytest.raises(DuetError, match="not a readable archive"):
        list(files.read_archive(tmp_path / name))

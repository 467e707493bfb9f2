"""Ways in which files go wrong: what a seed's bytes become, by a generator that a case's number sets."""

from __future__ import annotations

import io
import json
import re
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np

Rng = np.random.Generator

BINARY = ("binary", "zip", "tgz", "npy", "png")

NUMBERS = (b"", b"0", b"-1", b"1e999", b"nan", b"-inf", b"99999999999999999999", b"2147483648", b"-0.5", b"0x10",
           b"1/0", b"1_000", b"\xd9\xa3", b"1e-320", b"3.9999999999999999", b"65536")  # fmt: skip
LARGEST = 4 << 20  # bytes, bombs apart: a case is to be quick
#: Files of another format under this name.
STRANGERS = (
    b"\x7fELF" + bytes(range(256)),
    b"PK\x05\x06" + bytes(18),
    b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x22\x56\0\0\x44\xac\0\0\2\0\x10\0data\0\0\0\0",
    b"\x89PNG\r\n\x1a\n",
    b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0",
    b"<?xml version='1.0'?><html><body>404 Not Found</body></html>",
    b'{"error": "not found"}',
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    b"\x1f\x8b\x08\0\0\0\0\0\0\3",
    b"\x80\x04\x95\x0b\0\0\0\0\0\0\0cos\nabort\n)R.",
    b"\n",
    bytes(5000),
)
_NUMBER = re.compile(rb"\d+(?:\.\d+)?")
_TAG = re.compile(rb"<[^<>]*>")
_WORD = re.compile(rb"[^\s\"';,<>]+")


def damage(content: bytes, kind: str, rng: Rng) -> bytes:
    """One to three ways at once.  ``kind``: one of BINARY, or what text it is."""
    if rng.random() < 0.04:
        return STRANGERS[rng.integers(len(STRANGERS))]
    if rng.random() < 0.02:
        return b""
    if kind in BOMBS and rng.random() < 0.02:
        return BOMBS[kind][rng.integers(len(BOMBS[kind]))]()
    ways = (*_BYTES, *_LIES) if kind in BINARY else (*_BYTES, *_TEXT, *_TEXT)
    ways = (*ways, *(_OWN.get(kind, ()) * 4))
    for _ in range(rng.integers(1, 4)):
        content = ways[rng.integers(len(ways))](content, rng)[:LARGEST]
    return content


def _span(content: bytes, rng: Rng, most: int = 4096) -> tuple[int, int]:
    start = int(rng.integers(len(content) + 1))
    if rng.random() < 0.4:
        start = int(rng.integers(min(len(content), 256) + 1))  # headers have the most to say
    return start, min(len(content), start + 1 + int(rng.integers(rng.choice([4, 64, most]))))


# -- any bytes ---------------------------------------------------------------------------------------------------------


def _truncated(content: bytes, rng: Rng) -> bytes:
    return content[: _span(content, rng)[0]]


def _headless(content: bytes, rng: Rng) -> bytes:
    return content[_span(content, rng, 64)[0] :]


def _flipped(content: bytes, rng: Rng) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.choice([1, 4, 64]))):
        if changed:
            at = _span(content, rng)[0] - 1
            changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _run(content: bytes, rng: Rng) -> bytes:
    start, end = _span(content, rng)
    filling = [bytes(end - start), b"\xff" * (end - start), rng.bytes(end - start)][rng.integers(3)]
    return content[:start] + filling + content[end:]


def _repeated(content: bytes, rng: Rng) -> bytes:
    start, end = _span(content, rng)
    return content[:end] + content[start:end] * int(rng.choice([1, 1, 3, 50])) + content[end:]


def _deleted(content: bytes, rng: Rng) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def _swapped(content: bytes, rng: Rng) -> bytes:
    a, b, c, d = sorted(rng.integers(0, len(content) + 1, 4).tolist())
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _inserted(content: bytes, rng: Rng) -> bytes:
    start = _span(content, rng)[0]
    return content[:start] + rng.bytes(int(rng.choice([1, 16, 2000]))) + content[start:]


def _twice(content: bytes, rng: Rng) -> bytes:
    return content + content


def _lie(content: bytes, rng: Rng) -> bytes:
    """A size, a count or an offset that is not true."""
    code = ("B", "<H", ">H", "<I", ">I", "<Q", ">Q")[rng.integers(7)]
    size = struct.calcsize(code)
    top = (1 << 8 * size) - 1
    value = (0, 1, 2, top, top >> 1, (top >> 1) + 1, top - 7, int(rng.integers(1 << 7 * size)))[rng.integers(8)]
    at = min(_span(content, rng)[0], max(0, len(content) - size))
    if rng.random() < 0.5:
        at = min(at // 4 * 4, max(0, len(content) - size))
    return content[:at] + struct.pack(code, value) + content[at + size :]


_BYTES = (_truncated, _headless, _flipped, _flipped, _run, _repeated, _deleted, _swapped, _inserted, _twice)
_LIES = (_lie,) * 6

# -- text --------------------------------------------------------------------------------------------------------------


def _one(pattern: re.Pattern, content: bytes, rng: Rng, become: Callable[[bytes], bytes]) -> bytes:
    found = [m.span() for m in pattern.finditer(content)]
    if not found:
        return content
    start, end = found[rng.integers(len(found))]
    return content[:start] + become(content[start:end]) + content[end:]


def _number(content: bytes, rng: Rng) -> bytes:
    return _one(_NUMBER, content, rng, lambda _: NUMBERS[rng.integers(len(NUMBERS))])


def _word(content: bytes, rng: Rng) -> bytes:
    return _one(_WORD, content, rng, lambda word: [b"", word * 2, word[::-1], word[:1], b"?"][rng.integers(5)])


def _lines(content: bytes, rng: Rng) -> bytes:
    lines = content.splitlines(keepends=True)
    if not lines:
        return content
    at = int(rng.integers(len(lines)))
    way = int(rng.integers(4))
    if way == 0:
        del lines[at]
    elif way == 1:
        lines[at:at] = [lines[at]] * int(rng.choice([1, 2, 300]))
    elif way == 2:
        rng.shuffle(lines)
    else:
        lines[at] = b"\n"
    return b"".join(lines)


def _recoded(content: bytes, rng: Rng) -> bytes:
    text = content.decode("utf-8", "replace")
    ways = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "utf-7", "cp037")
    return text.encode(ways[rng.integers(len(ways))], "replace")


def _marked(content: bytes, rng: Rng) -> bytes:
    marks = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00", b"\x1a", b"\r", b"\xe2\x80\xa8", b"\xed\xa0\x80")
    mark = marks[rng.integers(len(marks))]
    at = 0 if rng.random() < 0.5 else _span(content, rng)[0]
    return content[:at] + mark + content[at:]


def _long(content: bytes, rng: Rng) -> bytes:
    return _one(_WORD, content, rng, lambda word: word[:8] * int(rng.choice([1000, 100_000])))


_TEXT = (_number, _number, _number, _word, _lines, _recoded, _marked, _long)

# -- a format's own ----------------------------------------------------------------------------------------------------


def _element(content: bytes, rng: Rng) -> bytes:
    """Of XML: a tag, or an element with what is in it, left out, repeated or moved."""
    found = [m for m in _TAG.finditer(content) if m[0][1:2] not in (b"?", b"!")]
    if not found:
        return content
    start, end = found[rng.integers(len(found))].span()
    name = re.match(rb"</?([^\s/>]*)", content[start:end])[1]
    close = content.find(b"</" + name + b">", end)
    if rng.random() < 0.7 and close > 0:
        end = close + len(name) + 3
    whole = content[start:end]
    way = int(rng.integers(4))
    if way == 0:
        return content[:start] + content[end:]
    if way == 1:
        return content[:end] + whole * int(rng.choice([1, 2, 40])) + content[end:]
    if way == 2:
        other = found[rng.integers(len(found))].end()
        return content[:other] + whole + content[other:]
    return content[:start] + whole * 2 + content[end:]


def _attribute(content: bytes, rng: Rng) -> bytes:
    values = (b"", b"-1", b"NaN", b"999999999", b"#", b"\xc3\xa9", b"x" * 5000, b"&lt;")
    change = [lambda _: b"", lambda _: b' n="' + values[rng.integers(len(values))] + b'"']
    return _one(re.compile(rb'\s[\w.:]+="[^"]*"'), content, rng, change[rng.integers(2)])


def _json(content: bytes, rng: Rng) -> bytes:
    """Somewhere in it a key is missing, or a value is of another type."""
    try:
        tree = json.loads(content)
    except ValueError:
        return content
    places = []

    def walk(node) -> None:
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(child, dict | list):
                walk(child)

    if isinstance(tree, dict | list):
        walk(tree)
    if not places:
        return b"[]"
    node, key = places[rng.integers(len(places))]
    values = (None, True, -1, 1e300, float("nan"), 10**30, "", "text", [], {}, [[]], {"a": None}, "9" * 400)
    if rng.random() < 0.3:
        del node[key]
    else:
        node[key] = values[rng.integers(len(values))]
    return json.dumps(tree).encode()


def _cell(content: bytes, rng: Rng) -> bytes:
    """Of a table: a cell or a column left out, repeated, or filled with something else."""
    rows = [line.split(b";") for line in content.splitlines()]
    if not rows:
        return content
    row = rows[rng.integers(len(rows))]
    column = int(rng.integers(len(row)))
    way = int(rng.integers(4))
    if way == 0:
        del row[column]
    elif way == 1:
        row.insert(column, row[column])
    elif way == 2:
        row[column] = [b"", b'"', b'"\n', b"''", b";" * 99, *NUMBERS][rng.integers(5 + len(NUMBERS))]
    else:
        for each in rows:
            del each[column : column + 1]
    return b"\n".join(b";".join(row) for row in rows)


def _repacked(content: bytes, rng: Rng) -> bytes:
    """A zip that is whole, with members renamed, left out, twice there, changed or encrypted by their flag."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            members = [(m.filename, packed.read(m)) for m in packed.infolist()]
    except Exception:  # damaged already
        return content
    if not members:
        return content
    at = int(rng.integers(len(members)))
    name, inside = members[at]
    way = int(rng.integers(6))
    if way == 0:
        del members[at]
    elif way == 1:
        names = ("../up.xml", "/root.xml", "C:\\a.xml", "a/../../b.xml", "", "a\0b.xml", "x" * 60_000, "dir/", "é.xml")
        members[at] = (names[rng.integers(len(names))], inside)
    elif way == 2:
        members.append((name, inside[: len(inside) // 2]))
    elif way in (3, 4):
        members[at] = (name, damage(inside, "xml", rng))
    target = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        warnings.simplefilter("ignore")
        for name, inside in members:
            packed.writestr(zipfile.ZipInfo(name) if name else zipfile.ZipInfo("."), inside)
    made = target.getvalue()
    if way == 5:  # the flag that says: encrypted
        made = made.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    return made


def _array(content: bytes, rng: Rng) -> bytes:
    """The text in an array's header."""
    headers = ("{'descr': '<f4', 'fortran_order': False, 'shape': (92, 1000000000000), }",
               "{'descr': '|O', 'fortran_order': False, 'shape': (92,), }",
               "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 5), }",
               "{'descr': '<f8', 'fortran_order': True, 'shape': (92, 3), }",
               "{'descr': '<U9', 'fortran_order': False, 'shape': (2, 5), }",
               "{'descr': [('a', '<f4'), ('b', '<i2')], 'fortran_order': False, 'shape': (9,), }",
               "{'descr': '<c16', 'fortran_order': False, 'shape': (92, 2), }",
               "{'descr': '<f4', 'fortran_order': False, 'shape': (), }",
               "{'descr': '<f4', 'fortran_order': False, 'shape': (92, 0), }",
               "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 5), }",
               "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (92, 4), }",
               "{'descr': '?', 'fortran_order': False, 'shape': (92, 64), }",
               "(" * 3000, "{'descr': '<f4'}", "__import__('os')", "9" * 9000)  # fmt: skip
    text = headers[rng.integers(len(headers))].encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    start = 10 + int.from_bytes(content[8:10], "little")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) & 0xFFFF) + text + content[start:]


_OWN = {"xml": (_element, _attribute), "json": (_json,), "csv": (_cell,), "zip": (_repacked,), "npy": (_array,)}

# -- bombs -------------------------------------------------------------------------------------------------------------

_GIGABYTES = 5


@cache
def _zeros() -> tuple[bytes, bytes]:
    """A raw deflate stream of a MiB of zeros that may be repeated, and its end."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block, zlib.compressobj(9, zlib.DEFLATED, -15).flush()


@cache
def zip_bomb(honest: bool = False, name: bytes = b"score.xml") -> bytes:
    """5 GiB of zeros as a MusicXML; its header announces 100 bytes, or what it is as far as 32 bits can."""
    block, end = _zeros()
    packed = block * (1024 * _GIGABYTES) + end
    size = 0xFFFFFFF0 if honest else 100
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(packed), size, len(name), 0) + name
    central = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, len(packed), size, len(name), 0, 0, 0, 0, 0,
                          0) + name  # fmt: skip
    where = len(local) + len(packed)
    return local + packed + central + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central), where, 0)


@cache
def tgz_bomb(plain: bool = False) -> bytes:
    """A tar of one file of 5 GiB of zeros, compressed; or nothing but zeros."""
    block, end = _zeros()
    head = b""
    if not plain:
        member = tarfile.TarInfo("bomb.mp3")
        member.size = _GIGABYTES << 30
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        head = packer.compress(member.tobuf(tarfile.GNU_FORMAT)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\x02\xff" + head + block * (1024 * _GIGABYTES) + end + bytes(8)


def _entities(levels: int, each: int = 10) -> bytes:
    named = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * each}">' for k in range(1, levels))
    return (f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "{"lol" * 100}">{named}]>'
            f"<score-partwise><work><work-title>&e{levels - 1};</work-title></work></score-partwise>"
            ).encode()  # fmt: skip


_EXTERNAL = (b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///dev/zero">]><mei xmlns='
             b'"http://www.music-encoding.org/ns/mei"><meiHead>&e;</meiHead></mei>')  # fmt: skip
_ALIASES = b"".join(
    b"a%d: &a%d [%s]\n" % (k, k, b", ".join([b"*a%d" % (k - 1)] * 10 if k else [b"x"] * 10)) for k in range(30)
)


def picture_bomb(side: int, colour: int) -> bytes:
    """A PNG of side x side zeros."""

    def chunk(name: bytes, inside: bytes) -> bytes:
        return struct.pack(">I", len(inside)) + name + inside + struct.pack(">I", zlib.crc32(name + inside))

    packer = zlib.compressobj(9)
    row = bytes(1 + side * {0: 1, 2: 3, 6: 4}[colour])
    block = b"".join(packer.compress(row) for _ in range(min(side, 2000))) + packer.flush()
    header = struct.pack(">2I5B", side, side, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", block) + chunk(b"IEND", b"")


BOMBS: dict[str, tuple[Callable[[], bytes], ...]] = {
    "xml": (
        lambda: _entities(12),
        lambda: _entities(5),
        lambda: _EXTERNAL,
        lambda: b"<a>" * 200_000,
        lambda: b"<a>" * 100_000 + b"</a>" * 100_000,
        lambda: b"<mei xmlns='http://www.music-encoding.org/ns/mei'>"
        + b"<section>" * 30_000 + b"</section>" * 30_000 + b"</mei>",
    ),
    "json": (lambda: b"[" * 200_000, lambda: b'{"a":' * 5_000 + b"1" + b"}" * 5_000, lambda: b"9" * 100_000),
    "yaml": (
        lambda: _ALIASES + b"train: *a29\nvalid: *a29\ntest: *a29\n",
        lambda: b"[" * 100_000,
        lambda: b"train: &a [*a]\nvalid: *a\ntest: *a\n",
        lambda: b"train: !!python/object/apply:os.abort []\n",
        lambda: b"? " * 20_000,
        lambda: b"train: [" + b"!!timestamp 99999-99-99, " * 9 + b"]",
    ),
    "zip": (zip_bomb, lambda: zip_bomb(True), lambda: zip_bomb(name=b"META-INF/container.xml")),
    "tgz": (tgz_bomb, lambda: tgz_bomb(True)),
    "png": (lambda: picture_bomb(100_000, 0), lambda: picture_bomb(13_000, 6), lambda: picture_bomb(40_000, 2)),
}  # fmt: skip

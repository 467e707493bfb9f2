"""A score with its recording in one HTML file that needs nothing else: pictures, sound and script are inside.

:func:`follow_page` shows whole pages and a cursor that follows the sound; :func:`hits_page` shows a ranking of systems,
each beside the stretch of the recording that it was found for.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from PIL import Image

from . import files
from .engraving import PIXELS_PER_STAFF_SPACE, System
from .errors import DuetError

#: Where in the score the sound is at a time: page, system on that page from the top, all from 0, and the column of that
#: page as a pixel index, 0 in the middle of the first pixel as in :class:`engraving.Notehead`.
MOMENTS = np.dtype([("seconds", "f8"), ("page", "i4"), ("system", "i4"), ("column", "f4")])

_REACH = 4 * PIXELS_PER_STAFF_SPACE  # above and below its staves a system is marked and can be clicked
_GREYS = 16  # of a picture: more cannot be told apart in anti-aliased print, and they take twice the space


class Hit(NamedTuple):
    """A system that was found: its piece and place in words, the similarity by which it is ranked, its picture.

    ``picture`` (rows, columns) uint8; ``start`` and ``end`` of the stretch it was found for, seconds of the recording.
    Where hits are of several recordings or a long one, each has its name and ``audio`` (samples,), the stretch alone.
    """

    piece: str
    place: str
    similarity: float
    picture: np.ndarray
    start: float
    end: float
    recording: str = ""
    audio: np.ndarray | None = None


def follow_page(
    path: str | Path,
    title: str,
    pages: Sequence[np.ndarray],
    systems: Sequence[System],
    moments: np.ndarray,
    audio: np.ndarray,
    rate: int,
    remarks: Sequence[str] = (),
) -> None:
    """Write a page that plays ``audio`` (samples,) while a bar moves over ``pages``, (rows, columns) uint8 each.

    ``moments`` (n,) of :data:`MOMENTS` by time.  Between two of the same system the bar moves from one to the other; at
    the end of a system, and where the next moment is further left, it stays and then jumps.  A click in a system goes
    to the time of that column, the nearest one where it is played more than once.  ``#t=12.5`` in the address is a
    start in seconds.  ``remarks`` stand on top, a paragraph each.  Raises DuetError where there is no page, moment or
    sound, for moments out of order, and for one that lies on no page or system.
    """
    if not len(pages):
        raise DuetError("there is no page to show", remedy="give a score that has notes")
    bands, first = _bands(pages, systems)
    data = {"systems": bands} | _checked(moments, pages, first)
    figures = "".join(
        f'<div class="page"><img {_picture(page)} alt="Page {n} of {len(pages)}"></div>\n'
        for n, page in enumerate(pages, 1)
    )
    numbers = json.dumps(data, separators=(",", ":"), allow_nan=False)
    body = (
        f'<div class="bar"><audio controls preload="auto" src="{audio_uri(audio, rate)}"></audio></div>\n'
        '<p class="hint">Click in the score to listen from there. Space plays and pauses, '
        "the arrow keys go two seconds back and forth.</p>\n"
        f'<main>\n{figures}</main>\n<div id="cursor"></div>\n'
        f'<script type="application/json" id="data">{numbers}</script>\n'
    )
    files.write_text(path, _document(title, remarks, body, _FOLLOW))


def hits_page(
    path: str | Path,
    title: str,
    hits: Sequence[Hit],
    audio: np.ndarray | None,
    rate: int,
    remarks: Sequence[str] = (),
) -> None:
    """Write a table of ``hits``, best first, each beside its stretch of ``audio`` (samples,), or beside its own.

    Raises DuetError where there is no hit or no sound, and for a stretch outside the recording.
    """
    if not hits:
        raise DuetError("there is no hit to show", remedy="search in more scores")
    rows = []
    for rank, hit in enumerate(hits, 1):
        stretch = hit.audio
        if stretch is None:
            seconds = len(audio) / rate
            if not 0 <= hit.start < hit.end <= seconds + 1e-6:  # NaN fails too
                where = f"{hit.start:.2f} s to {hit.end:.2f} s"
                raise DuetError(f"hit {rank} is for {where} of a recording of {seconds:.2f} s")
            stretch = audio[round(hit.start * rate) : round(hit.end * rate)]
        heard = f"{_text(hit.recording)} {_clock(hit.start)} to {_clock(hit.end)}".lstrip()
        rows.append(
            f'<tr><th scope="row">{rank}</th>'
            f"<td><p><strong>{_text(hit.piece)}</strong> <span>{_text(hit.place)}</span></p>"
            f'<img {_picture(hit.picture)} alt="The system that was found"></td>'
            f"<td>{hit.similarity:.3f}</td>"
            f'<td><span>{heard}</span><audio controls preload="metadata" '
            f'src="{audio_uri(stretch, rate)}"></audio></td></tr>\n'
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Rank", "Score", "Similarity", "Recording"))
    body = f'<table class="hits">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{"".join(rows)}</tbody>\n</table>\n'
    files.write_text(path, _document(title, remarks, body, _HITS))


def picture_uri(image: np.ndarray) -> str:
    """A data: URI of (rows, columns) uint8 as PNG in 16 greys, each pixel at most 8 from its own."""
    step = 255 / (_GREYS - 1)
    greys = Image.fromarray(np.rint(image / step).astype(np.uint8), "P")
    greys.putpalette(np.repeat(np.rint(np.arange(_GREYS) * step).astype(np.uint8), 3).tobytes())
    encoded = io.BytesIO()
    greys.save(encoded, "PNG", bits=4, optimize=True)
    return _uri("image/png", encoded)


def audio_uri(audio: np.ndarray, rate: int) -> str:
    """A data: URI of (samples,) float as 16-bit FLAC, of which every player finds the exact sample.

    Louder than 1 is made softer as a whole.  Raises DuetError where there is no sample, or one that is no number.
    """
    if not len(audio):
        raise DuetError("there is no sound to play", remedy="give a recording that is not empty")
    if not np.isfinite(audio).all():
        raise DuetError("the recording holds samples that are no numbers", remedy="export the audio again")
    whole = np.rint(audio * (32767 / max(1.0, float(np.abs(audio).max())))).astype(np.int16)
    encoded = io.BytesIO()
    soundfile.write(encoded, whole, rate, format="FLAC", subtype="PCM_16")
    return _uri("audio/flac", encoded)


def _uri(kind: str, content: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def _picture(image: np.ndarray) -> str:
    """Attributes of an img.  With its size the browser lays the page out before it has decoded the pictures."""
    return f'src="{picture_uri(image)}" width="{image.shape[1]}" height="{image.shape[0]}"'


def _bands(pages: Sequence[np.ndarray], systems: Sequence[System]) -> tuple[list[tuple[int, float, float]], list[int]]:
    """(page, top, bottom) of each system by page and from the top, in fractions of the page's height.

    They reach into the margin, halfway to the next system at most.  And for each page, and the end, how many systems
    come before.
    """
    bands, first = [], [0]
    for number, page in enumerate(pages):
        own = sorted((s for s in systems if s.page == number), key=lambda s: s.top)
        edges = [0, *((above.bottom + below.top) / 2 for above, below in itertools.pairwise(own)), len(page)]
        for system, (upper, lower) in zip(own, itertools.pairwise(edges), strict=False):
            top, bottom = max(system.top - _REACH, upper), min(system.bottom + _REACH, lower)
            bands.append((number, round(top / len(page), 5), round(bottom / len(page), 5)))
        first.append(len(bands))
    return bands, first


def _checked(moments: np.ndarray, pages: Sequence[np.ndarray], first: Sequence[int]) -> dict[str, list]:
    """What the script reads: seconds, index of the system, and column as a fraction of the page's width."""
    if not len(moments):
        raise DuetError("no moment of the recording has a place in the score", remedy="give a longer recording")
    seconds, page, system = moments["seconds"], moments["page"], moments["system"]
    if not np.isfinite(seconds).all() or (np.diff(seconds) < 0).any():
        raise DuetError("the moments are not in the order of time")
    beyond = (page < 0) | (page >= len(pages))
    beyond |= (system < 0) | (system >= np.diff(first)[page.clip(0, len(pages) - 1)])
    if beyond.any():
        at = moments[beyond.argmax()]
        raise DuetError(f"the moment at {at['seconds']:.3f} s is in system {at['system']} of page {at['page']}, "
                        "which is not there")  # fmt: skip
    fractions = (moments["column"] + 0.5) / np.array([p.shape[1] for p in pages])[page]
    if not ((fractions >= 0) & (fractions <= 1)).all():  # NaN fails too
        at = moments[((fractions >= 0) & (fractions <= 1)).argmin()]
        raise DuetError(f"the moment at {at['seconds']:.3f} s is in column {at['column']:.1f}, beside the page")
    return {
        "seconds": seconds.round(4).tolist(),
        "lines": (np.array(first)[page] + system).tolist(),
        "columns": fractions.round(5).tolist(),
    }


def _text(words: str) -> str:
    """For HTML; a file name may hold bytes that are no text."""
    return html.escape(words.encode(errors="replace").decode())


def _clock(seconds: float) -> str:
    minutes, tenths = divmod(round(10 * seconds), 600)
    return f"{minutes}:{tenths / 10:04.1f}"


def _document(title: str, remarks: Sequence[str], body: str, script: str) -> str:
    paragraphs = "".join(f'<p class="remark">{_text(remark)}</p>\n' for remark in remarks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # the browser itself refuses to load anything that is not in the file
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; media-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_text(title)}</h1>\n{paragraphs}{body}<script>{script}</script>\n</body>\n</html>\n"
    )


_STYLE = """
:root { color-scheme: light; color: #1a1a1a; background: #fff; font: 16px/1.5 system-ui, sans-serif }
@media (prefers-reduced-motion: no-preference) { :root { scroll-behavior: smooth } }
* { box-sizing: border-box }
body { max-width: 867px; margin: 0 auto; padding: 0 16px 2rem }
body:has(.hits) { max-width: 1200px }
h1 { font-size: 1.4rem; line-height: 1.25; margin: 1.2rem 0 .6rem; overflow-wrap: anywhere }
p { margin: .4rem 0 }
.remark { padding-left: .7rem; border-left: 3px solid #d9a400; overflow-wrap: anywhere }
.hint { color: #666; font-size: .85rem; margin-bottom: .8rem }
img { display: block; max-width: 100%; height: auto }
audio { display: block; width: 100%; height: 44px }
.bar { position: sticky; top: 0; z-index: 2; padding: 8px 0; background: #fff }
.page { position: relative; margin-bottom: 16px; box-shadow: 0 0 0 1px #ddd; cursor: pointer;
  touch-action: manipulation }
.page img { width: 100% }
#cursor { position: absolute; z-index: 1; width: 1.4%; transform: translateX(-50%); border-radius: 3px;
  background: rgb(20 110 230 / .35); pointer-events: none; scroll-margin: 72px 0 12px }
table { width: 100%; border-collapse: collapse }
th, td { padding: .8rem .6rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
thead th { padding-block: .3rem; font-size: .85rem; color: #666; font-weight: normal }
td p { margin: 0; overflow-wrap: anywhere }
td span { color: #666 }
td img, td audio { margin-top: .4rem }
td:last-child { width: 19rem }
@media (max-width: 760px) {
  body { padding-inline: 8px }
  thead { display: none }
  tr { display: block; position: relative; padding: .8rem 0; border-bottom: 1px solid #ddd }
  tbody th, td, td:last-child { display: block; width: auto; padding: .1rem 0; border: 0 }
  tbody th { position: absolute }
  td p { padding-left: 1.6rem }
  td:nth-child(3)::before { content: "similarity " }
}
"""

_FOLLOW = """
"use strict";
const { systems, seconds, lines, columns } = JSON.parse(document.getElementById("data").textContent);
const audio = document.querySelector("audio");
const bar = document.querySelector(".bar");
const cursor = document.getElementById("cursor");
const pages = [...document.querySelectorAll(".page")];
let shown = -1;  // the system under the cursor

// The last moment at or before a time; the first one before them all.
function latest(time) {
  let low = 0, high = seconds.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (seconds[middle] <= time) low = middle; else high = middle;
  }
  return low;
}

function move() {
  const time = audio.currentTime, i = latest(time), line = lines[i];
  let column = columns[i];
  if (time > seconds[i] && lines[i + 1] === line && columns[i + 1] > column)
    column += (columns[i + 1] - column) * (time - seconds[i]) / (seconds[i + 1] - seconds[i]);
  cursor.style.left = 100 * column + "%";
  if (line === shown) return;
  const [page, top, bottom] = systems[line];
  cursor.style.top = 100 * top + "%";
  cursor.style.height = 100 * (bottom - top) + "%";
  pages[page].append(cursor);
  const opening = shown < 0 && time === 0;  // leave the title in view
  shown = line;
  if (!opening) reveal();
}

function reveal() {
  const box = cursor.getBoundingClientRect();
  if (box.top < bar.getBoundingClientRect().bottom || box.bottom > innerHeight)
    cursor.scrollIntoView({ block: "start", behavior: audio.paused ? "instant" : "auto" });
}

function seek(time) {
  audio.currentTime = Math.max(0, time);
  move();
  reveal();
}

// When the sound is at a column of a system: of several passes the one nearest to now, and the moment nearest to the
// column where no pass crosses it.
function timeAt(line, column) {
  let best = null, gap = Infinity, nearest = null, distance = Infinity;
  const now = audio.currentTime;
  for (let i = 0; i < seconds.length; i++) {
    if (lines[i] !== line) continue;
    if (Math.abs(columns[i] - column) < distance) {
      distance = Math.abs(columns[i] - column);
      nearest = seconds[i];
    }
    if (lines[i + 1] !== line || !(columns[i] < column && column <= columns[i + 1])) continue;
    const share = (column - columns[i]) / (columns[i + 1] - columns[i]);
    const time = seconds[i] + share * (seconds[i + 1] - seconds[i]);
    if (Math.abs(time - now) < gap) {
      gap = Math.abs(time - now);
      best = time;
    }
  }
  return best ?? nearest;
}

pages.forEach((page, number) => page.addEventListener("click", (event) => {
  const box = page.getBoundingClientRect();
  const column = (event.clientX - box.left) / box.width, row = (event.clientY - box.top) / box.height;
  const line = systems.findIndex(([on, top, bottom]) => on === number && top <= row && row <= bottom);
  const time = timeAt(line, column);
  if (time !== null) seek(time);
}));

// Before the player's own keys, which differ between browsers.
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  if (event.key === " ") { if (audio.paused) audio.play(); else audio.pause(); }
  else if (event.key === "ArrowLeft") seek(audio.currentTime - 2);
  else if (event.key === "ArrowRight") seek(audio.currentTime + 2);
  else return;
  event.preventDefault();
}, true);

let next = 0;
function frame() {
  cancelAnimationFrame(next);
  move();
  if (!audio.paused) next = requestAnimationFrame(frame);
}
audio.addEventListener("play", () => { reveal(); frame(); });
for (const name of ["seeking", "seeked", "timeupdate", "loadedmetadata"]) audio.addEventListener(name, move);

function start() {
  const found = /[#&]t=(\\d+(?:\\.\\d+)?)/.exec(location.hash);
  if (found) seek(Number(found[1]));
}
addEventListener("hashchange", start);
move();
start();
"""

_HITS = """
"use strict";
const players = document.querySelectorAll("audio");
// one at a time; play does not bubble
addEventListener("play", (event) => players.forEach((one) => one === event.target || one.pause()), true);
"""

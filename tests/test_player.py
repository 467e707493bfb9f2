"""Pages that play: everything inside, text that stays text, and a cursor that is where the music is."""

import base64
import io
import json
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from bs4 import BeautifulSoup
from PIL import Image

from duet import DuetError, player
from duet.engraving import System
from duet.player import MOMENTS, Hit, follow_page, hits_page

RATE = 8000
TITLE = "</script></title><img src=x onerror=alert(1)> & \"Für\" 'Elise'"
WIDTH = 835
HEIGHTS = (1200, 1000)

SYSTEMS = [  # the lower one first: they are numbered from the top
    System(0, 1000, 60, 1100, 800, 2),
    System(0, 100, 60, 200, 800, 2),
    System(1, 300, 60, 400, 800, 2),
    System(1, 410, 60, 500, 800, 2),  # so close that the margins meet, and nothing of it is played
]
MOMENTS_PLAYED = np.array(
    [
        (1.0, 0, 0, 99.5),
        (3.0, 0, 0, 299.5),
        (4.0, 0, 1, 49.5),
        (6.0, 0, 1, 649.5),
        (7.0, 1, 0, 709.5),
        (8.0, 1, 0, 89.5),  # further left
        (9.0, 1, 0, 399.5),
        (9.5, 0, 0, 99.5),  # the first system again
        (9.9, 0, 0, 299.5),
    ],
    MOMENTS,
)


def drawn(rows, seed=0):
    """White paper with a few grey lines."""
    page = np.full((rows, WIDTH), 255, np.uint8)
    rng = np.random.default_rng(seed)
    page[rng.integers(0, rows, 30)] = rng.integers(0, 256, (30, 1))
    return page


def sound(seconds=10.0, peak=0.5):
    return peak * np.sin(np.arange(round(seconds * RATE)) ** 2 / 1e6)


def follow(path, **changed):
    arguments = dict(
        title=TITLE,
        pages=[drawn(rows, seed) for seed, rows in enumerate(HEIGHTS)],
        systems=SYSTEMS,
        moments=MOMENTS_PLAYED,
        audio=sound(),
        rate=RATE,
        remarks=("<b>Confidence</b> 0.8", "caf\udce9.wav"),  # a file name may be no UTF-8
    )
    follow_page(path, **(arguments | changed))
    return path


def hits(path, **changed):
    found = [
        Hit("Menuet <i>", "page 1, system 2", 0.9131, drawn(180, 1), 0.0, 1.5),
        Hit("K. 545", "page 3, system 1", 0.25, drawn(200, 2), 8.25, 10.0),
    ]
    hits_page(path, **(dict(title=TITLE, hits=found, audio=sound(), rate=RATE, remarks=("<b>12</b>",)) | changed))
    return path


def parsed(path):
    return BeautifulSoup(path.read_text(), "html.parser")


def content(uri, kind):
    head, encoded = uri.split(",")
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(encoded, validate=True))


def samples(uri):
    values, rate = soundfile.read(content(uri, "audio/flac"), dtype="int16")
    assert rate == RATE
    return values


def as_16_bit(audio):
    return np.rint(audio * 32767).astype(np.int16)


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [follow, hits])
def test_nothing_is_loaded_from_elsewhere(write, tmp_path):
    path = write(tmp_path / "page.html")
    text = path.read_text()
    assert "://" not in text and "@import" not in text and "url(" not in text
    soup = parsed(path)
    links = [tag[name] for tag in soup.find_all() for name in ("src", "href", "srcset", "data") if tag.has_attr(name)]
    assert len(links) >= 3 and all(link.startswith("data:") for link in links)
    assert not soup.find_all(["link", "iframe", "object", "base"])
    (policy,) = soup.find_all("meta", {"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; img-src data:; media-src data:;")


@pytest.mark.parametrize("write", [follow, hits])
def test_text_stays_text(write, tmp_path):
    soup = parsed(write(tmp_path / "page.html"))
    assert soup.title.text == soup.h1.text == TITLE
    assert not soup.find_all(["b", "i"]) and not soup.find_all(onerror=True)
    assert all(image["src"].startswith("data:") for image in soup.find_all("img"))
    remarks = [p.text for p in soup.find_all("p", class_="remark")]
    assert remarks == (["<b>Confidence</b> 0.8", "caf?.wav"] if write is follow else ["<b>12</b>"])


def test_pictures_keep_their_shape_and_nearly_their_greys():
    greys = np.arange(256, dtype=np.uint8).repeat(3).reshape(-1, 24)
    image = Image.open(content(player.picture_uri(greys), "image/png"))
    shown = np.asarray(image.convert("L")).astype(int)
    assert shown.shape == greys.shape and np.abs(shown - greys).max() <= 8
    assert shown[0, 0] == 0 and shown[-1, -1] == 255  # black is black and paper is white
    assert len(image.getcolors()) == 16


def test_pages_and_sound_are_those_given(tmp_path):
    soup = parsed(follow(tmp_path / "page.html"))
    images = soup.select(".page img")
    assert [(int(i["width"]), int(i["height"])) for i in images] == [(WIDTH, rows) for rows in HEIGHTS]
    for seed, (image, rows) in enumerate(zip(images, HEIGHTS, strict=True)):
        shown = np.asarray(Image.open(content(image["src"], "image/png")).convert("L")).astype(int)
        assert np.abs(shown - drawn(rows, seed)).max() <= 8
    assert np.array_equal(samples(soup.audio["src"]), as_16_bit(sound()))


def test_what_is_too_loud_is_softer_as_a_whole():
    loud = sound(peak=2.5)
    assert np.array_equal(samples(player.audio_uri(loud, RATE)), as_16_bit(loud / np.abs(loud).max()))
    quiet = sound(peak=1e-3).astype(np.float32)
    assert np.array_equal(samples(player.audio_uri(quiet, RATE)), as_16_bit(quiet))


def test_a_table_of_hits(tmp_path):
    soup = parsed(hits(tmp_path / "page.html"))
    rows = soup.select("tbody tr")
    assert [row.th.text for row in rows] == ["1", "2"]
    assert [row.strong.text for row in rows] == ["Menuet <i>", "K. 545"]
    assert [[span.text for span in row.find_all("span")] for row in rows] == [
        ["page 1, system 2", "0:00.0 to 0:01.5"],
        ["page 3, system 1", "0:08.2 to 0:10.0"],
    ]
    assert [row.find_all("td")[1].text for row in rows] == ["0.913", "0.250"]
    for row, (first, last), height in zip(rows, ((0, 12_000), (66_000, 80_000)), (180, 200), strict=True):
        assert np.array_equal(samples(row.audio["src"]), as_16_bit(sound())[first:last])
        assert Image.open(content(row.img["src"], "image/png")).size == (WIDTH, height)


# -- bad input ---------------------------------------------------------------------------------------------------------


def changed_moment(**fields):
    moments = MOMENTS_PLAYED.copy()
    for name, value in fields.items():
        moments[name][3] = value
    return moments


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (dict(pages=[]), "no page"),
        (dict(moments=MOMENTS_PLAYED[:0]), "no moment"),
        (dict(moments=MOMENTS_PLAYED[::-1]), "order"),
        (dict(moments=changed_moment(seconds=np.nan)), "order"),
        (dict(moments=MOMENTS_PLAYED[:1], systems=[]), "at 1.000 s is in system 0 of page 0,"),
        (dict(moments=changed_moment(page=2)), "at 6.000 s is in system 1 of page 2,"),
        (dict(moments=changed_moment(page=-1)), "of page -1,"),
        (dict(moments=changed_moment(system=2)), "system 2 of page 0,"),  # the second page's first is not meant
        (dict(moments=changed_moment(system=-1)), "system -1 of page 0,"),
        (dict(moments=changed_moment(column=835)), "beside the page"),
        (dict(moments=changed_moment(column=-2)), "beside the page"),
        (dict(moments=changed_moment(column=np.nan)), "beside the page"),
        (dict(audio=np.zeros(0)), "no sound"),
        (dict(audio=np.array([0.1, np.inf])), "no numbers"),
        (dict(audio=np.array([0.1, np.nan])), "no numbers"),
    ],
)
def test_what_cannot_be_followed(changed, told, tmp_path):
    with pytest.raises(DuetError, match=told) as caught:
        follow(tmp_path / "page.html", **changed)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stretch", [(-0.1, 1), (1, 1), (2, 1), (9, 10.1), (np.nan, 1), (1, np.nan)])
def test_hits_outside_the_recording(stretch, tmp_path):
    with pytest.raises(DuetError, match="hit 1 is for"):
        hits(tmp_path / "page.html", hits=[Hit("", "", 0.5, drawn(180), *stretch)])
    assert not list(tmp_path.iterdir())


def test_no_hits_and_no_sound(tmp_path):
    with pytest.raises(DuetError, match="no hit"):
        hits(tmp_path / "page.html", hits=[])
    with pytest.raises(DuetError, match="no numbers"):
        hits(tmp_path / "page.html", audio=np.full(10 * RATE, np.nan))
    assert not list(tmp_path.iterdir())


# -- in a browser ------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")


def shown(path, fragment="", script=""):
    """The page as the browser has it after its scripts, and after one more, whose result is returned instead."""
    if script:
        wrapped = (
            "<script>(async () => { let r; try { r = await (async () => {"
            + script
            + "})() } catch (e) { r = String(e) }"
            " document.body.innerHTML = '<pre></pre>'; document.querySelector('pre').textContent = JSON.stringify(r)"
            "})()</script></body>"
        )
        path.write_text(path.read_text().replace("</body>", wrapped))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--window-size=700,900",
               f"--user-data-dir={path.parent / 'profile'}", "--virtual-time-budget=10000", "--dump-dom"]  # fmt: skip
    done = subprocess.run(
        [CHROMIUM, *options, f"{path.as_uri()}#{fragment}"], capture_output=True, text=True, timeout=500
    )
    soup = BeautifulSoup(done.stdout, "html.parser")
    return json.loads(soup.pre.text) if script else soup


# (seconds, page, top and bottom of the system with its margin, column), all by hand
STATIONS = [
    (0, 0, 72, 228, 100),  # before the first moment
    (1, 0, 72, 228, 100),
    (2.5, 0, 72, 228, 250),
    (3, 0, 72, 228, 300),
    (3.75, 0, 72, 228, 300),  # it waits at the end of a system
    (4, 0, 972, 1128, 50),
    (5.25, 0, 972, 1128, 425),
    (6.9, 0, 972, 1128, 650),  # and of a page, though the next one begins further right
    (7.25, 1, 272, 405, 710),  # it does not slide to the left; its margin ends halfway to the next system
    (8, 1, 272, 405, 90),
    (8.5, 1, 272, 405, 245),
    (9.7, 0, 72, 228, 200),  # the repeat
    (9.99, 0, 72, 228, 300),  # after the last moment
]


@in_a_browser
def test_the_cursor_stands_where_the_address_says(tmp_path):
    soup = shown(follow(tmp_path / "page.html"), "t=5.25")
    (cursor,) = soup.select("#cursor")
    assert soup.select(".page").index(cursor.parent) == 0
    style = dict(part.split(":") for part in cursor["style"].rstrip("; ").split(";"))
    place = {name.strip(): float(value.strip().rstrip("%")) for name, value in style.items()}
    expected = {"left": 100 * 425 / WIDTH, "top": 100 * 972 / 1200, "height": 100 * 156 / 1200}
    assert place == pytest.approx(expected, abs=0.01)


DRIVE = """
const state = () => {
  const box = cursor.getBoundingClientRect(), own = cursor.parentElement.getBoundingClientRect();
  return { page: pages.indexOf(cursor.parentElement), time: audio.currentTime, shift: scrollY,
    place: [(box.left + box.right) / 2 - own.left, box.top - own.top, box.bottom - own.top].map(v => v / own.width),
    barTop: bar.getBoundingClientRect().top,
    inView: box.top >= bar.getBoundingClientRect().bottom && box.bottom <= innerHeight };
};
const result = { start: state(), stations: [], clicks: [], keys: [], calls: [], width: document.body.scrollWidth };
if (!audio.readyState) await new Promise(done => audio.addEventListener("loadedmetadata", done));
result.duration = audio.duration;
result.window = innerWidth;
for (const time of TIMES) {
  const turned = new Promise(done => addEventListener("hashchange", done, { once: true }));
  location.hash = "t=" + time;
  await turned;
  result.stations.push(state());
}
audio.currentTime = 8.5;
audio.dispatchEvent(new Event("timeupdate"));  // as it comes while it plays
result.played = state();
scrollTo({ top: 0, behavior: "instant" });
dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));  // 6.5 s
scrollTo({ top: 0, behavior: "instant" });
dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));  // 4.5 s, in the same system
result.sought = state();
for (const [now, page, column, row] of CLICKS) {
  audio.currentTime = now;
  const box = pages[page].getBoundingClientRect(), scale = box.width / 835;
  pages[page].firstElementChild.dispatchEvent(new MouseEvent("click",
    { bubbles: true, clientX: box.left + column * scale, clientY: box.top + row * scale }));
  result.clicks.push([audio.currentTime, ...state().place.slice(0, 1)]);
}
audio.play = () => {
  result.calls.push("play");
  Object.defineProperty(audio, "paused", { value: false });
};
audio.pause = () => result.calls.push("pause");
for (const [now, key, ctrlKey] of KEYS) {
  audio.currentTime = now;
  const event = new KeyboardEvent("keydown", { key, ctrlKey, bubbles: true, cancelable: true });
  (ctrlKey ? document.body : audio).dispatchEvent(event);  // the player would do something else with it
  result.keys.push([audio.currentTime, event.defaultPrevented]);
}
return result;
"""

CLICKS = [  # (now, page, column and row of the click), time after it
    ((0, 0, 200, 150), 2.0),
    ((0, 0, 200, 73), 2.0),  # in the margin
    ((9.8, 0, 200, 150), 9.7),  # of two passes the one that is heard now
    ((0, 0, 20, 100), 1.0),  # left of its first note
    ((0, 0, 700, 1050), 6.0),  # right of its last, where the next one begins still further right
    ((0, 0, 500, 1050), 5.5),
    ((0, 1, 245, 300), 8.5),
    ((0, 1, 100, 300), 8 + 10 / 310),  # where the bar has been before it jumped back
    ((4.5, 0, 300, 600), 4.5),  # between two systems
    ((4.5, 1, 300, 450), 4.5),  # a system that is not played
]
KEYS = [  # (now, key, with Ctrl), time after it, whether it was taken
    ((5, "ArrowRight", False), 7, True),
    ((5, "ArrowLeft", False), 3, True),
    ((1, "ArrowLeft", False), 0, True),
    ((5, "ArrowLeft", True), 5, False),
    ((5, "a", False), 5, False),
    ((5, " ", False), 5, True),
    ((5, " ", False), 5, True),
]


@in_a_browser
def test_the_cursor_follows_and_clicks_and_keys_lead(tmp_path):
    drive = DRIVE.replace("TIMES", json.dumps([time for time, *_ in STATIONS]))
    drive = drive.replace("CLICKS", json.dumps([click for click, _ in CLICKS]))
    drive = drive.replace("KEYS", json.dumps([key for key, *_ in KEYS]))
    many = [f"Remark {n}" for n in range(60)]  # more than the window holds
    found = shown(follow(tmp_path / "page.html", remarks=many), script=drive)
    assert isinstance(found, dict), found
    assert found["duration"] == pytest.approx(10, abs=1e-6)
    assert found["width"] <= found["window"]  # nothing sticks out
    assert found["start"]["page"] == 0 and found["start"]["shift"] == 0  # the title is in view
    for (time, page, top, bottom, column), state in zip(STATIONS, found["stations"], strict=True):
        assert state["time"] == pytest.approx(time, abs=1e-3)
        assert state["page"] == page, time
        assert np.multiply(state["place"], WIDTH) == pytest.approx([column, top, bottom], abs=0.3), time
        assert state["inView"] and state["barTop"] == 0, time
    assert found["played"]["page"] == 1 and found["played"]["inView"]
    assert found["sought"]["time"] == pytest.approx(4.5, abs=1e-3) and found["sought"]["inView"]
    assert [time for time, _ in found["clicks"]] == pytest.approx([time for _, time in CLICKS], abs=0.01)
    assert found["clicks"][0][1] * WIDTH == pytest.approx(200, abs=1)  # the cursor has gone along
    assert [time for time, _ in found["keys"]] == pytest.approx([time for _, time, _ in KEYS], abs=1e-3)
    assert [taken for _, taken in found["keys"]] == [taken for *_, taken in KEYS]
    assert found["calls"] == ["play", "pause"]


@in_a_browser
def test_one_stretch_plays_at_a_time(tmp_path):
    script = """
    const paused = [];
    players.forEach((one, number) => { one.pause = () => paused.push(number) });
    players[1].dispatchEvent(new Event("play"));
    return [paused, document.body.scrollWidth <= innerWidth];
    """
    assert shown(hits(tmp_path / "page.html"), script=script) == [[0], True]

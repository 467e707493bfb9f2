"""MSMD's layout: a piece as published, a piece as written here, and files that are damaged."""

import shutil

import numpy as np
import pretty_midi
import pytest
import yaml
from PIL import Image

from duet import DuetError, files
from duet.corpora import msmd
from duet.corpora.msmd import Msmd
from duet.engraving import Notehead, Sheet, System
from duet.filterbank import log_filterbank

PIECE = "BachCPE__cpe-bach-rondo__cpe-bach-rondo"
TAKE = f"{PIECE}_tempo-1000_ElectricPiano"
SLOW = f"{PIECE}_tempo-2000_grand-piano-YDP-20160804"


def notehead(identity, top, left, pitch, tied, system, seconds=None, take=TAKE):
    """As the data set's README prints one."""
    data = f'<DataItem key="tied" type="int">{int(tied)}</DataItem>\n'
    if seconds is not None:
        data += f'<DataItem key="{take}_onset_frame" type="int">{int(np.ceil(20 * seconds))}</DataItem>\n'
        data += f'<DataItem key="{take}_note_event_idx" type="int">48</DataItem>\n'
        data += f'<DataItem key="{take}_onset_seconds" type="float">{seconds}</DataItem>\n'
    return f"""<CropObject xml:id="msmd_aug___{PIECE}_ly-P00___{identity}">
  <Id>{identity}</Id>
  <ClassName>notehead-full</ClassName>
  <Top>{top}</Top><Left>{left}</Left><Width>9</Width><Height>7</Height>
  <Mask>0:0 1:63</Mask>
  <Outlinks>{system}</Outlinks>
  <Data>
    {data}<DataItem key="midi_pitch_code" type="int">{pitch}</DataItem>
    <DataItem key="ly_link" type="str">textedit:///somewhere/{PIECE}.norm.ly:704:15:16</DataItem>
  </Data>
</CropObject>
"""


def system(identity, top, left, height, width):
    return f"""<CropObject xml:id="msmd_aug___{PIECE}_ly-P00___{identity}">
  <Id>{identity}</Id><ClassName>staff</ClassName>
  <Top>{top}</Top><Left>{left}</Left><Width>{width}</Width><Height>{height}</Height>
  <Mask>0:0 1:{height * width}</Mask><Inlinks>0 1</Inlinks>
</CropObject>
"""


def graph(*objects):
    schema = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
    return f"<?xml version='1.0' encoding='utf-8'?><CropObjectList {schema}><CropObjects>{''.join(objects)}" + (
        "</CropObjects></CropObjectList>"
    )


@pytest.fixture
def published(tmp_path):
    """Two pages; the first one's systems are listed in the wrong order, and one notehead belongs to none."""
    score = tmp_path / PIECE / "scores" / f"{PIECE}_ly"
    for kind in ("img", "mung", "coords"):
        (score / kind).mkdir(parents=True)
    for page in (1, 2):
        image = np.full((1181, 835), 255, np.uint8)
        image[250 * page, 50:785] = 0
        Image.fromarray(image).save(score / "img" / f"{page:02}.png")
    (score / "mung" / "01.xml").write_text(
        graph(
            notehead(0, 118, 598, 68, False, 1824, 12.727274),
            notehead(1, 400, 100, 60, False, 1823, 14.0),
            notehead(2, 118, 700, 68, True, 1824),
            notehead(3, 900, 100, 61, False, 9999, 15.0),
            system(1823, 380, 50, 80, 735),
            system(1824, 100, 50, 80, 735),
        )
    )
    (score / "mung" / "02.xml").write_text(
        graph(notehead(4, 230, 300, 72, False, 1825, 16.0), system(1825, 200, 80, 81, 700))
    )
    for take in (TAKE, SLOW):
        features = tmp_path / PIECE / "performances" / take / "features"
        features.mkdir(parents=True)
        np.save(features / f"{take}.flac_spec.npy", np.zeros((92, 400), np.float32))
        np.save(features / f"{take}.flac_notes.npy", np.zeros((3, 5)))
    (tmp_path / PIECE / "meta.yml").write_text("n_pages: 2\n")
    (tmp_path / "README.md").write_text("MSMD")
    (tmp_path / "all_split.yaml").write_text(yaml.safe_dump({"train": [PIECE], "valid": [], "test": []}))
    return tmp_path


def test_a_published_piece(published):
    corpus = Msmd(published)
    assert corpus.pieces == [PIECE] and corpus.name == "MSMD"
    assert [p.shape for p in corpus.pages(PIECE)] == [(1181, 835)] * 2
    heads = corpus.noteheads(PIECE)
    assert heads["pitch"].tolist() == [61, 68, 68, 60, 72]  # the stray one first, then by system
    assert heads["system"].tolist() == [-1, 0, 0, 1, 0]
    assert heads["page"].tolist() == [0, 0, 0, 0, 1]
    assert heads["tied"].tolist() == [False, False, True, False, False]
    first = heads[1]
    assert (first["row"], first["column"]) == (118 + 3.5 - 0.5, 598 + 4.5 - 0.5)
    assert corpus.performances(PIECE) == [TAKE, SLOW]
    assert corpus.onsets(PIECE, TAKE) == pytest.approx([15.0, 12.727274, np.nan, 14.0, 16.0], nan_ok=True)
    assert [s.tolist() for s in corpus.systems(PIECE)] == [[[100, 50, 180, 785], [380, 50, 460, 785]],
                                                           [[200, 80, 281, 780]]]  # fmt: skip
    assert corpus.spectrogram(PIECE, TAKE).shape == (92, 400)
    assert corpus.notes(PIECE, TAKE).shape == (3, 5)
    assert corpus.split() == {"train": [PIECE], "valid": [], "test": []}


def test_names_of_performances():
    assert msmd.tempo_ratio(SLOW) == 2.0 and msmd.tempo_ratio(TAKE) == 1.0
    assert msmd.soundfont(SLOW) == "grand-piano-YDP-20160804" and msmd.soundfont(TAKE) == "ElectricPiano"


def test_the_strip_of_a_published_piece(published):
    strip = Msmd(published).unrolled(PIECE, TAKE)
    assert strip.image.shape == (200, 735 + 735 + 700) and strip.image.dtype == np.uint8
    # the notehead without a system is left out, the tied one has no onset
    assert strip.seconds.tolist() == [12.727274, 14.0, 16.0]
    assert strip.columns.tolist() == [602 - 50, 104 - 50 + 735, 304 - 80 + 1470]
    assert strip.pitches.tolist() == [68, 60, 72]
    assert strip.systems.tolist() == [[0, 12.727274], [735, 14.0], [1470, 16.0]]
    assert strip.widths.tolist() == [735, 735, 700]
    # the first page's line, row 250, is seen from the second system (middle 420, rows 320 to 519) not at all
    assert (strip.image[:, :735] == 0).any(1).nonzero()[0].tolist() == []
    assert (strip.image[:, 735:1470] == 0).any(1).nonzero()[0].tolist() == []
    assert Msmd(published).unrolled(PIECE, TAKE, rows=180).image.shape[0] == 180


def test_rows_beyond_the_page_repeat_its_edge(published):
    path = published / PIECE / "scores" / f"{PIECE}_ly" / "img" / "01.png"
    image = np.asarray(Image.open(path)).copy()
    image[0], image[1] = 7, 9
    Image.fromarray(image).save(path)
    graph_path = published / PIECE / "scores" / f"{PIECE}_ly" / "mung" / "01.xml"
    graph_path.write_text(graph(notehead(0, 30, 100, 60, False, 5, 1.0), system(5, 10, 50, 80, 735)))
    strip = Msmd(published).unrolled(PIECE, TAKE)
    assert strip.image[:51, 0].tolist() == [7] * 51 and strip.image[51, 0] == 9  # the middle, row 50, is row 100


# -- writing -----------------------------------------------------------------------------------------------------------

HEADS = [  # page, system, staff, top, left, bottom, right, onset, duration, pitch, tied, grace
    Notehead(0, 0, 0, 60.2, 100.3, 67.2, 109.3, 0.0, 1.0, 72, False, False),
    Notehead(0, 0, 1, 120.0, 100.0, 127.0, 109.0, 0.0, 2.0, 48, False, False),
    Notehead(0, 0, 0, 60.2, 300.3, 67.2, 309.3, 1.0, 1.0, 72, True, False),
    Notehead(0, 1, 0, 400.0, 200.0, 407.0, 209.0, 2.0, 1.0, 74, False, False),
    Notehead(1, 0, 1, 110.5, 50.0, 117.5, 59.0, 3.0, 1.0, 50, False, False),
]
SYSTEMS = [System(0, 50.4, 40.0, 130.4, 800.0, 2), System(0, 380.0, 20.0, 460.0, 800.0, 2),
           System(1, 40.0, 20.0, 120.0, 700.0, 2)]  # fmt: skip
SECONDS = [0.0, 0.0, np.nan, 1.0, 1.51]


@pytest.fixture
def written(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (1181, 835)).astype(np.uint8) for _ in range(2)]
    sheet = Sheet(tuple(images), tuple(SYSTEMS), tuple(HEADS), (0.0,), ())
    notes = np.array([(0.0, 48, 1.0, 64, 0), (0.0, 72, 0.9, 64, 0), (1.0, 74, 0.5, 64, 0), (1.51, 50, 0.5, 64, 0)])
    audio = (0.1 * np.sin(2 * np.pi * 440 * np.arange(60_000) / 22_050)).astype(np.float32)
    msmd.write_performance(tmp_path, "A__b__c", "A__b__c_tempo-1000_x-0", notes, audio)
    msmd.write_sheet(tmp_path, "A__b__c", sheet, {"A__b__c_tempo-1000_x-0": np.array(SECONDS)}, "c.ly")
    msmd.write_split(tmp_path, {"train": ["A__b__c"], "valid": [], "test": []})
    return tmp_path, sheet, notes


def test_what_is_written_is_read_again(written):
    root, sheet, notes = written
    corpus, take = Msmd(root), "A__b__c_tempo-1000_x-0"
    for ours, page in zip(sheet.images, corpus.pages("A__b__c"), strict=True):
        assert np.array_equal(ours, page)
    heads = corpus.noteheads("A__b__c")
    order = [1, 0, 2, 3, 4]  # by system and column
    assert heads["pitch"].tolist() == [HEADS[i].pitch for i in order]
    assert heads["column"] == pytest.approx([HEADS[i].column for i in order], abs=1e-3)
    assert heads["row"] == pytest.approx([HEADS[i].row for i in order], abs=1e-3)
    assert heads["tied"].tolist() == [HEADS[i].tied for i in order]
    assert corpus.onsets("A__b__c", take) == pytest.approx([SECONDS[i] for i in order], nan_ok=True)
    boxes = corpus.systems("A__b__c")
    assert [b.tolist() for b in boxes] == [[[50, 40, 130, 800], [380, 20, 460, 800]], [[40, 20, 120, 700]]]
    assert corpus.split() == {"train": ["A__b__c"], "valid": [], "test": []}
    strip = corpus.unrolled("A__b__c", take)
    assert strip.columns == pytest.approx([100 + 4 - 40, 100.3 + 4 - 40, 200 + 4 - 20 + 760, 50 + 4 - 20 + 1540])
    assert corpus.problems() == {}


def test_features_are_as_in_the_published_ones(written):
    root, _, notes = written
    take = "A__b__c_tempo-1000_x-0"
    folder = root / "A__b__c" / "performances" / take
    stored = Msmd(root).notes("A__b__c", take)
    assert stored[:, 1].tolist() == [72, 48, 74, 50]  # by onset, then from the highest pitch
    onsets = np.load(folder / "features" / f"{take}_onsets.npy")
    assert onsets.tolist() == [0, 0, 20, 31]  # ceil: 1.51 s is in frame 31
    roll = np.load(folder / "features" / f"{take}_midi.npy")
    assert roll.shape[0] == 128 and roll.dtype == np.uint8
    assert np.flatnonzero(roll[72]).tolist() == list(range(18)) and np.flatnonzero(roll[50])[0] == 31
    midi = pretty_midi.PrettyMIDI(str(folder / f"{take}.mid"))
    assert sorted((n.pitch, n.velocity) for n in midi.instruments[0].notes) == [(48, 64), (50, 64), (72, 64), (74, 64)]
    assert yaml.safe_load((root / "A__b__c" / "meta.yml").read_text())["aln_piece_stats"] == {
        "aligned": 4, "noteheads": 5, "tied": 1
    }  # fmt: skip
    coords = root / "A__b__c" / "scores" / "A__b__c_ly" / "coords"
    assert np.load(coords / "notes_01.npy")[0] == pytest.approx([63.2, 104.3])  # box middle minus 0.5
    corners = np.load(coords / "systems_01.npy")[0]
    assert corners.tolist() == [[50.4, 40.0], [50.4, 800.0], [130.4, 800.0], [130.4, 40.0]]
    graph_text = (root / "A__b__c" / "scores" / "A__b__c_ly" / "mung" / "01.xml").read_text()
    assert graph_text.count("<ClassName>staff</ClassName>") == 2 and "<Outlinks>5</Outlinks>" in graph_text
    assert f'key="{take}_note_event_idx" type="int">2<' in graph_text


# -- the spectrogram ---------------------------------------------------------------------------------------------------


def test_the_spectrogram_of_a_tone():
    """The recipe step by step, on its own."""
    audio = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050).astype(np.float32)
    found = log_filterbank(audio)
    assert found.shape == (92, 20) and found.dtype == np.float32
    start = int(1102.5 * 3)
    magnitude = np.abs(np.fft.rfft(audio[start : start + 2048] * np.hanning(2048)))[:1024]
    bins = sorted({round(440 * 2 ** (k / 16) * 2048 / 22_050) for k in range(-63, 61)})
    assert len(bins) == 94 and min(bins) == 3
    band = int(found[:, 3].argmax())
    low, middle, high = bins[band : band + 3]
    assert low <= 440 * 2048 / 22_050 <= high
    weights = np.concatenate([np.arange(middle - low) / (middle - low), 1 - np.arange(high - middle) / (high - middle)])
    value = (magnitude[low:high] * weights).sum() / weights.sum()
    assert found[band, 3] == pytest.approx(np.log10(1 + value), rel=1e-5)


def test_a_frame_begins_at_its_time():
    audio = np.zeros(22_050, np.float32)
    audio[11_025] = 1.0  # half a second: frame 10 begins there
    loud = np.flatnonzero(log_filterbank(audio).max(0) > 1e-4)
    assert loud.max() == 9 and loud.min() == 9  # a window has no weight at its first sample


# -- damage ------------------------------------------------------------------------------------------------------------


def one_line(call, *words):
    with pytest.raises(DuetError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_folders_that_are_no_corpus(tmp_path):
    one_line(lambda: Msmd(tmp_path / "none"), "no such")
    one_line(lambda: Msmd(tmp_path), "not laid out")


def test_damaged_files(published):
    score = published / PIECE / "scores" / f"{PIECE}_ly"
    corpus = Msmd(published)
    one_line(lambda: corpus.pages("Nobody__1__x"), "Nobody__1__x")
    one_line(lambda: corpus.onsets(PIECE, "other"), "other")
    assert "no notehead sounds" in corpus.problems()[PIECE]
    shutil.rmtree(published / PIECE / "performances" / SLOW)
    assert corpus.problems()[PIECE].startswith("usable: ")
    (score / "mung" / "02.xml").write_text("<CropObjectList><CropObject>")
    one_line(lambda: corpus.noteheads(PIECE), "02.xml")
    (score / "mung" / "02.xml").write_text(graph("<CropObject><Id>1</Id><ClassName>staff</ClassName></CropObject>"))
    one_line(lambda: Msmd(published).noteheads(PIECE), "02.xml")
    (score / "img" / "02.png").write_bytes((score / "img" / "02.png").read_bytes()[:200])
    one_line(lambda: corpus.pages(PIECE), "02.png")
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(score / "img" / "02.png")
    one_line(lambda: corpus.pages(PIECE), "30 pixels wide")


def test_damaged_features(published):
    features = published / PIECE / "performances" / TAKE / "features"
    path = features / f"{TAKE}.flac_spec.npy"
    corpus = Msmd(published)
    path.write_bytes(path.read_bytes()[:1000])
    one_line(lambda: corpus.spectrogram(PIECE, TAKE), "spec.npy")
    np.save(path, np.zeros((40, 7)))
    one_line(lambda: corpus.spectrogram(PIECE, TAKE), "(40, 7)")
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    one_line(lambda: corpus.spectrogram(PIECE, TAKE), "spec.npy")
    shutil.copy(path, features / "second_spec.npy")
    one_line(lambda: corpus.spectrogram(PIECE, TAKE), "2 files")


@pytest.mark.parametrize("text", ["[", "train: x", "train: [a]\nvalid: [b]", "train: [1]\nvalid: []\ntest: []"])
def test_damaged_splits(published, text):
    (published / "mine.yaml").write_text(text)
    one_line(lambda: Msmd(published).split("mine"), "mine.yaml")


def test_splits_that_do_not_fit(published):
    (published / "mine.yaml").write_text(yaml.safe_dump({"train": [PIECE, "X__y__z"], "valid": [], "test": []}))
    one_line(lambda: Msmd(published).split("mine"), "X__y__z")
    one_line(lambda: Msmd(published).split("unheard-of"), "unheard-of")
    (published / "mine.yaml").write_text(yaml.safe_dump({"train": [PIECE], "valid": [], "test": [PIECE]}))
    one_line(lambda: Msmd(published).split("mine"), "more than once")


def test_fingerprints_differ_where_annotations_do(published):
    first = Msmd(published).fingerprint
    assert Msmd(published).fingerprint == first
    path = published / PIECE / "scores" / f"{PIECE}_ly" / "mung" / "02.xml"
    path.write_text(path.read_text() + "\n")
    assert Msmd(published).fingerprint != first
    files.write_json(published / "corpus.json", {"name": "open", "fingerprint": "abc"})
    assert Msmd(published).fingerprint == "abc" and Msmd(published).name == "open"

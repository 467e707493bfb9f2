"""Speed of study 3's training, alignment and engraving: ``make benchmark``.

Training: an update of 100 pairs with the paper's network and windows of 180 x 200, cutting included, in bf16 with the
faster order of dimensions as the grid trains, against fp32 in torch's default order.  Alignment: a piece of four
minutes, 2,400 excerpts against 1,500 windows, our global DTW against ``librosa.sequence.dtw`` with the same steps; both
get embeddings and make their own costs.  Engraving: pages with the places of their noteheads, raster included, by
Verovio against LilyPond where that is installed.  CPU-seconds of one thread, children included, ratios from one run.
Nothing is asserted; figures go to ``results/benchmarks/alignment.json``.
"""

import itertools
import resource

import librosa
import numpy as np
import pytest
import torch

from duet import dtw, engraving, files, lilypond, paths, runs
from duet.losses import pairwise_ranking_loss
from duet.models.encoders import TwoTowers
from duet.snippets import excerpt, window

PAIRS, ROUNDS = 100, 3
WINDOWS, EXCERPTS = 1500, 2400


def cpu():
    """CPU-seconds of this process and of those it has waited for: LilyPond is one of its own."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


CPU = pytest.mark.benchmark(timer=cpu, warmup=False)


@pytest.fixture(scope="module")
def figures():
    found = {"unit": "per CPU-second of one thread", "processor": runs.provenance()["processor"]}
    yield found
    for name, (ours, theirs) in {
        "training": ("training pairs, bf16, channels last", "training pairs, fp32"),
        "alignment": ("alignments", "alignments by librosa"),
        "engraving": ("pages by Verovio", "pages by LilyPond"),
    }.items():
        if ours in found and theirs in found:
            found[f"{name}, ratio"] = round(found[ours] / found[theirs], 2)
    found = {k: v if isinstance(v, str) else float(f"{v:.3g}") for k, v in found.items()}
    files.write_json(paths.results() / "benchmarks" / "alignment.json", found)
    print("\n" + "\n".join(f"{name}: {value}" for name, value in found.items()))


class PlainOrder(TwoTowers):
    """The same network with torch's default order of dimensions."""

    @staticmethod
    def _encode(encoder, pictures):
        return encoder(pictures).float()


@CPU
@pytest.mark.parametrize(("name", "network", "half"), [
    ("training pairs, fp32", PlainOrder, False), ("training pairs, bf16, channels last", TwoTowers, True),
])  # fmt: skip
def test_training(benchmark, figures, name, network, half):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    strip, spectrogram = rng.integers(0, 256, (200, 8000)).astype(np.uint8), rng.random((92, 2000), np.float32)
    model = network()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def update():
        columns, frames = rng.integers(0, 8000, PAIRS), rng.integers(0, 2000, PAIRS)
        sheets = np.stack([window(strip, c, scale=rng.uniform(0.95, 1.05), down=2) for c in columns])
        sheets = torch.from_numpy(sheets)[:, None].float() / 255
        excerpts = torch.from_numpy(np.stack([excerpt(spectrogram, int(f)) for f in frames]))[:, None]
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            embedded = model(sheets, excerpts)
        pairwise_ranking_loss(*embedded, 0.7).backward()
        optimiser.step()

    benchmark.pedantic(update, rounds=ROUNDS, warmup_rounds=1)
    figures[name] = PAIRS / benchmark.stats.stats.min


@CPU
@pytest.mark.parametrize("name", ["alignments by librosa", "alignments"])
def test_alignment(benchmark, figures, name):
    rng = np.random.default_rng(1)
    sheet, audio = (rng.standard_normal((32, n)) for n in (WINDOWS, EXCERPTS))
    sheet, audio = sheet / np.linalg.norm(sheet, axis=0), audio / np.linalg.norm(audio, axis=0)

    def theirs():
        steps = np.array([[1, 1], [1, 0], [0, 1]])
        return librosa.sequence.dtw(C=1 - sheet.T @ audio, step_sizes_sigma=steps)[1]

    align = theirs if name.endswith("librosa") else lambda: dtw.global_path(sheet, audio)
    benchmark.pedantic(align, rounds=ROUNDS, warmup_rounds=1)
    figures[name] = 1 / benchmark.stats.stats.min


def music(rng, bars):
    """(bars, 2, 8): diatonic steps from middle C of the quavers of two hands."""
    steps = np.cumsum(rng.integers(-2, 3, (2, 8 * bars)), 1)
    steps = np.abs((steps + 7) % 28 - 14) - 7 + np.array([[7], [-5]])  # folded back into two octaves
    return steps.reshape(2, bars, 8).swapaxes(0, 1)


def kern(hands):
    def name(step):
        octave, letter = divmod(int(step), 7)
        letter = "cdefgab"[letter]
        return "8" + (letter * (octave + 1) if octave >= 0 else letter.upper() * -octave)

    lines = ["**kern\t**kern", "*clefF4\t*clefG2", "*M4/4\t*M4/4"]
    for number, (right, left) in enumerate(hands, 1):
        lines.append(f"={number}\t={number}")
        lines += [f"{name(b)}\t{name(a)}" for a, b in zip(right, left, strict=True)]
    return "\n".join([*lines, "==\t==", "*-\t*-"])


def lily(hands):
    def name(step):
        octave, letter = divmod(int(step), 7)
        return "cdefgab"[letter] + ("'" * (octave + 1) if octave >= 0 else "," * (-octave - 1)) + "8"

    right, left = (" ".join(name(s) for bar in hands for s in bar[hand]) for hand in (0, 1))
    staves = f"\\new Staff {{ {right} }} \\new Staff {{ \\clef bass {left} }}"
    return f'\\version "2.18.2"\n\\score {{ \\new PianoStaff << {staves} >> \\layout {{ }} \\midi {{ }} }}\n'


@CPU
@pytest.mark.parametrize("engraver", ["Verovio", "LilyPond"])
def test_engraving(benchmark, figures, engraver, tmp_path, monkeypatch):
    """A movement of 240 bars in quavers for two hands."""
    hands = music(np.random.default_rng(2), 240)
    if engraver == "Verovio":
        mei = engraving.mei_of(kern(hands), "humdrum")
        engrave = lambda: engraving.engrave_pages(mei)  # noqa: E731
    else:
        if not lilypond.available():
            pytest.skip("LilyPond is not installed")
        monkeypatch.setenv("DUET_CACHE", str(tmp_path / "cache"))
        numbers = itertools.count()

        def engrave():  # another source each time, as the same one would come from the cache
            path = tmp_path / f"{next(numbers)}.ly"
            path.write_text(f"% {path.name}\n{lily(hands)}")
            return lilypond.engrave(path)

    sheet = benchmark.pedantic(engrave, rounds=ROUNDS, warmup_rounds=1)
    assert len(sheet.noteheads) == hands.size
    figures[f"pages by {engraver}"] = len(sheet.images) / benchmark.stats.stats.min

"""What the first study promises about speed, measured: ``make benchmark``.

Times are CPU-seconds of one thread, so that what else the machine does hardly counts, and every ratio is of two
figures of this run.  Nothing is asserted about time; figures are printed and written to
``results/benchmarks/transfer_learning.json``.
"""

import io
import itertools
import time

import librosa
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from duet import DuetError, engraving, features, files, paths, published, runs, semantic
from duet.corpora import openscores, primus
from duet.models.crnn import CRNN, PAPER
from duet.studies import transfer_learning as study

torch.set_num_threads(1)
CPU = pytest.mark.benchmark(timer=time.process_time, warmup=False)
CLIPS, CODES = 32, 100
PASSES = 9  # an overnight run sees 38,400 pictures of 4,184 incipits
PUBLISHED = dict(rows=256, batch=4, precision=torch.float32)  # Alfaro-Contreras et al., SMC 2022
OURS = dict(rows=64, batch=16, precision=torch.bfloat16)  # the overnight preset


def plaine_and_easie():
    """[(id, code)] of the first RISM incipits that the corpus takes, or None where the open scores are not there."""
    try:
        folder = openscores.require("rism")
    except DuetError:
        return None

    def usable():
        for identity, code in primus.rism_records(folder):
            try:
                tokens = semantic.tokens_from_mei(engraving.mei_from_pae(**code)) if code["timesig"] else []
            except DuetError:
                continue
            limits = study.PRESETS["overnight"]
            if limits.tokens[0] <= len(tokens) <= limits.tokens[1] and semantic.length(tokens) <= limits.quarters:
                yield identity, code

    return list(itertools.islice(usable(), CODES))


@pytest.fixture(scope="module")
def sources():
    """(what they are, [(id, function that gives MEI and tokens)])."""
    if codes := plaine_and_easie():

        def read(code):
            mei = engraving.mei_from_pae(**code)
            return mei, semantic.tokens_from_mei(mei)

        return "RISM, Plaine & Easie", [(identity, lambda code=code: read(code)) for identity, code in codes]
    tunes = primus.music21_tunes(tunes=80)[:CODES]
    return "music21 ryansMammoth, tokens", [
        (t.id, lambda t=t: ((mei := semantic.mei_from_tokens(t.tokens)), semantic.tokens_from_mei(mei))) for t in tunes
    ]


@pytest.fixture(scope="module")
def corpus(sources, tmp_path_factory):
    """A corpus of some of them with WAV beside it, as the published input pipeline reads it, and both picture sets."""
    folder = tmp_path_factory.mktemp("benchmark")
    incipits = []
    for identity, read in sources[1][:CLIPS]:
        mei, tokens = read()
        incipits.append(primus.Incipit(identity, mei, tuple(tokens)))
    settings = primus.BuildSettings(soundfont="timgm6mb")
    built = primus.build(folder / "corpus", incipits, settings, {"name": "benchmark", "fingerprint": "b"}, workers=1)
    for identity in built.ids:
        flac = built.audio_path(identity)
        audio, rate = soundfile.read(flac)
        soundfile.write(flac.with_suffix(".wav"), audio, rate)
        flac.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUET_CACHE", str(folder / "cache"))
        yield built, features.pictures(built, features.Picture("audio", OURS["rows"]), built.ids, workers=1)


@pytest.fixture(scope="module")
def figures():
    """Collects what was measured; prints it and writes it at the end."""
    found = {"unit": "CPU-seconds of one thread", "processor": runs.provenance()["processor"]}
    yield found
    seconds = found.setdefault("seconds", {})
    for ratio, (slow, fast) in {
        "audio input, cached over published": ("audio input, published, a sample", "audio input, cached, a sample"),
        "training, ours over published": ("training, published, a sample", "training, ours, a sample"),
        "training, ours over published, one corpus and fp32": (
            "training, published, a sample",
            "training, ours in fp32, a sample",
        ),
    }.items():
        if slow in seconds and fast in seconds:
            found.setdefault("ratios", {})[ratio] = round(seconds[slow] / seconds[fast], 1)
    if all(f"audio input, {part}, a sample" in seconds for part in ("published", "cached", "made once")):
        slow, fast, once = (seconds[f"audio input, {part}, a sample"] for part in ("published", "cached", "made once"))
        found["ratios"][f"audio input of {PASSES} epochs, the cache's making included"] = round(
            slow / (fast + once / PASSES), 1
        )
    if "corpus, an incipit" in seconds:
        found["corpus, incipits per CPU-second"] = round(1 / seconds["corpus, an incipit"], 1)
    seconds.update({name: float(f"{value:.4g}") for name, value in seconds.items()})
    files.write_json(paths.results() / "benchmarks" / "transfer_learning.json", found)
    print("\n" + "\n".join(f"{name}: {value}" for name, value in sorted(flat(found).items())))


def flat(nested, prefix=""):
    return {
        k: v
        for key, value in nested.items()
        for k, v in (flat(value, f"{prefix}{key}: ") if isinstance(value, dict) else {prefix + key: value}).items()
    }


def published_picture(path):
    """The published code's way, at every draw of a sample: load, constant-Q in dB, resize to 256 rows, as float."""
    audio, _ = librosa.load(path, sr=features.SAMPLE_RATE)
    transform = features.constant_q(audio)
    width = max(8, int(PUBLISHED["rows"] * transform.shape[1] / transform.shape[0]))
    return np.asarray(Image.fromarray(transform).resize((width, PUBLISHED["rows"]), Image.Resampling.BOX))


def collate_floats(pictures):
    batch = np.zeros((len(pictures), PUBLISHED["rows"], max(p.shape[1] for p in pictures)), np.float32)
    for row, picture in zip(batch, pictures, strict=True):
        row[:, : picture.shape[1]] = picture
    return torch.from_numpy(batch), torch.tensor([p.shape[1] for p in pictures])


def median(benchmark):
    return benchmark.stats.stats.median


@CPU
def test_audio_input_published(benchmark, corpus, figures):
    built, _ = corpus
    for identity in built.ids[:2]:  # compiles what librosa compiles
        published_picture(built.audio_path(identity))

    def draw():
        for k in range(0, CLIPS, PUBLISHED["batch"]):
            collate_floats([published_picture(built.audio_path(i)) for i in built.ids[k : k + PUBLISHED["batch"]]])

    benchmark.pedantic(draw, rounds=3)
    figures.setdefault("seconds", {})["audio input, published, a sample"] = median(benchmark) / CLIPS


@CPU
def test_audio_input_cached(benchmark, corpus, figures):
    """The cached uint8 pictures, batched by width and brought to [0, 1] as a training step does."""
    built, pictures = corpus
    tokens = {i: built.tokens(i) for i in built.ids}
    data = type("Data", (), {"tokens": tokens, "index": index_of(tokens)})
    count = CLIPS // OURS["batch"]

    def draw():
        for epoch in range(50):
            for batch in study.batches([(pictures, built.ids)], data, OURS["batch"], 0, epoch, count):
                batch[0].to(torch.float32) / 255

    benchmark.pedantic(draw, rounds=3)
    drawn = 50 * count * OURS["batch"]
    figures.setdefault("seconds", {})["audio input, cached, a sample"] = median(benchmark) / drawn


@CPU
def test_audio_input_made_once(benchmark, corpus, figures):
    """What the cache costs before the first epoch."""
    built, _ = corpus
    kind = features.Picture("audio", OURS["rows"])
    benchmark.pedantic(lambda: [features.picture(built, kind, i) for i in built.ids], rounds=3, warmup_rounds=1)
    figures.setdefault("seconds", {})["audio input, made once, a sample"] = median(benchmark) / CLIPS


def index_of(tokens):
    return {t: k for k, t in enumerate(sorted({t for part in tokens.values() for t in part}))}


def learner(rows, lr=1e-3):
    torch.manual_seed(0)
    network = CRNN(rows, published.TRANSFER_OUTPUTS, PAPER).train()
    return network, torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=lr, eps=1e-7)


def step(network, optimiser, batch, precision):
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        loss = study.ctc_loss(network, batch)
    loss.backward()
    optimiser.step()


@CPU
def test_training_published(benchmark, corpus, figures):
    """Decode and transform in the loop, 256 rows, batches of 4 as they come, fp32."""
    built, _ = corpus
    tokens = {i: built.tokens(i) for i in built.ids}
    index, (network, optimiser) = index_of(tokens), learner(PUBLISHED["rows"])
    batches = itertools.cycle(built.ids[k : k + 4] for k in range(0, CLIPS, 4))

    def train():
        ids = next(batches)
        pictures, widths = collate_floats([published_picture(built.audio_path(i)) for i in ids])
        targets = [[index[t] for t in tokens[i]] for i in ids]
        flat_targets = torch.tensor([k for t in targets for k in t])
        step(
            network,
            optimiser,
            (pictures * 255, widths, flat_targets, torch.tensor([len(t) for t in targets])),
            PUBLISHED["precision"],
        )

    benchmark.pedantic(train, rounds=CLIPS // 4, warmup_rounds=1)
    figures.setdefault("seconds", {})["training, published, a sample"] = benchmark.stats.stats.mean / 4


@CPU
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def test_training_ours(benchmark, corpus, figures, precision):
    """Cached pictures, 64 rows, batches of 16 of a like width."""
    built, pictures = corpus
    tokens = {i: built.tokens(i) for i in built.ids}
    data = type("Data", (), {"tokens": tokens, "index": index_of(tokens)})
    network, optimiser = learner(OURS["rows"])
    batches = study.batches([(pictures, built.ids)], data, OURS["batch"], 0, 0, 99)
    benchmark.pedantic(lambda: step(network, optimiser, next(batches), precision), rounds=8, warmup_rounds=2)
    name = "training, ours, a sample" if precision is OURS["precision"] else "training, ours in fp32, a sample"
    figures.setdefault("seconds", {})[name] = benchmark.stats.stats.mean / OURS["batch"]


@CPU
def test_corpus_building(benchmark, sources, figures):
    """Clean and camera's picture as PNG and JPEG, and the tokens, from Plaine & Easie."""
    figures["corpus, source"], figures["corpus, incipits"] = sources[0], len(sources[1])

    def build():
        size = 0
        for identity, read in sources[1]:
            seed = int.from_bytes(bytes.fromhex(files.digest(identity)[:16]), "big")
            mei, tokens = read()
            clean, distorted = primus.images(mei, seed)
            for picture, form, options in (
                (clean, "PNG", {"compress_level": 1}),
                (distorted, "JPEG", {"quality": 40 + seed % 46}),
            ):
                encoded = io.BytesIO()
                Image.fromarray(picture).save(encoded, form, **options)
                size += len(encoded.getvalue())
            size += len(semantic.write_tokens(tokens))
        return size

    size = benchmark.pedantic(build, rounds=3, warmup_rounds=1)
    figures.setdefault("seconds", {})["corpus, an incipit"] = median(benchmark) / len(sources[1])
    figures["corpus, kilobytes an incipit"] = round(size / 1000 / len(sources[1]), 1)

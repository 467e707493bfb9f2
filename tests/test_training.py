"""The training loop: schedules seen from the weights, selection, and runs that are killed and go on."""

import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from duet import DuetError, training
from duet.training import Training, epoch_rng, load_into, load_weights, read_about, save_weights, train

torch.set_num_threads(1)  # as every run has; several would only wait for each other on a busy machine
CONSTANT = Training(updates=12, epochs=3, learning_rate=0.01)


def scalar():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.zero_()
    return model


def descend(settings, scores=None, slope=lambda update: 1.0, **options):
    """Train one weight whose gradient is ``slope``: the weight before each update, at each validation, and the rest.

    Adam's step under a constant gradient is the learning rate itself, so differences of weights are the schedule.
    """
    model, before, at_validation = scalar(), [], []

    def loss_of(model, batch):
        before.append(model.weight.item())
        return model.weight.sum() * slope(len(before) - 1)

    def validate(model):
        assert not model.training
        at_validation.append(model.weight.item())
        return scores[len(at_validation) - 1] if scores else -len(at_validation)

    outcome = train(model, lambda epoch: iter(range(99)), loss_of, validate, settings, seed=0, **options)
    return model, before, at_validation, outcome


def rates(before, at_validation):
    return [a - b for a, b in zip(before, [*before[1:], at_validation[-1]], strict=True)]


# -- schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_warm_up_rises_linearly_and_then_stays(schedule):
    _, before, after, _ = descend(replace(CONSTANT, schedule=schedule, warm_up=4))
    assert rates(before, after) == pytest.approx([0.0025, 0.005, 0.0075] + [0.01] * 9, rel=1e-3)
    _, before, after, _ = descend(replace(CONSTANT, schedule=schedule))
    assert rates(before, after) == pytest.approx([0.01] * 12, rel=1e-3)


def test_one_cycle_rises_and_falls_over_exactly_this_training():
    _, before, after, _ = descend(replace(CONSTANT, updates=40, epochs=4, schedule="one_cycle"))
    low, high, end = 0.01 / 25, 0.01, 0.01 / 25 / 1e4

    def cosine(start, stop, part):
        return stop + (start - stop) * (1 + math.cos(math.pi * part)) / 2

    peak, last = 0.3 * 41 - 1, 40
    expected = [
        cosine(low, high, k / peak) if k <= peak else cosine(high, end, (k - peak) / (last - peak)) for k in range(40)
    ]
    assert rates(before, after) == pytest.approx(expected, rel=5e-3, abs=2e-7)


def test_a_plateau_brings_the_best_weights_back_at_half_the_rate():
    settings = Training(updates=14, epochs=7, learning_rate=0.01, schedule="plateau", patience=2)
    model, before, after, outcome = descend(settings, [5, 3, 4, 3, 9, 2, 8])  # 3 again is no improvement
    assert before[10] == after[1]  # epoch 6 starts from epoch 2
    steps = rates(before, after)
    assert steps[:9] == pytest.approx([0.01] * 9, rel=1e-3)
    assert [before[10] - before[11], before[12] - before[13]] == pytest.approx([0.005] * 2, rel=1e-3)
    assert outcome.best_epoch == 5 and model.weight.item() == after[5]


def test_so_many_halvings_and_the_next_plateau_ends_it():
    settings = Training(updates=40, epochs=20, learning_rate=0.01, schedule="plateau", patience=1, halvings=2)
    _, before, after, outcome = descend(settings, [5, 6, 6, 4, 6, 6, 6, 6, 3, 3])
    assert len(outcome.validation) == 8 and outcome.best_epoch == 3  # plateaus end epochs 3, 6 and 8: one too many
    steps = rates(before, after)
    assert steps[6:8] == pytest.approx([0.005] * 2, rel=1e-3) and steps[12:14] == pytest.approx([0.0025] * 2, rel=1e-3)


def test_halving_goes_on_from_where_it_is_down_to_the_lowest_rate():
    settings = Training(updates=16, epochs=8, learning_rate=0.01, schedule="halving", patience=1, lowest_rate=0.004)
    _, before, after, outcome = descend(settings, [5, 6, 6, 6, 6, 6, 6, 6])
    assert before[6] == after[2] and outcome.best_epoch == 0  # no weights come back
    steps = rates(before, after)
    assert steps[:6] == pytest.approx([0.01] * 6, rel=1e-3)
    assert steps[6:10] == pytest.approx([0.005] * 4, rel=1e-3) and steps[10:] == pytest.approx([0.004] * 6, rel=1e-3)


def test_adamw_decays_matrices_alone():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = Training(1, 1, learning_rate=0.1, optimiser="adamw", weight_decay=0.5)
    train(model, lambda epoch: [0], lambda m, _: sum((p * 0).sum() for p in m.parameters()), lambda m: 0.0, settings,
          seed=0)  # fmt: skip
    after = dict(model.named_parameters())
    assert torch.allclose(after["0.weight"], start["0.weight"] * 0.95)  # no gradient: the decay alone
    assert all(torch.equal(after[n], start[n]) for n in ("0.bias", "1.weight", "1.bias"))
    with pytest.raises(DuetError, match="optimiser"):
        train(model, None, None, None, replace(settings, optimiser="sgd"), seed=0)


def test_patience_may_change_after_the_first_halving():
    settings = Training(
        updates=40, epochs=20, learning_rate=0.01, schedule="plateau", patience=3, later_patience=1, halvings=1
    )
    _, _, _, outcome = descend(settings, [5, 6, 6, 6, 6, 6, 6, 3, 3])
    assert len(outcome.validation) == 7  # four worse epochs, then two


def test_weight_decay_pulls_weights_to_zero():
    kept, decayed = (
        descend(Training(updates=40, epochs=2, learning_rate=0.01, weight_decay=w), [2, 1])[0] for w in (0.0, 10.0)
    )
    assert decayed.weight.abs().sum() < kept.weight.abs().sum()


def test_the_best_epochs_moments_come_back_with_its_weights():
    """Epoch 2's gradient points the other way: its memory of it would turn the first step of epoch 3."""
    settings = Training(updates=30, epochs=3, learning_rate=0.01, schedule="plateau", patience=0)
    slope = lambda update: -1.0 if 10 <= update < 20 else 1.0  # noqa: E731
    _, before, after, _ = descend(settings, [1, 2, 3], slope)
    assert before[20] == after[0]
    assert before[20] - before[21] == pytest.approx(0.005, rel=1e-3)


def test_the_constant_schedule_has_no_plateaus():
    _, before, after, _ = descend(replace(CONSTANT, updates=14, epochs=7, patience=0), [1, 2, 3, 4, 5, 6, 7])
    assert rates(before, after) == pytest.approx([0.01] * 14, rel=1e-3)


def test_clipping_limits_the_gradient():
    def steep(update):
        return 1.0 if update < 6 else 1000.0

    free, *_ = descend(CONSTANT, slope=steep)
    assert free.weight.grad.item() == 1000.0
    clipped, before, after, _ = descend(replace(CONSTANT, clip=0.5), slope=steep)
    assert clipped.weight.grad.item() == pytest.approx(0.5, rel=1e-4)
    assert rates(before, after) == pytest.approx([0.01] * 12, rel=1e-3)


def test_frozen_parameters_stay_out_of_the_optimiser_and_the_norm():
    model = nn.Linear(1, 2)
    model.bias.requires_grad_(False)
    bias = model.bias.clone()
    train(
        model,
        lambda epoch: iter(range(99)),
        lambda m, _: m(torch.ones(1, 1)).sum(),
        lambda m: 0.0,
        replace(CONSTANT, clip=1.0),
        seed=0,
    )
    assert torch.equal(model.bias, bias) and model.bias.grad is None


# -- selection and refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scores", "best"), [([3, 1, 2], 1), ([1, 1, 1], 0), ([3, 2, 1], 2), ([0, 5, 5], 0)])
def test_the_best_validated_epochs_weights_are_returned(scores, best):
    model, _, after, outcome = descend(CONSTANT, scores)
    assert model.weight.item() == after[best] and not model.training
    assert (outcome.best_epoch, outcome.validation, len(outcome.loss)) == (best, scores, 3)


def test_curves_hold_each_epochs_mean_loss():
    _, before, _, outcome = descend(CONSTANT)
    assert outcome.loss == pytest.approx([sum(before[k : k + 4]) / 4 for k in (0, 4, 8)])


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    checkpoint = tmp_path / "run.pt"
    with pytest.raises(DuetError, match=r"toy: the loss is no number in epoch 2 \(lower the learning rate"):
        descend(CONSTANT, slope=lambda update: 1.0 if update < 6 else math.nan, checkpoint=checkpoint, label="toy")
    assert len(torch.load(checkpoint, weights_only=True)["curves"]["loss"]) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (replace(CONSTANT, schedule="cosine"), r"unknown schedule 'cosine' \(one of constant, one_cycle, .*\)"),
        (replace(CONSTANT, updates=2), "2 updates do not fill 3 epochs"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(DuetError, match=said):
        descend(settings)


def test_progress_is_a_line_an_epoch_with_the_time_left(capsys):
    descend(CONSTANT, [3, 1, 2], progress=True, label="toy")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.startswith(f"toy: {k}/3 in ") for k, line in enumerate(lines, 1))
    assert "left  epoch 2, loss" in lines[1] and "validation 1.000" in lines[1]
    descend(CONSTANT)
    assert capsys.readouterr().out == ""


# -- resuming ----------------------------------------------------------------------------------------------------------

NETWORK = [nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3)]


def network():
    torch.manual_seed(0)
    model = nn.Sequential(*NETWORK)
    for layer in model:
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return model


def fit(settings, checkpoint=None, stop_after=None, disturb=0):
    """A small classifier with dropout and batch norm; batches and targets depend on the epoch alone."""
    model = network()
    torch.manual_seed(disturb)  # whatever state the process is in when training starts

    def batches(epoch):
        rng = epoch_rng(3, epoch)
        while True:
            x = torch.from_numpy(rng.normal(size=(8, 6))).float()
            yield x, (x[:, :3] + 0.3 * x[:, 3:]).argmax(1)

    def loss_of(model, batch):
        return nn.functional.cross_entropy(model(batch[0]).float(), batch[1])

    def validate(model):
        x, y = next(batches(99))
        return nn.functional.cross_entropy(model(x).float(), y).item()

    outcome = train(model, batches, loss_of, validate, settings, seed=3, checkpoint=checkpoint, stop_after=stop_after)
    return outcome, {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "settings",
    [
        Training(20, epochs=5, learning_rate=0.05, warm_up=7),
        Training(20, epochs=5, learning_rate=0.05, schedule="one_cycle", clip=1.0),
        Training(20, epochs=5, learning_rate=0.5, schedule="plateau", patience=0),
        Training(20, epochs=5, learning_rate=0.05, schedule="one_cycle", precision="bf16"),
    ],
    ids=lambda s: f"{s.schedule}-{s.precision}",
)
def test_stopped_after_any_epoch_a_run_ends_as_if_undisturbed(settings, tmp_path):
    whole, weights = fit(settings)
    for stop in range(1, settings.epochs + 1):
        checkpoint = tmp_path / f"{stop}.pt"
        partial, _ = fit(settings, checkpoint, stop_after=stop, disturb=1)
        assert len(partial.loss) == stop
        resumed, again = fit(settings, checkpoint, disturb=2)
        assert resumed == whole  # every number of every curve, bit for bit
        assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_precision_and_seed_matter():
    """Else the test above would compare less than it says."""
    settings = Training(20, epochs=5, learning_rate=0.05)
    assert fit(settings)[0].loss != fit(replace(settings, precision="bf16"))[0].loss
    assert len(set(fit(settings)[0].loss)) == 5


def finished(tmp_path, model=None):
    checkpoint = tmp_path / "run.pt"
    train(
        model or scalar(),
        lambda epoch: iter(range(99)),
        lambda m, _: sum(p.sum() for p in m.parameters()),
        lambda m: 0.0,
        CONSTANT,
        seed=0,
        checkpoint=checkpoint,
        stop_after=1,
    )
    return checkpoint


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"not a checkpoint",
        lambda content: content[:100] + bytes(200) + content[300:],
    ],
    ids=["truncated", "empty", "text", "overwritten"],
)
def test_a_damaged_checkpoint_is_named(damage, tmp_path):
    checkpoint = finished(tmp_path)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(DuetError, match=r"run\.pt: is not a readable checkpoint.*delete it to start this run again"):
        descend(CONSTANT, checkpoint=checkpoint)


@pytest.mark.parametrize(
    "content",
    [
        lambda tmp_path: torch.load(finished(tmp_path, nn.Linear(3, 1)), weights_only=True),
        lambda tmp_path: {**torch.load(finished(tmp_path), weights_only=True), "model": {}},
        lambda tmp_path: {k: v for k, v in torch.load(finished(tmp_path), weights_only=True).items() if k != "curves"},
        lambda tmp_path: {"weight": torch.zeros(1)},
        lambda tmp_path: torch.zeros(3),
        lambda tmp_path: [1, 2],
    ],
    ids=["shape", "names", "entry", "weights", "tensor", "list"],
)
def test_a_checkpoint_of_another_network_is_named(content, tmp_path):
    checkpoint = tmp_path / "run.pt"
    torch.save(content(tmp_path), checkpoint)
    with pytest.raises(DuetError, match=r"run\.pt: is a checkpoint of another network.*delete it"):
        descend(CONSTANT, checkpoint=checkpoint)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize(
    "save",
    [
        lambda bad, path: path.write_bytes(pickle.dumps(bad)),
        lambda bad, path: torch.save({"model": bad}, path),
    ],
    ids=["pickle", "torch"],
)
def test_nothing_in_a_checkpoint_is_executed(save, tmp_path):
    marker, checkpoint = tmp_path / "executed", tmp_path / "run.pt"
    pickle.loads(pickle.dumps(Malicious(marker)))
    assert marker.exists()  # what a plain pickle would do
    marker.unlink()
    save(Malicious(marker), checkpoint)
    with pytest.raises(DuetError, match="is not a readable checkpoint"):
        descend(CONSTANT, checkpoint=checkpoint)
    for reader in (load_weights, read_about):
        with pytest.raises(DuetError, match="is not a readable safetensors file"):
            reader(checkpoint)
    assert not marker.exists()


# -- weights -----------------------------------------------------------------------------------------------------------


def test_weights_and_their_description_travel_together(tmp_path):
    model, path = network(), tmp_path / "deep" / "weights.safetensors"
    save_weights(model, path, {"vocabulary": "a\tb", "study": "toy"})
    assert read_about(path) == {"vocabulary": "a\tb", "study": "toy"}
    other = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3))
    load_into(other, path)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    save_weights(model.half(), path)
    load_into(other, path)  # half precision comes back as the model's own
    assert other[0].weight.dtype == torch.float32 and read_about(path) == {}


def test_single_layers_can_be_loaded(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(network(), path)
    other = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 9))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    load_into(other, path, only=("0.",))  # the last layer's shape does not fit and is not asked for
    for name, value in other.state_dict().items():
        assert torch.equal(value, (load_weights(path) if name.startswith("0.") else before)[name]), name


def test_weights_of_another_shape_or_name_are_refused_and_nothing_is_loaded(tmp_path):
    path, other = tmp_path / "weights.safetensors", nn.Linear(6, 3)
    before = other.weight.clone()
    save_weights(nn.Linear(6, 4), path)
    with pytest.raises(DuetError, match=r"weights\.safetensors: does not fit: bias needs \(3,\) and the file has \(4,"):
        load_into(other, path)
    save_file({"weight": torch.zeros(3, 6)}, path)
    with pytest.raises(DuetError, match="bias needs .* and the file has nothing"):
        load_into(other, path)
    assert torch.equal(other.weight, before)


@pytest.mark.parametrize("reader", [load_weights, read_about])
def test_a_truncated_or_missing_weights_file_is_named(reader, tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(DuetError, match=r"weights\.safetensors: no such weights"):
        reader(path)
    save_weights(network(), path)
    for content in (path.read_bytes()[:50], b"", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(DuetError, match=r"weights\.safetensors: is not a readable safetensors file"):
            reader(path)


def test_a_failed_write_leaves_the_weights_that_were_there(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    save_weights(network(), path)
    content = path.read_bytes()

    def full_disk(self, content):
        with self.open("wb") as handle:
            handle.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(DuetError, match="could not be written: No space left on device"):
        save_weights(network(), path)
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


def test_equal_weights_are_equal_files(tmp_path):
    """The library that writes them puts a header's entries in another order each time."""
    about = {key: key.upper() for key in ("study", "run", "network", "method", "größe", "id")}
    for k in range(4):
        save_weights(network(), tmp_path / f"{k}.safetensors", about)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert training.read_about(tmp_path / "0.safetensors") == about
    assert load_weights(tmp_path / "0.safetensors").keys() == network().state_dict().keys()


# -- SIGKILL -----------------------------------------------------------------------------------------------------------

#: Prepares a tiny corpus for the real study and shrinks its network; then forks processes that make one run with the
#: run it starts from, and kills them: at random moments, or at given places in the code.  Prints what it found.
KILLER = """
import json, os, random, shutil, signal, sys, time
from dataclasses import replace
from pathlib import Path

from duet import files, paths, runs, semantic, training
from duet.corpora import primus
from duet.models.crnn import PAPER, SHAPES
from duet.studies import transfer_learning as study

RUN, PARENT, EPOCHS = "audio-to-image-NA-s0", "audio-s0", 10
SHAPES["paper"] = replace(PAPER, hidden=16)
short = training.Training(4 * EPOCHS, EPOCHS, 4, 3e-3, "one_cycle", clip=5.0, precision="bf16")
study.PRESETS["tiny"] = study.Preset(None, short, 1, sizes=(), height=16, validation=3, test=3, controls=False)
dice, incipits = random.Random(0), []
for record in range(14):
    notes = [f"note-{dice.choice('CDEFGAB')}{dice.choice('45')}_{dice.choice(('half', 'eighth'))}" for _ in range(4)]
    tokens = ("clef-G2", "timeSignature-C", *notes, "barline")
    incipits.append(primus.Incipit(f"{record}-1_1_1", semantic.mei_from_tokens(tokens), tokens))
corpus = paths.cache() / "corpus"
settings = primus.BuildSettings(soundfont="timgm6mb")
primus.build(corpus, incipits, settings, {"name": "toy", "fingerprint": "toy"}, workers=1)
grid = runs.Grid(study.KEY, "tiny", str(corpus))
grid.data()
training.torch.optim.Adam([training.torch.zeros(1, requires_grad=True)]).step()  # imports what every child would


def fork(prepare=lambda: None):
    child = os.fork()
    if child == 0:
        try:
            prepare()
            grid.make(RUN)
            os._exit(0)
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return child


def ended(child):
    "How it ended: 0, or minus the signal."
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome():
    tensors = {n: {k: v.tolist() for k, v in training.load_weights(grid.weights(n)).items()} for n in (PARENT, RUN)}
    return {"results": {n: json.dumps(grid.find(n)["result"]) for n in (PARENT, RUN)},
            "weights": files.digest(json.dumps(tensors, sort_keys=True)),
            "weights left": len(list((paths.cache() / "weights").rglob("[!.]*.safetensors")))}


def wipe():
    for folder in (paths.results(), paths.cache() / "weights", paths.cache() / "checkpoints"):
        shutil.rmtree(folder, ignore_errors=True)


started = time.monotonic()
assert ended(fork()) == 0
epoch = (time.monotonic() - started) / (2 * EPOCHS)
undisturbed = outcome()
wipe()

found = {"undisturbed": undisturbed, "checkpoints": [], "places": [], "outcomes": []}
while len(found["checkpoints"]) < 10:
    child = fork()
    time.sleep(dice.uniform(0.0, 4.0) * epoch)
    os.kill(child, signal.SIGKILL)
    if (how := ended(child)) == 0:  # it was faster than the knife: what it made is compared, and all begins anew
        found["outcomes"].append(outcome())
        wipe()
        continue
    assert how == -signal.SIGKILL, how
    found["checkpoints"].append(len(list((paths.cache() / "checkpoints").glob("[!.]*"))))
    if not found["checkpoints"][-1]:
        epoch *= 1.5  # the machine has become slower
assert ended(fork()) == 0
found["outcomes"].append(outcome())


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def half_written(module, name, path_at, calls):
    "The last of so many calls dies with a part of its file written."
    real = getattr(module, name)

    def patched(*arguments, **options):
        nonlocal calls
        calls -= 1
        if not calls:
            arguments[path_at].write_bytes(b"PK half")
            die()
        return real(*arguments, **options)
    setattr(module, name, patched)


def before(module, name):
    setattr(module, name, lambda *_, **__: die())


def after(module, name):
    real = getattr(module, name)
    setattr(module, name, lambda *a, **k: (real(*a, **k), die()))


for place, prepare in {
    "first checkpoint half written": lambda: half_written(training.torch, "save", 1, 1),
    "third checkpoint half written": lambda: half_written(training.torch, "save", 1, 3),
    "checkpoint not renamed": lambda: before(files.os, "replace"),
    "weights half written": lambda: half_written(Path, "write_bytes", 0, 1),
    "weights written, not tested": lambda: after(study.experiment, "save_weights"),
    "record half written": lambda: half_written(Path, "write_bytes", 0, 2),
    "record written, checkpoint not removed": lambda: after(files, "write_json"),
}.items():
    grid.path(RUN).unlink()
    grid.weights(RUN).unlink()
    assert ended(fork(prepare)) == -signal.SIGKILL, place
    assert ended(fork()) == 0, place
    found["places"].append(place)
    found["outcomes"].append(outcome())
print("FOUND", json.dumps(found))
"""


def test_killed_runs_end_bit_for_bit_as_undisturbed_ones(tmp_path):
    """At ten random moments, and wherever a file is being written."""
    environment = {
        **os.environ,
        "DUET_CACHE": str(tmp_path / "cache"),
        "DUET_RESULTS": str(tmp_path / "results"),
        "DUET_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, "-c", KILLER], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split("FOUND", 1)[1])
    undisturbed = found["undisturbed"]
    assert len(found["checkpoints"]) == 10 and len(found["places"]) == 7 and len(found["outcomes"]) >= 8
    assert sum(n > 0 for n in found["checkpoints"]) >= 3  # there was something to go on from
    assert len(json.loads(undisturbed["results"]["audio-to-image-NA-s0"])["validation"]) == 10
    for outcome in found["outcomes"]:
        assert outcome == undisturbed

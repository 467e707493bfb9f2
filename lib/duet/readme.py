"""What README.md says of the results: its table of studies, and a paragraph on what each found.

The sentences are here, their numbers are in the files of a preset's results: ``verdicts.csv``, and of each study
``tables/*.csv`` and ``metrics.json``.  A study is spoken of where these are there.  Nothing says which way a result
went but a verdict that is read, so that another result cannot make a sentence wrong.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from . import files, paths, published, studies
from .errors import DuetError
from .tables import MEASURES, NOT_RUN

WIDTH = 150
ANY = ...  # any value of a coordinate

#: what a study is, ``{}`` the link to its notebook, and its paper
ROWS = {
    "transfer_learning": (
        "[transfer learning]({}) between image and audio transcription",
        "Alfaro-Contreras et al., SMC 2022",
    ),
    "passage_retrieval": ("[passage retrieval]({})", "Carvalho & Widmer, ISMIR 2023"),
    "alignment": ("[score identification and alignment]({})", "Dorfer, Arzt & Widmer, ISMIR 2017"),
    "synthetic_pretraining": ("[synthetic pre-training]({}) for transcription", "Les & Wozniak, 2023"),
    "ctc_chroma": ("[CTC deep chroma]({}) for finding themes in recordings", "Zalkow & Müller, ISMIR 2020"),
}


class Cell(NamedTuple):
    """One row of a tidy table; without a number where a run was not made, or the paper prints none."""

    ours: float | None
    paper: float | None
    n: int
    seeds: int
    corpus: str


class Found:
    """The files of one study in a preset's results."""

    def __init__(self, folder: Path, judged: pd.DataFrame):
        self.folder, self.metrics = folder, files.read_object(folder / "metrics.json")
        self.judged = judged[judged["study"] == folder.name].set_index("claim")

    def cell(self, table: str, *coordinates) -> Cell:
        """The row of ``tables/<table>.csv`` with these coordinates: all columns before "paper", in their order.

        Raises KeyError where there is not just one.
        """
        path = self.folder / "tables" / f"{table}.csv"
        rows = _read(path)
        columns = [name for name in rows if name not in MEASURES]
        for name, value in zip(columns, coordinates, strict=True):
            rows = rows if value is ANY else rows[rows[name] == value]
        if len(rows) != 1:
            raise KeyError(f"{path.name}: {coordinates}")
        row = rows.iloc[0]
        ours, paper = (float(row[name]) if row[name] else None for name in ("ours", "paper"))
        n, seeds = (int(row.get(name) or 0) for name in ("n", "seeds"))
        return Cell(ours, paper, n, seeds, row["corpus"])

    def verdict(self, claim: str) -> str:
        return self.judged.loc[claim, "verdict"]


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        remedy = "`duet notebook` and `duet report` make it again"
        raise DuetError(f"cannot be read: {error}", path=path, remedy=remedy) from None


# -- the sentences -----------------------------------------------------------------------------------------------------


def _number(value: float | None, digits: int) -> str:
    """``.855``, ``8.71``, ``1,042``; what was not made says so."""
    return NOT_RUN if value is None else re.sub(r"^(-?)0\.", r"\1.", f"{value:,.{digits}f}")


def _ours(*cells: Cell, digits: int = 3) -> list[str]:
    return [_number(cell.ours, digits) for cell in cells]


def _paper(*cells: Cell, digits: int = 3) -> list[str]:
    return [_number(cell.paper, digits) for cell in cells]


def _trainings(*cells: Cell) -> str:
    """How many trainings are behind the numbers of a sentence."""
    words = ("no", "one", "two", "three")
    counts = [words[n] if n < len(words) else str(n) for n in sorted({cell.seeds for cell in cells})]
    return f"{' or '.join(counts)} training{'' if counts == ['one'] else 's'} each"


def _transfer_learning(found: Found) -> str:
    arms = [("image", "image"), ("image", "audio-to-image N/A"), ("audio", "audio"), ("audio", "image-to-audio 5:5")]
    cells = [found.cell("table2", *arm) for arm in arms]
    ours, paper = _ours(*cells, digits=2), _paper(*cells, digits=1)
    faster = [found.cell("controls", test, f"{test}-fast", ANY) for test in ("image", "audio")]
    once = found.judged["why"].str.contains("seeds = 1)", regex=False)
    to_image = found.verdict("audio->image transfer improves the image model with full data")
    to_audio = found.verdict("image->audio transfer improves the audio model slightly with full data")
    return f"""
        on RISM incipits, stand-ins for PrIMuS (symbol error in percent, {_trainings(*cells)}): a model of images that
        has all the data reaches {ours[0]}, with transfer from sound {ours[1]}; a model of sound {ours[2]}, with
        transfer from images {ours[3]}. The paper's own numbers, on PrIMuS, are {paper[0]} and {paper[1]}, {paper[2]}
        and {paper[3]}. That transfer improves the model of images is {to_image}, that it improves the model of sound is
        {to_audio}; {once.sum()} of the {len(once)} verdicts, among them the many on little data, rest on one training
        of an arm. The faster arm's weights are published (`weights/*.safetensors`): it reads incipits that it has never
        seen off staves as a simulated camera sees them with a symbol error rate of {_ours(*faster, digits=2)[0]} %, and
        off a synthesised piano with {_ours(*faster, digits=2)[1]} % ({_trainings(*faster)}). No real photograph or
        recording has been tried.
    """


def _passage_retrieval(found: Found) -> str:
    models = ("BL", "RNN", "RNN-FT-CCA")
    clean, real = (
        [found.cell("table2", condition, model, "audio to sheet", ANY, "MRR") for model in models]
        for condition in ("I", "III")
    )
    ours = _ours(*clean)
    return f"""
        on {clean[0].corpus} (mean reciprocal rank from audio to sheet among {found.metrics["candidates"]["I"]:,}
        passages, {_trainings(*clean)}): votes of snippets have {ours[0]}, the recurrent model {ours[1]}, pre-trained
        and with refined projections {ours[2]}, a random order {_number(found.metrics["chance"]["MRR"], 3)}; with
        stand-ins for scans and recordings the three have {", ".join(_ours(*real))}. The paper's own numbers, among
        {published.PASSAGE_COUNTS["test"]} and with real scans and recordings, are {", ".join(_paper(*clean))} and
        {", ".join(_paper(*real))}. That the recurrent model is better than voting is
        {found.verdict("the recurrent model is better than voting")}, that pre-training helps it is
        {found.verdict("pre-training that is fine-tuned helps")}, that training its GRU matters is
        {found.verdict("training the GRU matters")}.
    """


def _alignment(found: Found) -> str:
    arms = ("no augmentation", "all augmentations")
    ranks = [found.cell("table2", ANY, arm, "audio to sheet", "onset", "refined", "MR") for arm in arms]
    first = [found.cell("table3", arm, "strict", "raw", "all", ANY, "1") for arm in arms]
    methods = ("a straight line from end to end", "all augmentations")
    errors = [found.cell("figure7", "strict", method, "all", "micro", "page widths") for method in methods]
    pieces = [count.removesuffix(".0") for count in _ours(*first, digits=1)]  # a mean of trainings
    strong = ("all, a dense layer, InfoNCE", "every composer, a dense layer, InfoNCE")
    reached = [found.cell("controls", arm, "all", ANY, "MR") for arm in strong]
    known = [found.cell("table3", arm, "strict", "alignment", "without Traditional", ANY, "1") for arm in strong]
    near = [found.cell("figure7", "tempo curve", arm, "all", "micro", "share within 0.5 s") for arm in strong]
    seconds = [_number(100 * cell.ours, 0) if cell.ours is not None else NOT_RUN for cell in near]
    return f"""
        on {ranks[0].corpus}, played by synthesisers ({_trainings(*ranks)}): the median rank of the right place among
        {found.metrics["candidates"]:,} is {_ours(*ranks, digits=0)[0]} without augmentation and
        {_ours(*ranks, digits=0)[1]} with all of it, {_number(found.metrics["chance"]["MR"], 0)} in a random order;
        {pieces[0]} and {pieces[1]} of {found.metrics["test pieces"]} pieces are identified; a straight line from end to
        end misses by {_ours(*errors)[0]} page widths, warping on the embedding by {_ours(*errors)[1]}. The paper's own
        numbers, among {published.ALIGNMENT_PAIRS["test"]:,} and of {published.ALIGNMENT_PIECES["test"]} pieces, are
        {" and ".join(_paper(*ranks, digits=0))}, {" and ".join(_paper(*first, digits=0))},
        {" and ".join(_paper(*errors))}. That full augmentation helps is {found.verdict("full augmentation helps")},
        that it identifies nearly all pieces is {found.verdict("full augmentation identifies nearly all pieces")}, that
        warping is better than a straight line is
        {found.verdict("warping on the embedding aligns better than a straight line")}. A stronger network (dense layers
        and InfoNCE; {_trainings(*reached)}) on the same pieces, and on those of every composer, has a median rank of
        {" and ".join(_ours(*reached, digits=0))}, puts {" and ".join(seconds)} % of the onsets within half a second
        where tempi bend, and knows {" and ".join(_ours(*known, digits=0))} of {known[0].n} pieces that are no
        traditional tunes by what their alignment costs.
    """


def _synthetic_pretraining(found: Found) -> str:
    piano, guitar = (
        [found.cell("table2", arm, test, "F1") for arm in ("Synthesized Instruments (SI)", test, f"SI -> {test}")]
        for test in ("MAPS", "GuitarSet")
    )
    arms = ("thresholded constant-Q transform", "Synthesized Instruments (SI)", "MAPS", "SI -> MAPS")
    floor, *field = _ours(*(found.cell("standard", arm, "MAPS", "corrected", "note") for arm in arms))
    ours = _ours(*piano)
    return f"""
        with {found.metrics["corpora"]["si"]} as synthetic sound (note F1 by the published evaluator,
        {_trainings(*piano, *guitar)}): on {piano[0].n} recordings of {piano[0].corpus} synthetic sound alone reaches
        {ours[0]}, training there {ours[1]}, one after the other {ours[2]}; on {guitar[0].n} of {guitar[0].corpus}
        {", ".join(_ours(*guitar))}. The paper's own numbers, on its MAPS and GuitarSet, are
        {", ".join(_paper(*piano))} and {", ".join(_paper(*guitar))}. By the field's
        evaluator (against the annotation, its lag corrected) the three have {", ".join(field)} on {piano[0].corpus}, a
        thresholded constant-Q transform {floor}; that synthetic sound alone is enough to transcribe a piano is
        {found.verdict("trained on synthetic sound alone, a model transcribes real piano")}, that pre-training improves
        notes of the piano is {found.verdict("pre-training on SI improves notes on MAPS")}, that it is worth more than
        as many updates there is {found.verdict("pre-training is worth more than the same updates on MAPS")}, that it
        does not improve notes of the guitar is {found.verdict("SI does not improve notes on guitar")}.
    """


def _ctc_chroma(found: Found) -> str:
    networks = [found.cell("table5", arm, "MRR") for arm in ("ctc", "cce")]
    salience = [found.cell("table3", "25", arm, "MRR") for arm in ("source-filter", "salience")]
    chroma = found.cell("methods", "chroma", ANY, "MRR")
    themes, recordings = found.cell("table1", "themes", "number"), found.cell("table1", "recordings", "number")
    ours, paper = _ours(*networks, *salience, chroma), _paper(*networks, *salience)
    return f"""
        on {_number(recordings.ours, 0)} open scores played by SoundFonts, stand-ins for commercial recordings (mean
        reciprocal rank of {_number(themes.ours, 0)} themes): the network trained by CTC has {ours[0]} and the same
        network on a linear alignment {ours[1]} ({_trainings(*networks)}), a source-filter and a deep salience model
        {ours[2]} and {ours[3]}, plain chroma {ours[4]}. The paper's own numbers, on {_number(recordings.paper, 0)}
        discs, are {paper[0]}, {paper[1]}, {paper[2]} and {paper[3]}. That CTC is better than the linear alignment is
        {found.verdict("CTC is better than cross-entropy on a linear alignment")}, that it is better than the
        source-filter model is {found.verdict("CTC chroma retrieves better than the source-filter salience")}, that it
        also damps the accompaniment more is {found.verdict("and damps it more than the source-filter salience")}.
    """


FINDINGS: dict[str, Callable[[Found], str]] = {
    "transfer_learning": _transfer_learning,
    "passage_retrieval": _passage_retrieval,
    "alignment": _alignment,
    "synthetic_pretraining": _synthetic_pretraining,
    "ctc_chroma": _ctc_chroma,
}

# -- the file ----------------------------------------------------------------------------------------------------------


def blocks(folder: Path) -> dict[str, str]:
    """The texts between the marks of README.md, by their names; ``folder`` has a preset's results.

    Raises DuetError where a file of the results is damaged or lacks what a sentence quotes.
    """
    judged = _read(folder / "verdicts.csv")
    made = [key for key in studies.KEYS if key in set(judged["study"]) and (folder / key / "metrics.json").exists()]
    rows = [f"| | study | paper | claims and controls, `{folder.name}` | results |", "|---|---|---|---|---|"]
    findings = [
        "What each study found, and on what. The papers' numbers are from their own data: the same protocol, not the "
        "same experiment."
    ]
    for key in studies.KEYS:
        (what, paper), notebook = ROWS[key], studies.get(key).NOTEBOOK
        state, link = "not yet made", ""
        if key in made:
            counts = judged.loc[judged["study"] == key, "verdict"].value_counts()
            order = ("reproduced", "contradicted", "undecided", NOT_RUN)
            state = ", ".join(f"{counts[name]} {name}" for name in order if name in counts)
            link = f"[tables, figures, runs](results/{folder.name}/{key})"
            findings.append(f"**Study {notebook[0]}**, {_finding(folder / key, judged)}")
        rows.append(f"| {notebook[0]} | {what.format(f'notebooks/{notebook}.ipynb')} | {paper} | {state} | {link} |")
    wrap = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False)
    wrapped = (wrap.fill(" ".join(text.split())) for text in findings)
    return {"studies": "\n".join(rows), "findings": "\n\n".join(wrapped)}


def _finding(folder: Path, judged: pd.DataFrame) -> str:
    try:
        return FINDINGS[folder.name](Found(folder, judged))
    except (KeyError, TypeError, ValueError) as error:
        remedy = f"`duet notebook {folder.name} --preset {folder.parent.name}` makes it again"
        raise DuetError(f"has not what README.md quotes: {error}", path=folder, remedy=remedy) from None


def update(readme: Path, folder: Path) -> None:
    """Write both texts between their marks, ``<!-- studies -->`` to ``<!-- /studies -->``; the rest stays as it is.

    Raises DuetError, and leaves the file as it was, where a mark is missing or a result cannot be quoted.
    """
    try:
        text = before = readme.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DuetError(f"cannot be read: {error}", path=readme, remedy="restore it") from None
    for name, content in blocks(folder).items():
        first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
        head, _, rest = text.partition(first)
        _, found, tail = rest.partition(last)
        if not found or first in rest or last in head + tail:
            raise DuetError(f"needs {first} and, below it, {last} once each", path=readme, remedy="put them back")
        text = f"{head}{first}\n\n{content}\n\n{last}{tail}"
    if text != before:
        files.write_text(readme, text)


def is_published(preset: str, corpus: str) -> bool:
    """Whether a report is of the results that README.md speaks of: ``overnight``, in the repository's own folder."""
    return preset == "overnight" and not corpus and paths.results().resolve() == (paths.ROOT / "results").resolve()

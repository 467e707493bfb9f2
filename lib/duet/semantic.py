"""The semantic encoding of PrIMuS: monophonic notation as a sequence of tokens.

``clef-G2 keySignature-BbM timeSignature-3/4 note-Bb4_quarter. tie barline note-Bb4_eighth ...``

One token is a clef, a key signature (always named as a major key), a time signature, a note or grace note
(sounding pitch, figure, dots, fermata), a rest, a multirest (whole bars), a tie (after its first note, before
a barline) or a barline.  Source: Calvo-Zaragoza & Rizo, "End-to-end neural optical music recognition of
monophonic scores", Applied Sciences 8:606 (2018), and the vocabulary published with it (1,781 tokens).

Notation goes in and out through MEI, Verovio's own format (:func:`tokens_from_mei`, :func:`mei_from_tokens`),
and through music21 (:func:`tokens_from_part`, :func:`part_from_tokens`); :func:`notes_from_tokens` is what sounds.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import music21

from .errors import DuetError

#: figure name -> length in quarter notes
FIGURES: dict[str, Fraction] = {
    "quadruple_whole": Fraction(16),
    "double_whole": Fraction(8),
    "whole": Fraction(4),
    "half": Fraction(2),
    "quarter": Fraction(1),
    "eighth": Fraction(1, 2),
    "sixteenth": Fraction(1, 4),
    "thirty_second": Fraction(1, 8),
    "sixty_fourth": Fraction(1, 16),
    "hundred_twenty_eighth": Fraction(1, 32),
}
_MEI_DURATIONS = dict(zip(("long", "breve", "1", "2", "4", "8", "16", "32", "64", "128"), FIGURES, strict=True))
_FIGURE_OF_LENGTH = {length: figure for figure, length in FIGURES.items()}
_MEI_OF_FIGURE = {figure: duration for duration, figure in _MEI_DURATIONS.items()}

#: major keys in order of their sharps, -7 to 7
KEYS = ("CbM", "GbM", "DbM", "AbM", "EbM", "BbM", "FM", "CM", "GM", "DM", "AM", "EM", "BM", "F#M", "C#M")
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ALTERATIONS = {"": 0, "#": 1, "b": -1, "##": 2, "bb": -2}
_MEI_ACCIDENTALS = {"n": 0, "s": 1, "f": -1, "x": 2, "ss": 2, "ff": -2}
_MEI_OF_ALTERATION = {0: "n", 1: "s", -1: "f", 2: "x", -2: "ff"}

_FIGURE = "|".join(FIGURES)
_TOKEN = re.compile(
    r"(?P<kind>note|gracenote)-(?P<step>[A-G])(?P<accidental>##|bb|#|b)?(?P<octave>\d)"
    rf"_(?P<figure>{_FIGURE})(?P<dots>\.{{0,3}})(?P<fermata>_fermata)?"
    rf"|(?P<rest>rest)-(?P<rest_figure>{_FIGURE})(?P<rest_dots>\.{{0,3}})(?P<rest_fermata>_fermata)?"
    r"|(?P<multirest>multirest)-(?P<bars>[1-9]\d*)"
    r"|(?P<clef>clef)-(?P<sign>[GFC])(?P<line>[1-5])"
    r"|(?P<key>keySignature)-(?P<tonic>[A-G][b#]?M)"
    r"|(?P<time>timeSignature)-(?P<metre>C/?|[1-9]\d*/[1-9]\d*)"
    r"|(?P<mark>barline|tie)"
)

#: Tokens whose information a listener cannot be sure of: none of them changes what sounds.
INAUDIBLE = ("clef", "keySignature", "timeSignature", "barline", "tie")


@dataclass(frozen=True)
class Token:
    """One parsed token.  ``length`` is in quarter notes (0 for what takes no time, bars for a multirest)."""

    kind: str
    text: str
    pitch: int | None = None  # MIDI number
    step: str = ""
    alteration: int = 0
    octave: int = 0
    figure: str = ""
    dots: int = 0
    fermata: bool = False
    value: str = ""

    @property
    def length(self) -> Fraction:
        return _dotted(FIGURES[self.figure], self.dots) if self.kind in ("note", "rest") else Fraction(0)


@dataclass(frozen=True)
class Note:
    """A sounding note: onset and duration in quarter notes from the start, pitch as MIDI number."""

    onset: Fraction
    duration: Fraction
    pitch: int
    grace: bool = False


def _dotted(length: Fraction, dots: int) -> Fraction:
    return length * (2 - Fraction(1, 2**dots))


def parse(text: str) -> Token:
    """Raises DuetError for a token that the encoding does not know."""
    match = _TOKEN.fullmatch(text)
    if not match:
        raise DuetError(f"{text!r} is no token of the PrIMuS semantic encoding")
    m = match.groupdict()
    if m["kind"]:
        alteration = _ALTERATIONS[m["accidental"] or ""]
        pitch = 12 * (int(m["octave"]) + 1) + _STEPS[m["step"]] + alteration
        return Token(
            m["kind"],
            text,
            pitch,
            m["step"],
            alteration,
            int(m["octave"]),
            m["figure"],
            len(m["dots"]),
            bool(m["fermata"]),
        )
    if m["rest"]:
        return Token("rest", text, figure=m["rest_figure"], dots=len(m["rest_dots"]), fermata=bool(m["rest_fermata"]))
    if m["key"] and m["tonic"] not in KEYS:
        raise DuetError(f"{text!r} names no key signature", remedy=f"one of {', '.join(KEYS)}")
    for kind, value in (("multirest", "bars"), ("keySignature", "tonic"), ("timeSignature", "metre")):
        if text.startswith(kind):
            return Token(kind, text, value=m[value])
    return Token("clef", text, value=m["sign"] + m["line"]) if m["clef"] else Token(m["mark"], text)


def read_tokens(path: str | Path) -> list[str]:
    """Tokens of a ``.semantic`` file: one line, separated by tabs or blanks, with or without a trailing one.

    Raises DuetError for a missing, empty or undecodable file and for an unknown token.
    """
    try:
        tokens = Path(path).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        raise DuetError(
            "no such token file", path=path, remedy="restore it, or leave its id out of the lists"
        ) from None
    except (UnicodeDecodeError, OSError):
        raise DuetError("is not text", path=path, remedy="restore the file from the corpus archive") from None
    if not tokens:
        raise DuetError("holds no tokens", path=path, remedy="restore the file from the corpus archive")
    for text in tokens:
        try:
            parse(text)
        except DuetError as error:
            raise DuetError(error.problem, path=path, remedy="restore the file from the corpus archive") from None
    return tokens


def write_tokens(tokens: Sequence[str]) -> str:
    """The content of a ``.semantic`` file, with the trailing tab that PrIMuS has."""
    return "\t".join(tokens) + "\t"


def bar_length(metre: str) -> Fraction:
    """Quarter notes in a bar of ``C``, ``C/`` or ``n/d``."""
    if metre in ("C", "C/"):
        return Fraction(4)
    beats, unit = metre.split("/")
    return Fraction(4 * int(beats), int(unit))


def length(tokens: Iterable[str]) -> Fraction:
    """Notated length in quarter notes, multirests in full."""
    total, bar = Fraction(0), Fraction(4)
    for token in map(parse, tokens):
        if token.kind == "timeSignature":
            bar = bar_length(token.value)
        total += token.length if token.kind != "multirest" else int(token.value) * bar
    return total


def notes_from_tokens(tokens: Iterable[str]) -> list[Note]:
    """What sounds, in order of onset; tied notes of one pitch are one note.

    Grace notes are played on the beat: each takes a thirty-second, all together at most half of the note they
    ornament, whose onset they delay.  A grace note before a rest, or at the end, precedes silence and takes a
    thirty-second of its own without moving anything.
    """
    grace_length = Fraction(1, 8)
    notes: list[Note] = []
    waiting: list[Token] = []
    now, bar, tied, after_note = Fraction(0), Fraction(4), False, False

    def play_waiting(room: Fraction) -> Fraction:
        each = min(grace_length, room / (2 * len(waiting))) if waiting else Fraction(0)
        for i, grace in enumerate(waiting):
            notes.append(Note(now + i * each, each, grace.pitch, grace=True))
        delay = each * len(waiting)
        waiting.clear()
        return delay

    for token in map(parse, tokens):
        if token.kind == "timeSignature":
            bar = bar_length(token.value)
        elif token.kind == "multirest":
            play_waiting(grace_length * 2)
            now += int(token.value) * bar
            tied = False
        elif token.kind == "gracenote":
            waiting.append(token)
        elif token.kind == "tie":
            tied = after_note
        elif token.kind == "rest":
            play_waiting(token.length)
            now += token.length
            tied = False
        elif token.kind == "note":
            if tied and not waiting and notes and notes[-1].pitch == token.pitch:
                last = notes[-1]
                notes[-1] = Note(last.onset, last.duration + token.length, last.pitch)
            else:
                delay = play_waiting(token.length)
                notes.append(Note(now + delay, token.length - delay, token.pitch))
            now += token.length
            tied = False
        if token.kind in ("note", "gracenote", "rest", "multirest"):
            after_note = token.kind == "note"
    if waiting:
        play_waiting(grace_length * 2 * len(waiting))
    return notes


def playable(tokens: Iterable[str]) -> list[str]:
    """A predicted sequence without the tokens that no notation can hold: a key or metre in the middle of a bar.

    Without a note or rest left, one whole rest stands in for it.
    """
    kept: list[str] = []
    for text in tokens:
        opening = not kept or all(t.startswith(("clef", "key", "time")) for t in kept) or kept[-1] == "barline"
        in_signs = bool(kept) and kept[-1].startswith(("key", "time"))
        if not text.startswith(("keySignature", "timeSignature")) or opening or in_signs:
            kept.append(text)
    return kept if any(t.startswith(("note", "rest", "multirest")) for t in kept) else [*kept, "rest-whole"]


# -- MEI in ------------------------------------------------------------------------------------------------------------


def _local(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def tokens_from_mei(mei: str, path: str | Path | None = None) -> list[str]:
    """Tokens of a one-staff, one-voice MEI document, such as Verovio makes of Plaine & Easie.

    Raises DuetError for what the encoding cannot say: chords, tuplets, several staves, octave clefs, figures or
    accidentals outside its list, and for XML that does not parse.
    """

    def fail(problem: str) -> DuetError:
        return DuetError(problem, path=path, remedy="the semantic encoding takes one voice without chords or tuplets")

    try:
        root = ElementTree.fromstring(mei)
    except ElementTree.ParseError as error:
        raise DuetError(f"is not well-formed MEI: {error}", path=path, remedy="restore or re-export the file") from None
    score = next((e for e in root.iter() if _local(e) == "score"), None)
    if score is None:
        raise fail("holds no score")
    fermatas = {e.get("startid", "")[1:] for e in score.iter() if _local(e) == "fermata"}
    ties = {e.get("startid", "")[1:] for e in score.iter() if _local(e) == "tie"}

    tokens: list[str] = []

    def definition(element: ElementTree.Element) -> None:
        for child in element.iter():
            name = _local(child)
            if name in ("staffDef", "clef") and (child.get("clef.shape") or child.get("shape")):
                prefix = "clef." if name == "staffDef" else ""
                if child.get(prefix + "dis"):
                    raise fail("has an octave clef")
                tokens.append(f"clef-{child.get(prefix + 'shape')}{child.get(prefix + 'line')}")
        for child in element.iter():
            signature = child.get("sig") if _local(child) == "keySig" else child.get("keysig") or child.get("key.sig")
            if signature and signature != "0":
                sharps = int(signature[0]) * (1 if signature[1] == "s" else -1)
                tokens.append(f"keySignature-{KEYS[sharps + 7]}")
        for child in element.iter():
            prefix = "" if _local(child) == "meterSig" else "meter."
            symbol, count, unit = (child.get(prefix + a) for a in ("sym", "count", "unit"))
            if _local(child) not in ("meterSig", "scoreDef", "staffDef"):
                continue
            if child.get(prefix + "form") == "num":
                raise fail("has a time signature of one number")
            if symbol:
                tokens.append("timeSignature-" + {"common": "C", "cut": "C/"}[symbol])
            elif count and unit:
                tokens.append(f"timeSignature-{count}/{unit}")

    def event(element: ElementTree.Element, in_grace: bool = False) -> None:
        name = _local(element)
        if name in ("chord", "tuplet", "bTrem", "fTrem", "space", "proport", "mensur", "ligature"):
            raise fail(f"has a {name}")
        if name in ("beam", "graceGrp", "layer"):
            for child in element:
                event(child, in_grace or name == "graceGrp")
        elif name == "clef":
            definition(element)
        elif name == "keySig":
            definition(element)
        elif name in ("mRest", "multiRest"):
            tokens.append(f"multirest-{element.get('num', '1')}")
        elif name in ("note", "rest"):
            identity = element.get("{http://www.w3.org/XML/1998/namespace}id", "")
            grace = in_grace or element.get("grace") is not None
            duration = element.get("dur") or ("8" if grace else "")
            if duration not in _MEI_DURATIONS:
                raise fail(f"has a {name} of duration {duration!r}")
            figure = _MEI_DURATIONS[duration] + "." * int(element.get("dots", "0"))
            figure += "_fermata" * (not grace and (identity in fermatas or element.get("fermata") is not None))
            if name == "rest":
                tokens.append(f"rest-{figure}")
                return
            written = [element, *(c for c in element if _local(c) == "accid")]
            accidental = next((a for e in written for a in (e.get("accid"), e.get("accid.ges")) if a), "n")
            if accidental not in _MEI_ACCIDENTALS:
                raise fail(f"has the accidental {accidental!r}")
            sign = next(s for s, a in _ALTERATIONS.items() if a == _MEI_ACCIDENTALS[accidental])
            tokens.append(
                f"{'gracenote' if grace else 'note'}-{element.get('pname').upper()}{sign}{element.get('oct')}_{figure}"
            )
            if not grace and (identity in ties or element.get("tie", "") in ("i", "m")):
                tokens.append("tie")

    for part in score:
        if _local(part) == "scoreDef":
            definition(part)
        for element in part if _local(part) == "section" else ():
            if _local(element) == "scoreDef":
                definition(element)
            elif _local(element) == "measure":
                staves = [e for e in element if _local(e) == "staff"]
                if len(staves) != 1 or sum(_local(e) == "layer" for e in staves[0]) != 1:
                    raise fail("has several staves or voices")
                for layer in staves[0]:
                    event(layer)
                if element.get("right") != "invis":
                    tokens.append("barline")
    if not any(t.startswith(("note-", "rest-")) for t in tokens):
        raise fail("holds no notes")
    for text in tokens:
        parse(text)
    return tokens


# -- MEI out -----------------------------------------------------------------------------------------------------------


class _Accidentals:
    """Which written accidental a sounding pitch needs, given the key signature and the bar so far."""

    def __init__(self):
        self.key: dict[str, int] = {}
        self.bar: dict[tuple[str, int], int] = {}

    def set_key(self, name: str) -> None:
        sharps = KEYS.index(name) - 7
        order = "FCGDAEB" if sharps > 0 else "BEADGCF"
        self.key = {step: (1 if sharps > 0 else -1) for step in order[: abs(sharps)]}
        self.bar = {}

    def attribute(self, token: Token) -> str:
        place = (token.step, token.octave)
        in_force = self.bar.get(place, self.key.get(token.step, 0))
        self.bar[place] = token.alteration
        written = token.alteration != in_force
        if not written and token.alteration == 0:
            return ""
        return f' accid{"" if written else ".ges"}="{_MEI_OF_ALTERATION[token.alteration]}"'


def _measures(tokens: Sequence[Token]) -> list[tuple[list[tuple[int, Token]], bool]]:
    """[(index, token)] of each bar, and whether a barline ends it."""
    measures, current = [], []
    for index, token in enumerate(tokens):
        if token.kind == "barline":
            measures.append((current, True))
            current = []
        else:
            current.append((index, token))
    return measures + ([(current, False)] if current else [])


def _beamed(bar: list[tuple[int, Token]], start: Fraction, beat: Fraction) -> list[list[tuple[int, Token]]]:
    """The bar's events in groups: a group of several is beamed, shorter than a quarter and within one beat."""
    keyed, now = [], start
    for index, token in bar:
        short = token.kind == "note" and FIGURES[token.figure] < 1
        keyed.append(
            (
                (now // beat) if short or token.kind == "tie" and keyed and keyed[-1][0] is not None else None,
                (index, token),
            )
        )
        now += token.length
    groups: list[list[tuple[int, Token]]] = []
    for key, members in groupby(keyed, key=lambda pair: pair[0]):
        events = [event for _, event in members]
        groups += [events] if key is not None else [[event] for event in events]
    return groups


def mei_from_tokens(tokens: Sequence[str]) -> str:
    """An MEI document that Verovio engraves; the note of token ``i`` has the xml:id ``t<i>``.

    Raises DuetError for an unknown token, for a key or time signature in the middle of a bar and for a sequence
    without a note or rest.
    """
    parsed = [parse(t) for t in tokens]
    if not any(t.kind in ("note", "rest", "multirest") for t in parsed):
        raise DuetError("the token sequence holds no note or rest, there is nothing to engrave")
    first = next(i for i, t in enumerate(parsed) if t.kind not in ("clef", "keySignature", "timeSignature"))
    header, accidentals = parsed[:first], _Accidentals()
    bar, beat = Fraction(4), Fraction(1)

    def score_definition(signs: Sequence[Token], with_staff: bool) -> str:
        nonlocal bar, beat
        metre, keys, clef = "", "", ""
        for sign in signs:
            if sign.kind == "timeSignature":
                bar = bar_length(sign.value)
                compound = re.fullmatch(r"(\d+)/(8|16)", sign.value)
                beat = Fraction(12, int(compound[2])) if compound and int(compound[1]) % 3 == 0 else Fraction(1)
                symbols = {"C": ' meter.sym="common"', "C/": ' meter.sym="cut"'}
                metre = symbols.get(sign.value) or ' meter.count="{}" meter.unit="{}"'.format(*sign.value.split("/"))
            elif sign.kind == "keySignature":
                accidentals.set_key(sign.value)
                sharps = KEYS.index(sign.value) - 7
                keys = f' keysig="{abs(sharps)}{"s" if sharps > 0 else "f"}"' if sharps else ' keysig="0"'
            elif with_staff:
                clef = f' clef.shape="{sign.value[0]}" clef.line="{sign.value[1]}"'
        staff = f'<staffGrp><staffDef n="1" lines="5"{clef}/></staffGrp>' if with_staff else ""
        return f"<scoreDef{keys}{metre}>{staff}</scoreDef>"

    def note(index: int, token: Token, tie: str) -> str:
        grace = ' grace="acc" stem.dir="up"' if token.kind == "gracenote" else ""
        dots = f' dots="{token.dots}"' if token.dots else ""
        return (
            f'<note xml:id="t{index}" pname="{token.step.lower()}" oct="{token.octave}"'
            f' dur="{_MEI_OF_FIGURE[token.figure]}"{dots}{grace}{tie}{accidentals.attribute(token)}/>'
        )

    ties, body = _tie_attributes(parsed), []
    opening = score_definition(header, with_staff=True)
    for number, (events, closed) in enumerate(_measures(parsed), 1):
        accidentals.bar = {}
        signs = [t for _, t in events if t.kind in ("keySignature", "timeSignature")]
        events = [(i, t) for i, t in events if i >= first and t not in signs]
        if number > 1 and signs:
            body.append(score_definition(signs, with_staff=False))
        elif number == 1 and any(
            t.kind in ("keySignature", "timeSignature") for t in parsed[first : _end_of_bar(parsed)]
        ):
            raise DuetError("a key or time signature stands in the middle of a bar")
        fermatas, layer = [], []
        full = sum((t.length for _, t in events), Fraction(0))
        # a pick-up is beamed as the end of a bar
        start = bar - full if number == 1 and full < bar else Fraction(0)
        for group in _beamed(events, start, beat):
            written = []
            for index, token in group:
                if token.kind in ("note", "gracenote"):
                    written.append(note(index, token, ties.get(index, "")))
                elif token.kind == "rest":
                    dots = f' dots="{token.dots}"' if token.dots else ""
                    written.append(f'<rest xml:id="t{index}" dur="{_MEI_OF_FIGURE[token.figure]}"{dots}/>')
                elif token.kind == "multirest":
                    written.append(
                        f'<multiRest xml:id="t{index}" num="{token.value}"/>'
                        if token.value != "1"
                        else f'<mRest xml:id="t{index}"/>'
                    )
                elif token.kind == "clef":
                    written.append(f'<clef shape="{token.value[0]}" line="{token.value[1]}"/>')
                if token.fermata:
                    fermatas.append(f'<fermata startid="#t{index}"/>')
            beam = sum(t.kind == "note" for _, t in group) > 1
            layer.append(f"<beam>{''.join(written)}</beam>" if beam else "".join(written))
        body.append(
            f'<measure n="{number}" right="{"single" if closed else "invis"}"><staff n="1"><layer n="1">'
            f"{''.join(layer)}</layer></staff>{''.join(fermatas)}</measure>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><mei xmlns="http://www.music-encoding.org/ns/mei" meiversion="5.0">'
        "<meiHead><fileDesc><titleStmt><title/></titleStmt><pubStmt/></fileDesc></meiHead>"
        f"<music><body><mdiv><score>{opening}<section>{''.join(body)}"
        "</section></score></mdiv></body></music></mei>"
    )


def _end_of_bar(parsed: Sequence[Token]) -> int:
    return next((i for i, t in enumerate(parsed) if t.kind == "barline"), len(parsed))


def _tie_attributes(parsed: Sequence[Token]) -> dict[int, str]:
    """MEI's tie attribute for each note that a tie starts, ends or passes through; a tie to nowhere is dropped."""
    notes = [i for i, t in enumerate(parsed) if t.kind == "note"]
    starts, ends = set(), set()
    for here, following in zip(notes, notes[1:], strict=False):
        between = {t.kind for t in parsed[here + 1 : following]}
        signs = {"tie", "barline", "clef", "keySignature", "timeSignature"}
        if "tie" in between and between <= signs and parsed[here].pitch == parsed[following].pitch:
            starts.add(here)
            ends.add(following)
    return {i: f' tie="{"m" if i in starts and i in ends else "i" if i in starts else "t"}"' for i in starts | ends}


# -- music21 -----------------------------------------------------------------------------------------------------------


def tokens_from_abc(path: Path) -> list[str]:
    """Tokens of the first voice of an ABC file.

    Raises DuetError for a file that music21 cannot read, and as :func:`tokens_from_part` does.
    """
    try:
        abc = music21.abcFormat.ABCFile()
        abc.open(str(path))
        handler = abc.read()
        abc.close()
        return tokens_from_part(music21.abcFormat.translate.abcToStreamScore(handler).parts[0])
    except music21.exceptions21.Music21Exception as error:
        raise DuetError(f"is not a readable tune: {error}", path=path, remedy="leave it out") from None


def tokens_from_part(part: music21.stream.Stream, bars: int | None = None) -> list[str]:
    """Tokens of a music21 part's first ``bars`` bars (all by default).

    Raises DuetError for chords, tuplets, several voices and figures outside the encoding.
    """

    def fail(problem: str) -> DuetError:
        return DuetError(problem, remedy="the semantic encoding takes one voice without chords or tuplets")

    tokens: list[str] = []
    measures = list(part.getElementsByClass(music21.stream.Measure))[:bars]
    if not measures:
        raise fail("holds no bars")
    for measure in measures:
        if measure.voices:
            raise fail("has several voices")
        for element in sorted(measure, key=lambda e: (e.offset, e.classSortOrder)):
            if isinstance(element, music21.clef.Clef):
                if element.octaveChange or element.sign not in ("G", "F", "C"):
                    raise fail(f"has the clef {element.name}")
                tokens.append(f"clef-{element.sign}{element.line}")
            elif isinstance(element, music21.key.KeySignature):
                if element.sharps:
                    tokens.append(f"keySignature-{KEYS[element.sharps + 7]}")
            elif isinstance(element, music21.meter.TimeSignature):
                metre = {"common": "C", "cut": "C/"}.get(element.symbol, element.ratioString)
                tokens.append(f"timeSignature-{metre}")
            elif isinstance(element, music21.note.Note | music21.note.Rest):
                duration = element.duration
                grace = duration.isGrace
                figure = (
                    _FIGURE_OF_LENGTH.get(Fraction(music21.duration.convertTypeToQuarterLength(duration.type)))
                    if duration.type in music21.duration.typeToDuration and not duration.tuplets
                    else None
                )
                if figure is None or duration.dots > 2:
                    raise fail(f"has the duration {duration.fullName}")
                figure += "." * duration.dots
                if any(isinstance(x, music21.expressions.Fermata) for x in element.expressions):
                    figure += "_fermata"
                if element.isRest:
                    tokens.append(f"rest-{figure}")
                    continue
                name = element.pitch.step + (element.pitch.accidental.modifier if element.pitch.accidental else "")
                tokens.append(
                    f"{'gracenote' if grace else 'note'}-{name.replace('-', 'b')}{element.pitch.octave}_{figure}"
                )
                if element.tie is not None and element.tie.type in ("start", "continue"):
                    tokens.append("tie")
            elif isinstance(element, music21.chord.Chord):
                raise fail("has a chord")
        tokens.append("barline")
    for text in tokens:
        parse(text)
    if not any(t.startswith("note-") for t in tokens):
        raise fail("holds no notes")
    return tokens


def part_from_tokens(tokens: Sequence[str]) -> music21.stream.Part:
    """A music21 part: ``.write("musicxml")`` and ``.write("midi")`` are the transcription as files.

    A sequence predicted by a network need not be well formed; bars keep whatever was recognised in them.
    """
    part, metre = music21.stream.Part(), "C"
    parsed = [parse(t) for t in tokens]
    ties = _tie_attributes(parsed)

    def finish(measure: music21.stream.Measure) -> None:
        # music21 fills a short bar with rests where it is not told that the bar is meant to be short
        if missing := max(bar_length(metre) - Fraction(measure.highestTime), 0):
            setattr(measure, "paddingRight" if len(part) else "paddingLeft", missing)
        measure.number = len(part) + 1
        part.append(measure)

    for events, _ in _measures(parsed):
        measure = music21.stream.Measure()
        for index, token in events:
            if token.kind == "clef":
                measure.append(music21.clef.clefFromString(token.value))
            elif token.kind == "keySignature":
                measure.append(music21.key.KeySignature(KEYS.index(token.value) - 7))
            elif token.kind == "timeSignature":
                metre = token.value
                measure.append(music21.meter.TimeSignature({"C": "common", "C/": "cut"}.get(metre, metre)))
            elif token.kind == "multirest":
                for rest in range(int(token.value)):
                    if rest:
                        finish(measure)
                        measure = music21.stream.Measure()
                    measure.append(music21.note.Rest(quarterLength=bar_length(metre)))
            elif token.kind in ("note", "gracenote", "rest"):
                element = music21.note.Rest() if token.kind == "rest" else music21.note.Note(token.pitch)
                if token.kind != "rest":
                    modifier = {v: k for k, v in _ALTERATIONS.items()}[token.alteration].replace("b", "-")
                    element.pitch = music21.pitch.Pitch(f"{token.step}{modifier}{token.octave}")
                element.duration = music21.duration.Duration(quarterLength=_dotted(FIGURES[token.figure], token.dots))
                if token.kind == "gracenote":
                    element = element.getGrace()
                if token.fermata:
                    element.expressions.append(music21.expressions.Fermata())
                if index in ties:
                    element.tie = music21.tie.Tie({"i": "start", "m": "continue", "t": "stop"}[ties[index][6]])
                measure.append(element)
        finish(measure)
    return part

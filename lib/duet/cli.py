"""The command ``duet``: thin calls into the library, errors in one line."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from . import __version__, launch, paths
from .errors import DuetError


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input or a failed notebook (one line on stderr says why), 130 interrupted.

    ``check-data`` also ends with 1, for a data set that can be used in part, and with 2 for one that cannot.
    """
    arguments = _parser().parse_args(argv)
    os.environ.update(launch.ENVIRONMENT)  # before anything imports torch, which reads it once
    try:
        return arguments.command(arguments) or 0
    except DuetError as error:
        print(f"duet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("duet: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="duet", description="Sheet music and sound: five studies reproduced.")
    parser.add_argument("--version", action="version", version=f"duet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function, summary: str, *, study: bool = True, corpus: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(function.__name__.lstrip("_").replace("_", "-"), help=summary, description=summary)
        added.set_defaults(command=function)
        if study:
            added.add_argument("study", help="key of a study, such as transfer_learning")
            added.add_argument("--preset", default="smoke", help="smoke (default), laptop, overnight or paper")
        if corpus:
            added.add_argument("--corpus", default="", help="folder of your own corpus (default: the open one)")
            added.add_argument("--quiet", action="store_true", help="show no progress")
        return added

    command(_prepare, "build or check a study's corpus and its features", corpus=True)
    run = command(_run, "make one run record, or do nothing where it is there", corpus=True)
    run.add_argument("name", help="a run that `duet runs STUDY` lists")
    runs = command(_runs, "list a study's runs: name, core or extended, made or not")
    runs.add_argument("--core", action="store_true", help="only the core")
    notebook = command(_notebook, "run a study's notebook: tables, figures and a page to read", corpus=True)
    notebook.add_argument(
        "-p",
        dest="parameters",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set a parameter of the notebook; may be repeated",
    )
    report = command(_report, "collect what a preset's studies found: verdicts.csv and index.html", study=False)
    report.add_argument("--preset", default="smoke", help="smoke (default), laptop, overnight or paper")
    report.add_argument("--corpus", default="", help="folder of your own corpus (default: the open one)")
    transcribe = command(_transcribe, "write the notes of a recording to a MIDI file", study=False)
    transcribe.add_argument("audio", help="a recording of any format, rate and length")
    transcribe.add_argument("-o", "--output", default="", help="the MIDI file (default: the recording's name, .mid)")
    transcribe.add_argument("--picture", default="", help="also a picture of the piano roll, PNG")
    transcribe.add_argument("--weights", default="", help="weights of your own (default: those that come along)")
    transcribe.add_argument("--quiet", action="store_true", help="show no progress")
    follow = command(_follow, "align a recording with its score: a page that plays both", study=False)
    follow.add_argument("audio", help="a recording of any format and rate")
    follow.add_argument("score", help="its score: MusicXML, kern, MEI, LilyPond, ABC or MIDI")
    follow.add_argument("-o", "--output", default="", help="the page (default: the recording's name, .html)")
    follow.add_argument("--anyway", action="store_true", help="also where the recording seems to be of another score")
    follow.add_argument("--weights", default="", help="weights of your own (default: those that come along)")
    follow.add_argument("--quiet", action="store_true", help="show no progress")
    find = command(_find, "find a recording in a folder of scores, or a score in a folder of recordings", study=False)
    find.add_argument("query", help="a recording of any format, or a score: MusicXML, kern, MEI, LilyPond, ABC, MIDI")
    find.add_argument("--in", dest="folder", required=True, metavar="FOLDER", help="searched; indexed once and kept")
    find.add_argument("-o", "--output", default="", help="the page (default: the query's name, .html)")
    find.add_argument("--top", type=int, default=3, metavar="K", help="hits of each passage or system (default: 3)")
    find.add_argument("--weights", default="", help="weights of your own (default: those that come along)")
    find.add_argument("--quiet", action="store_true", help="show no progress")
    data = command(_check_data, "say which data set a folder holds, and what is missing or damaged", study=False)
    data.add_argument("root", help="the folder that Camera-PrIMuS, MSMD, MAPS, GuitarSet or MTD unpacks to")
    corpora = command(_corpora, "fetch the open scores and lists, verified, at pinned versions", study=False)
    corpora.add_argument("keys", nargs="*", metavar="KEY", help="which (default: all)")
    return parser


def _prepare(arguments) -> None:
    from . import runs

    launch.study_module(arguments.study, arguments.preset)
    runs.prepare(arguments.study, arguments.preset, _folder(arguments.corpus), progress=not arguments.quiet)


def _run(arguments) -> None:
    from . import runs

    names = [run.name for run in launch.study_module(arguments.study, arguments.preset).runs(arguments.preset)]
    if arguments.name not in names:
        raise DuetError(
            f"unknown run {arguments.name!r} of {arguments.study}, preset {arguments.preset}",
            remedy=f"there are {', '.join(names)}",
        )
    runs.make(
        arguments.study, arguments.preset, arguments.name, _folder(arguments.corpus), progress=not arguments.quiet
    )


def _runs(arguments) -> None:
    module = launch.study_module(arguments.study, arguments.preset)
    records = paths.study_results(arguments.study, arguments.preset) / "runs"
    for run in module.runs(arguments.preset, core_only=arguments.core):
        made = (records / f"{run.name}.json").is_file()
        print(f"{run.name}\t{'core' if run.core else 'extended'}\t{'made' if made else 'not made'}")


def _notebook(arguments) -> None:
    parameters = launch.parse_parameters(arguments.study, arguments.parameters)
    if arguments.corpus:
        parameters["corpus"] = arguments.corpus
    if parameters.get("corpus"):
        parameters["corpus"] = _folder(parameters["corpus"])
    print(launch.execute(arguments.study, arguments.preset, parameters, progress=not arguments.quiet))


def _report(arguments) -> None:
    from . import report

    print(report.write(arguments.preset, arguments.corpus))


def _transcribe(arguments) -> None:
    from .studies.synthetic_pretraining import transcriber

    audio = Path(arguments.audio)
    output = _output(arguments.output, audio.with_suffix(".mid"))
    model = transcriber.Model.load(Path(arguments.weights) if arguments.weights else transcriber.published_weights())
    heard = transcriber.transcribe(audio, model, progress=not arguments.quiet)
    if not len(heard.notes):
        raise DuetError("no note was heard", path=audio, remedy="check that it is music, and not too soft")
    transcriber.write_midi(heard.notes, output)
    if arguments.picture:
        from . import plots

        roll = {audio.name: transcriber.roll_picture(heard.notes, heard.seconds)}
        plots.save(plots.feature_panels(roll, 1 / transcriber.FRAME), Path(arguments.picture))
    print(f"{output}: {len(heard.notes)} notes in {heard.seconds:.1f} s")


def _follow(arguments) -> None:
    from .studies.alignment import follower

    audio = Path(arguments.audio)
    output = _output(arguments.output, audio.with_suffix(".html"))
    model = follower.Model.load(Path(arguments.weights) if arguments.weights else follower.published_weights())
    followed = follower.follow(audio, arguments.score, model, arguments.anyway, progress=not arguments.quiet)
    follower.write_page(followed, output)
    print(f"{output}: {followed.moments['seconds'][-1]:.1f} s followed")
    print(*followed.remarks, sep="\n")


def _find(arguments) -> None:
    from .studies.passage_retrieval import search

    query = Path(arguments.query)
    output = _output(arguments.output, query.with_suffix(".html"))
    model = search.Model.load(Path(arguments.weights) if arguments.weights else search.published_weights())
    asked = search.read(query, model)
    kind = search.RECORDINGS if asked.kind == search.SCORES else search.SCORES
    collection = search.index_folder(arguments.folder, kind, model, progress=not arguments.quiet)
    print(*collection.remarks, sep="\n")
    found = search.find(asked, collection, arguments.top)
    search.write_page(found, output)
    print(f"{search.table(found)}\n{output}")


def _check_data(arguments) -> int:
    from . import check

    reports = check.check(arguments.root, progress=sys.stdout.isatty())
    print("\n\n".join(check.text(report, arguments.root) for report in reports))
    return max(report.status for report in reports)


def _corpora(arguments) -> None:
    from .corpora import openscores, samples

    scores = [key for key in arguments.keys if key != "samples"]
    if scores or not arguments.keys:
        openscores.fetch(scores or None)
        print(f"open scores are whole: {paths.scores()}, lists: {paths.lists()}")
    if "samples" in arguments.keys or not arguments.keys:
        try:
            samples.fetch()
            print(f"samples of real instruments: {paths.samples()}")
        except DuetError as error:
            if arguments.keys:
                raise
            print(f"duet: {error}; without them SoundFonts play the stand-ins of study 4", file=sys.stderr)


def _output(named: str, usual: Path) -> Path:
    """Where a result goes: to a file that is there only when it was named."""
    if not named and usual.exists():
        raise DuetError("is there already", path=usual, remedy="name another file with -o, or this one to replace it")
    return Path(named or usual)


def _folder(corpus: str) -> str:
    """Absolute, because a notebook's working directory is not the caller's."""
    return os.path.abspath(corpus) if corpus else ""


if __name__ == "__main__":
    sys.exit(main())

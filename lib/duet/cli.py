"""The command ``duet``: thin calls into the library, errors in one line."""

from __future__ import annotations

import argparse
import os
import sys

from . import __version__, launch, paths
from .errors import DuetError


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input or a failed notebook (one line on stderr says why), 130 interrupted."""
    arguments = _parser().parse_args(argv)
    os.environ.update(launch.ENVIRONMENT)  # before anything imports torch, which reads it once
    try:
        arguments.command(arguments)
    except DuetError as error:
        print(f"duet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("duet: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="duet", description="Sheet music and sound: five studies reproduced.")
    parser.add_argument("--version", action="version", version=f"duet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function, summary: str, *, study: bool = True, corpus: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(function.__name__.lstrip("_"), help=summary, description=summary)
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


def _corpora(arguments) -> None:
    from .corpora import openscores

    openscores.fetch(arguments.keys or None)
    print(f"open scores are whole: {paths.scores()}, lists: {paths.lists()}")


def _folder(corpus: str) -> str:
    """Absolute, because a notebook's working directory is not the caller's."""
    return os.path.abspath(corpus) if corpus else ""


if __name__ == "__main__":
    sys.exit(main())

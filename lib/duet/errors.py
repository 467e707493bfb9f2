"""The one error type that a user's input can cause."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 400  # characters of a problem that can be read at a glance


class DuetError(Exception):
    """Bad input, told in one line: what is wrong, which file, and what to do about it.

    Every reader of the library turns damaged files into this type, and every command prints it as one
    line and exits with status 2.  Anything else that escapes is a bug of the library.
    """

    def __init__(self, problem: str, *, path: str | Path | None = None, remedy: str = ""):
        if len(problem) > _LONGEST:  # it quotes a damaged file
            problem = problem[: _LONGEST - 4] + " ..."
        self.problem, self.path, self.remedy = problem, None if path is None else Path(path), remedy
        where = f"{path}: " if path is not None else ""
        what_to_do = f" ({remedy})" if remedy else ""
        super().__init__(" ".join(f"{where}{problem}{what_to_do}".split()))

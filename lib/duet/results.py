"""The records of a grid as the arms that a paper compares: estimates, paired differences, what waits for more runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from . import tables
from .runs import Grid, Run
from .verdicts import Estimate, Resampling


class Results(ABC):
    """What has been made of a grid.  A study says which runs an arm has and how they are scored.

    An arm is one cell or column of a paper's table, made by one run or by several (seeds, folds).  Every score is a
    vector over one set of bootstrap draws, ``resampling``, so that differences between arms are paired.
    """

    resampling: Resampling  # the study's: it knows which test items belong together

    def __init__(self, grid: Grid):
        self.grid, self.preset = grid, grid.study.PRESETS[grid.preset]
        self.records = {name: record for name in grid.runs if (record := grid.find(name)) is not None}
        self.corpus: str = grid.data().name
        self._cache: dict = {}

    def planned(self, arm: str) -> list[str]:
        """The runs of an arm: the one of its name, or those that add ``-s`` and a seed."""
        return [name for name in self.grid.runs if name == arm or name.rpartition("-s")[0] == arm]

    def names(self, arm: str) -> list[str]:
        """Those of them that have been made."""
        return [name for name in self.planned(arm) if name in self.records]

    def seeds(self, arm: str) -> int:
        """Trainings behind an arm's estimate."""
        return len(self.names(arm))

    @abstractmethod
    def _draws(self, arm: str, *of) -> np.ndarray | None:
        """(1 + draws,) of an arm's score, the estimate first, or None where no run of it has been made."""

    def draws(self, arm: str, *of) -> np.ndarray | None:
        """(1 + draws,) of an arm's score; ``of`` says which score, in the study's words."""
        if (arm, *of) not in self._cache:
            self._cache[arm, *of] = self._draws(arm, *of)
        return self._cache[arm, *of]

    def estimate(self, arm: str, *of) -> Estimate | None:
        draws = self.draws(arm, *of)
        return None if draws is None else self.resampling.estimate(draws, self.seeds(arm))

    def settled(self, arm: str, *of) -> np.ndarray | None:
        """:meth:`draws` for a comparison, which waits for every run: the first alone would decide before the rest."""
        return self.draws(arm, *of) if self.names(arm) == self.planned(arm) else None

    def difference(self, arm: str, other: str, *of) -> Estimate | None:
        """Score of ``arm`` minus that of ``other``; None until every run of both has been made."""
        return self.mean_difference([(arm, other)], *of)

    def mean_difference(self, pairs: Sequence[tuple[str, str]], *of) -> Estimate | None:
        """Mean over pairs of arms of the difference first minus second; None until every run has been made."""
        draws = [(self.settled(a, *of), self.settled(b, *of)) for a, b in pairs]
        if not draws or any(a is None or b is None for a, b in draws):
            return None
        # what is not trained has no learning curve, and no other seed would change it
        trained = [arm for pair in pairs for arm in pair if self._is_trained(arm)]
        seeds = min(map(self.seeds, trained), default=1)
        return self.resampling.estimate(np.mean([a - b for a, b in draws], 0), seeds)

    def _is_trained(self, arm: str) -> bool:
        return any(self.records[name]["result"].get("validation") for name in self.names(arm))

    def run_table(self, validation: str) -> pd.DataFrame:
        """Every run of the core: made or not, what it saw, its best ``validation`` and its cost."""
        rows = []
        for run in self._core():
            record, training = self.records.get(run.name), getattr(run.config, "training", None)
            curve = record["result"].get("validation") if record else None
            learns = training is not None and (record is None or curve is not None)
            rows.append(
                {
                    "run": run.name,
                    "what for": run.note,
                    "examples seen": training.updates * training.batch if learns else 0,
                    validation: tables.NOT_RUN if record is None else f"{min(curve):.2f}" if curve else "",
                    "CPU seconds": f"{record['provenance']['cpu_seconds']:.0f}" if record else "",
                }
            )
        return pd.DataFrame(rows)

    def curves(self, panels: Mapping[str, str]) -> pd.DataFrame:
        """Validation by examples seen, of the runs of ``panels`` (run -> panel) that have been made."""
        rows = []
        for name, panel in panels.items():
            if name in self.records:
                record = self.records[name]
                t = record["config"]["training"]
                each = t["updates"] // t["epochs"] * t["batch"]
                rows += [
                    {"run": name, "panel": panel, "samples": (k + 1) * each, "validation": v}
                    for k, v in enumerate(record["result"]["validation"])
                ]
        return pd.DataFrame(rows, columns=["run", "panel", "samples", "validation"])

    def made(self) -> dict[str, int]:
        """How much of the core there is, for ``metrics.json``."""
        core = self._core()
        made = [self.records[run.name] for run in core if run.name in self.records]
        cost = round(sum(record["provenance"]["cpu_seconds"] for record in made))
        return {"core": len(core), "made": len(made), "cpu_seconds": cost}

    def _core(self) -> list[Run]:
        return [run for run in self.grid.runs.values() if run.core]

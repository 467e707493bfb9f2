"""Study 2: passage summarisation for audio-sheet music retrieval (Carvalho & Widmer, ISMIR 2023).

A passage is a line of music.  Encoders read snippets of its picture or of its sound, a recurrent layer sums them up,
and what belongs together comes to lie together.  Notebook: ``notebooks/2_passage_retrieval.ipynb``.

``grid`` says which runs there are, ``passages`` cuts pages and recordings, ``experiment`` makes a run, and ``report``
reads the runs as tables and claims.
"""

from .experiment import Data, execute, prepare
from .grid import CONDITIONS, KEY, NOTEBOOK, PRESETS, TEMPI, TITLE, VERSION, Config, Preset, runs
from .report import (
    ARMS,
    CLAIMS,
    DIGITS,
    LONG,
    MODELS,
    Results,
    called_out,
    candidates_note,
    conditions_table,
    curves,
    data_table,
    example,
    figure_1,
    figure_3,
    figure_4,
    figure_4_read,
    freely_shown,
    from_bounds,
    settings_table,
    snippets,
    sounds,
    spectrograms,
    strips,
    table_1,
    table_2,
    table_3,
    table_chance,
    table_controls,
    table_differences,
    table_voters,
    trainings,
    write_metrics,
)

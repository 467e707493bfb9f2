"""Study 4: synthetic pre-training for transcription across instruments (Les & Wozniak, 2023).

A U-net and a recurrent layer read the notes of piano and guitar from a constant-Q transform.  They are trained on sound
that was synthesised from notes, tested unchanged on recordings, and trained on with these.  Notebook:
``notebooks/4_synthetic_pretraining.ipynb``.

``grid`` says which runs there are, ``experiment`` makes one, ``report`` reads them as tables and claims, and
``transcriber`` is for people's own recordings.
"""

from .experiment import Data, Domain, execute, prepare
from .grid import KEY, NOTEBOOK, PRESETS, TARGETS, TITLE, VERSION, Config, Preset, runs
from .report import (
    ARMS,
    CLAIMS,
    EVALUATORS,
    Results,
    ceilings,
    data_table,
    figure_3,
    lag_table,
    settings_table,
    table,
    table_standard,
    write_metrics,
)
from .transcriber import Model, published_weights, roll_picture, ship, transcribe, write_midi

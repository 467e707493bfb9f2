"""Study 5: deep chroma from weakly aligned scores and recordings (Zalkow & Mueller, ISMIR 2020).

A small convolutional network turns a harmonic CQT into chroma that follows a theme and not its accompaniment.  It is
trained with CTC on themes whose start and end in a recording are known and nothing between, and judged by finding
themes in a collection of recordings.  Notebook: ``notebooks/5_ctc_chroma.ipynb``.

``grid`` says which runs there are, ``experiment`` makes one, ``report`` reads them as tables and claims, ``search`` is
for people's own themes and recordings.
"""

from .experiment import Data, execute, prepare
from .grid import FOLDS, KEY, NOTEBOOK, PRESETS, RATES, TITLE, VERSION, Config, Preset, fold_parts, runs
from .passages import Passage, k_545, opus_67, views
from .report import (
    CLAIMS,
    Results,
    curves,
    fold_table,
    rubato_curve,
    settings_table,
    table_1,
    table_2,
    table_3,
    table_4,
    table_5,
    table_6,
    table_controls,
    table_damping,
    table_label_errors,
    table_past,
    tempo_curve,
    write_metrics,
)
from .search import (
    Finder,
    Hit,
    audio_of,
    find,
    hit_table,
    read_theme,
    ship,
    theme_from_file,
    theme_from_names,
    weights_for,
)

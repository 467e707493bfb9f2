"""Study 3: audio-sheet correspondences for score identification and offline alignment (Dorfer, Arzt & Widmer, 2017).

Two encoders embed two seconds of sound and a window of a page into one space.  They are trained on one composer's
pieces; nearest neighbours there find snippets and pieces, and dynamic time warping aligns whole ones.  Notebook:
``notebooks/3_alignment.ipynb``.

``grid`` says which runs there are, ``aligner`` goes from embeddings to an alignment, ``experiment`` makes a run,
``report`` reads the runs as tables and claims, and ``follower`` is for people's own recordings and scores.
"""

from .experiment import Data, execute, prepare
from .follower import Followed, Model, follow, published_weights, ship, write_page
from .grid import KEY, NOTEBOOK, PRESETS, SETTINGS, TITLE, VERSION, Config, Preset, runs
from .report import (
    BOXES,
    CLAIMS,
    DIGITS,
    Results,
    augmented,
    curves,
    data_table,
    examples,
    figure_7,
    figure_7_boxes,
    freely_shown,
    from_bounds,
    gallery_of,
    settings_table,
    sounds,
    table_1,
    table_2,
    table_3,
    table_confidence,
    table_controls,
    table_cutter,
    table_zero_errors,
    warping,
    write_metrics,
)

"""Study 2: passage summarisation for audio-sheet music retrieval (Carvalho & Widmer, ISMIR 2023).

A passage is a line of music.  Encoders read snippets of its picture or of its sound, a recurrent layer sums them up,
and what belongs together comes to lie together.  Notebook: ``notebooks/2_passage_retrieval.ipynb``.

``grid`` says which runs there are, ``passages`` cuts pages and recordings, and ``experiment`` makes a run.
"""

from .experiment import Data, execute, prepare
from .grid import CONDITIONS, KEY, NOTEBOOK, PRESETS, TEMPI, TITLE, VERSION, Config, Preset, runs

"""Study 1: transfer learning between image and audio transcription (Alfaro-Contreras et al., SMC 2022).

One CRNN reads staff images or constant-Q transforms and writes PrIMuS tokens.  It is trained on one modality and
trained on with the other, with a growing block of layers frozen (Table 2) and with little target data (Table 3).
Notebook: ``notebooks/1_transfer_learning.ipynb``.

``grid`` says which runs there are, ``experiment`` makes one, ``report`` reads them as tables and claims.
"""

from .experiment import (
    Data,
    Transcriber,
    adapt_norms,
    baselines,
    batches,
    best_constant,
    collate,
    ctc_loss,
    engraved,
    evaluate,
    execute,
    export,
    prepare,
    score,
    ship,
    transcribe,
    weights_for,
)
from .grid import (
    DIRECTIONS,
    KEY,
    MODALITIES,
    NOTEBOOK,
    PRESETS,
    SIZES,
    TITLE,
    VERSION,
    Config,
    Preset,
    level_name,
    runs,
)
from .report import (
    BEST_ARMS,
    CLAIMS,
    MARGIN,
    Results,
    curves,
    settings_table,
    table_1,
    table_2,
    table_3,
    table_baselines,
    table_controls,
    table_equal_updates,
    table_extended,
    table_families,
    views,
    write_metrics,
)

"""Sheet music and sound: five studies reproduced, one notebook each, over this library."""

import contextlib

from .errors import DuetError

# FluidSynth decodes compressed SoundFonts by whichever libsndfile is loaded when it is: before that of soundfile it is
# always the system's, and the same notes give the same samples whatever else is imported.
with contextlib.suppress(ImportError):
    import fluidsynth  # noqa: F401

__version__ = "0.1.0"
__all__ = ["DuetError", "__version__"]

"""Sheet music and sound: five studies reproduced, one notebook each, over this library."""

import contextlib

from .errors import DuetError

# FluidSynth decodes compressed SoundFonts by whichever libsndfile is loaded when it is: before that of soundfile it is
# always the system's, and the same notes give the same samples whatever else is imported.  Its binding prints where it
# found the library if the environment sets CI: not into what a command prints.
with contextlib.suppress(ImportError), contextlib.redirect_stdout(None):
    import fluidsynth  # noqa: F401

__version__ = "0.1.0"
__all__ = ["DuetError", "__version__"]

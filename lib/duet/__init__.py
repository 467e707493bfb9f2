"""Sheet music and sound: five studies reproduced, one notebook each, over this library."""

from .errors import DuetError

__version__ = "0.1.0"
__all__ = ["DuetError", "__version__"]

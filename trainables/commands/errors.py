"""How commands refuse bad input."""

from __future__ import annotations

from search_spaces.settings.mistakes import in_a_line
from search_spaces.settings.secrets import print_error


def refuse(error: object) -> int:
    """Print the lines of an error, each as one; returns the exit code for bad input, 2.

    Args:
        error: a text, an error of this project, whose text says all, or any other.
    """
    if isinstance(error, Exception) and not isinstance(error, ValueError | OSError):
        error = f"the input cannot be read: {in_a_line(error)}"
    print_error(str(error))
    return 2

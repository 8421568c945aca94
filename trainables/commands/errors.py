"""How commands refuse bad input."""

from __future__ import annotations

import sys


def refuse(error: object) -> int:
    """Print the lines of an error, each as one; returns the exit code for bad input, 2."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return 2

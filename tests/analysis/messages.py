"""Patterns for messages: what they name, not how they say it."""

from __future__ import annotations

import re


def naming(*parts: object) -> str:
    """A pattern for `pytest.raises(match=...)`: the message holds all of these, in any order."""
    return "(?s)" + "".join(f"(?=.*{re.escape(str(part))})" for part in parts)


def holds(text: str, *parts: object) -> bool:
    """Whether a text names all of these, in any order."""
    return all(str(part) in text for part in parts)

"""Secrets in URIs, kept out of messages, logs and files."""

from __future__ import annotations

import re
from typing import Final

_LOGIN: Final = re.compile(r"(?P<scheme>[a-z][\w+.-]*)://(?P<login>[^/?#\s'\"]*)@", re.IGNORECASE)
_QUERY: Final = re.compile(r"(?P<before>://[^\s?#'\"]*)\?[^\s#'\"]+")
_WITH_CONTAINER: Final = ("abfs", "abfss", "az", "wasb", "wasbs")
"""Schemes of `CONTAINER@ACCOUNT`, which is no login."""


def has_secret(uri: str) -> bool:
    """Whether a URI carries a login or a query, which may sign it."""
    return without_secrets(uri) != uri


def without_secrets(text: str) -> str:
    """A text with logins and queries of the URIs in it replaced by `***`."""
    return _QUERY.sub(r"\g<before>?***", _LOGIN.sub(_without_login, text))


def _without_login(match: re.Match[str]) -> str:
    is_container = match["scheme"].lower() in _WITH_CONTAINER and ":" not in match["login"]
    return match[0] if is_container else f"{match['scheme']}://***@"

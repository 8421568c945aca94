"""Secrets and control characters, kept out of messages, logs and files."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import category

# A password may hold what should be escaped: SQLAlchemy takes anything up to the last `@`.
_LOGIN: Final = re.compile(
    r"(?P<scheme>[a-z][\w+.-]*)://(?P<login>[^/?#\s'\"]*:[^\s\"]*|[^/?#\s'\"]*)@", re.IGNORECASE
)
_QUERY: Final = re.compile(r"(?P<before>://[^\s?#'\"]*)\?[^\s#'\"]+")
_NAMED: Final = re.compile(
    r"(?P<name>(?<![\w-])(?:x-amz-(?:signature|credential|security-token)|sig|signature|token"
    r"|access_token|api_key|password|passwd|secret)=)[^&\s'\"]+",
    re.IGNORECASE,
)
NO_SECRET: Final = (
    "must hold no password, token or query, as it is written to logs and files: give them by the "
    "environment (such as AWS_ACCESS_KEY_ID)"
)
"""What is wrong with a setting of which `has_secret` says so."""
_WITH_CONTAINER: Final = ("abfs", "abfss", "az", "wasb", "wasbs")
"""Schemes of `CONTAINER@ACCOUNT`, which is no login."""


def has_secret(uri: str) -> bool:
    """Whether a URI carries a login or a query, which may sign it."""
    return without_secrets(uri) != uri


def without_secrets(text: str) -> str:
    """A text with logins and queries of the URIs in it, and named secrets, replaced by `***`."""
    text = _QUERY.sub(r"\g<before>?***", _LOGIN.sub(_without_login, text))
    return _NAMED.sub(r"\g<name>***", text)


def printable(text: str) -> str:
    """A text from elsewhere without control characters, which could steer a terminal; one line."""
    return "".join("\ufffd" if category(letter) == "Cc" else letter for letter in text)


def _without_login(match: re.Match[str]) -> str:
    is_container = match["scheme"].lower() in _WITH_CONTAINER and ":" not in match["login"]
    return match[0] if is_container else f"{match['scheme']}://***@"

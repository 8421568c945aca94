"""No login and no query of a URI stays in a text."""

import pytest

from search_spaces.settings.secrets import has_secret, printable, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pw@host:5000/x", "http://***@host:5000/x"),
        ("--tracking-uri=http://me:pw@host", "--tracking-uri=http://***@host"),
        ("https://TOKEN@host/x", "https://***@host/x"),
        ("http://u:p@ss@h/x", "http://***@h/x"),
        ("simplecache::s3://key:pw@bucket/a", "simplecache::s3://***@bucket/a"),
        ("data={uri: 's3://k:pw@b/c'}, x", "data={uri: 's3://***@b/c'}, x"),
        ("s3://b/c?token=abc&x=1", "s3://b/c?***"),
        ("postgresql+psycopg://me:pw@db/x?sslkey=/k", "postgresql+psycopg://***@db/x?***"),
        ("postgresql://me:p/w#?d@db/x", "postgresql://***@db/x"),
        ("s3://KEY:a/b+c'd@bucket/x", "s3://***@bucket/x"),
        ("with url: /x?X-Amz-Signature=ab (", "with url: /x?X-Amz-Signature=*** ("),
        ("https://host/x#access_token=abc", "https://host/x#access_token=***"),
        ("HTTP://me:pw@host and http://you:pw@host", "HTTP://***@host and http://***@host"),
    ],
)
def test_logins_and_queries_are_replaced(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert has_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        *("s3://bucket/sweeps", "abfs://container@account.dfs.core.windows.net/x", "a@b.org"),
        *("sqlite:////tmp/mlflow.db", "what? http://host/path", "me@host:path", "C:\\x?y"),
        *("surrogate.tokens=1", "http://host:80/x"),
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text
    assert not has_secret(text)


def test_control_characters_do_not_reach_a_terminal() -> None:
    assert printable("a\x1b[31m\r\x9bb\n\x07") == "a\ufffd[31m\ufffd\ufffdb\ufffd\ufffd"
    assert printable("\u4e2d \u00e4 \U0001f600") == "\u4e2d \u00e4 \U0001f600"

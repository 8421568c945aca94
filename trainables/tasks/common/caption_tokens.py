"""The words that caption metrics compare: COCO's tokenisation, without its Java.

    caption --Penn Treebank rules, lower case--> tokens --less punctuation--> words

COCO's evaluation runs the Stanford tokenizer. These are the rules of it that captions meet (tests
compare the two), so that a metric has one value on every machine.
"""

from __future__ import annotations

import re

_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "--", "—": "--", "…": "..."})
_BRACKETS = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
}
_DROPPED = frozenset(["'", '"', "`", ".", "?", "!", ",", ":", "-", "--", "...", "..", ";"])
_ABBREVIATIONS = (
    "mr|mrs|ms|dr|st|jr|sr|prof|mt|ave|blvd|rd|vs|etc|inc|ltd|co|corp|ft|no(?=\\.\\s*\\d)"
)
_TOKEN = re.compile(
    rf"""
      https?://\S+ | \w[\w.]*@\w[\w.]*\w | [#@](?i:[a-z])\w* | </?\w+>
    | (?i:[a-z]\.){{2,}}(?i:[a-z]?)(?!\w)      # U.S., p.m., U.S.A
    | \b(?i:{_ABBREVIATIONS})\.(?!\w*[^\W\d])   # St. Mary's, no.5
    | \b[A-Z]\.(?!\w)                         # J. Smith
    | \b[A-Z]+(?:&[A-Z]+)+\b                  # R&B
    | '\d\ds?\b | '?n'(?=\s) | '(?i:t(?:is|was))\b
    | \d+(?:[.,:/]\d+)+(?![\w-])             # 5.50, 1,000, 3:30, 1/2
    | \w+(?:[-/.]\w+|'(?!(?i:s|m|d|re|ve|ll)\b)[^\W\d]\w*)*
    | '(?i:s|m|d|re|ve|ll)\b
    | [?!]+ | \.{{2,}} | -+ | \S
    """,
    re.VERBOSE,
)
_SPLIT = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "wanna": ("wan", "na"),
    "gotta": ("got", "ta"),
    "gimme": ("gim", "me"),
    "lemme": ("lem", "me"),
    "y'all": ("y'", "all"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
}


def caption_words(text: str) -> str:
    """The words of a caption, lower case, a space between each two; punctuation is left out."""
    words: list[str] = []
    for token in _TOKEN.findall(text.translate(_QUOTES)):
        word = token.lower()
        if word in _SPLIT:
            words += _SPLIT[word]
        elif word.endswith("n't") and len(word) > 3:
            words += [word[:-3], "n't"]
        elif word not in _DROPPED:
            words.append(_BRACKETS.get(word, word))
    return " ".join(words)

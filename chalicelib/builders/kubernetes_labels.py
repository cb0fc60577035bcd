"""Texts made into Kubernetes labels, as Prefect 3's own worker does it."""

from __future__ import annotations

import re
import unicodedata

_NAME_LIMIT = 63
_PREFIX_LIMIT = 253
"""Both as https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/ has them."""

_SPELLED_OUT = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "ł": "l", "'": "-", "\u2019": ""})


def label_key(text: str) -> str:
    """A text as the name of a label or annotation, with what is before its first slash for the prefix.

    What nothing can be made of stays as it is, for Kubernetes to refuse.
    """
    prefix, _, name = text.partition("/") if "/" in text else ("", "", text)
    name = label_value(name) or name
    return f"{_slug(prefix, r'[^a-zA-Z0-9.-]+', _PREFIX_LIMIT) or prefix}/{name}" if prefix else name


def label_value(text: str) -> str:
    """A text as the value of a label: empty when there is nothing in it that a label may have."""
    return _slug(text, r"[^a-zA-Z0-9._-]+", _NAME_LIMIT)


def _slug(text: str, unfit: str, limit: int) -> str:
    spelled_out = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", text).translate(_SPELLED_OUT))
    without_marks = "".join(letter for letter in spelled_out if not unicodedata.combining(letter))
    fit = re.sub(unfit, "-", re.sub(r"(?<=\d),(?=\d)", "", without_marks))
    return re.sub(r"-{2,}", "-", fit).strip("-")[:limit].strip("_-.")

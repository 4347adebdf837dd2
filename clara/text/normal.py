"""Texts as tokenizers see them: what looks the same to a reader gets the same ids.

A vocabulary has no piece for a soft hyphen or a direction mark, and none of a typographic quote that was rare in
training: such a character moves a text far from its meaning, although it means nothing.
"""

from __future__ import annotations

import re
import unicodedata

QUOTES = {"'": "‘’‚‛‹›ʼʻ＇`´", '"': "“”„‟«»〝〞〟＂", "-": "‐‑‒–—―−﹘﹣－"}
_PLAIN = str.maketrans({odd: plain for plain, odds in QUOTES.items() for odd in odds})
# category Cf but drawn: Arabic, Syriac and Kaithi signs that stand before a number
_DRAWN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
# drawn as nothing in spite of their category: fillers, the grapheme joiner, variation selectors
_UNSEEN = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}
_UNSEEN |= {*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
# Persian, Hindi, Malayalam and others spell with the joiners, emoji are composed by them; below U+0590 are Latin,
# Greek, Cyrillic and Armenian, whose letters do not join. A non-joiner at the end of a word separates nothing, a
# joiner there still forms Malayalam's last consonant.
_JOINERS = re.compile("(?:^|(?<=[\x00-\u058f]))[\u200c\u200d]+|\u200c+(?=[\x00-\u058f]|$)")
_THAI_AM, _LAO_AM = ("\u0e4d\u0e32", "\u0e33"), ("\u0ecd\u0eb2", "\u0eb3")


def normal(text: str) -> str:
    """`text` in NFKC, without characters that are not drawn, with ASCII quotes and hyphens and single spaces; empty
    when nothing of it is drawn."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_PLAIN))
        # NFKC takes these vowels apart, which no keyboard does
        text = text.replace(*_THAI_AM).replace(*_LAO_AM)
        text = _JOINERS.sub("", "".join(c for c in text if not _is_unseen(c)))
    elif not text.isprintable():
        text = "".join(c for c in text if not _is_unseen(c))
    return " ".join(text.split())


def _is_unseen(c: str) -> bool:
    code = ord(c)
    if code in _UNSEEN:
        return True
    kind = unicodedata.category(c)
    if kind == "Cc":
        return not c.isspace()
    return kind == "Cf" and code not in _DRAWN and c not in "\u200c\u200d"

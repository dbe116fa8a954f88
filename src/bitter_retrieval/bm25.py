"""BM25 (Lucene's variant, k1 1.5, b 0.75) over the words of any script; no stemming and no stop words.

    scores_of(["Warsaw lies on …", "Krakow is …"], ["which river is in warsaw"])    one array: [1.3, 0.0]

    Latin and most scripts       words of two letters or more      which, river, is, in, warsaw
    Chinese, Japanese, Thai, …   pairs of neighbouring letters     流经华沙: 流经, 经华, 华沙
    Hindi, Tamil, …              words with their vowel signs      नदी, which are marks and no letters

A pair or a marked word of a text can only match that of a question. So all texts are divided in the old, plain way
unless a question has such letters: figures of plain questions do not hang on a foreign name in some passage.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np

PLAIN = r"(?u)\b\w\w+\b"
JOINERS = dict.fromkeys((0x200C, 0x200D))  # of letters within a word, written or not
UNSPACED = (  # letters of scripts that put no space between words
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai
    "\u0e81-\u0ecd\u0edc-\u0edf"  # Lao
    "\u1000-\u103f\u1050-\u109f"  # Burmese
    "\u1780-\u17d3\u17d7\u17dc-\u17dd"  # Khmer
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # Japanese
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese
)


def scores_of(texts: Sequence[str], questions: Sequence[str]) -> Iterator[np.ndarray]:
    """Per question, the score of each text [texts] float32; all 0 where no text has a word of the question.

    bm25s.retrieve is not used, as it breaks ties arbitrarily.
    """
    import bm25s

    pattern = PLAIN
    if any(map(_is_marked, questions)):
        pattern = r"\S+"
        texts, questions = ([" ".join(_tokens(text)) for text in some] for some in (texts, questions))
    words = bm25s.tokenize(list(texts), token_pattern=pattern, stopwords=None, show_progress=False)
    asked = bm25s.tokenize(
        list(questions), token_pattern=pattern, stopwords=None, return_ids=False, show_progress=False
    )
    index = bm25s.BM25(method="lucene", backend="numpy")
    if words.vocab:  # bm25s fails on texts, or on a question, without words
        index.index(words, show_progress=False)
    nothing = np.zeros(len(texts), dtype=np.float32)
    for own in asked:
        known = index.get_tokens_ids(own) if words.vocab else []
        yield index.get_scores_from_ids(known) if known else nothing


def words_of(text: str) -> list[str]:
    """Words, in lower case, with their combining marks; the letters of scripts without spaces one by one."""
    pieces = _pieces(unicodedata.normalize("NFC", text).translate(JOINERS).casefold())
    return [one for piece in pieces for one in (piece if _is_unspaced(piece) else [piece])]


def _tokens(text: str) -> Iterable[str]:
    for piece in _pieces(unicodedata.normalize("NFKC", text).translate(JOINERS).lower()):
        if len(piece) > 1:
            yield from map("".join, zip(piece, piece[1:], strict=False)) if _is_unspaced(piece) else [piece]
        elif _is_unspaced(piece):
            yield piece


def _pieces(text: str) -> list[str]:
    """Words, and runs of letters of scripts without spaces."""
    return re.findall(r"\w+", text) if text.isascii() else _pattern().findall(text)


@cache
def _pattern() -> re.Pattern[str]:
    return re.compile(f"[{UNSPACED}][{UNSPACED}{_marks()}]*|(?:(?![{UNSPACED}])[\\w{_marks()}])+")


@cache
def _marks() -> str:
    """All combining marks, which \\w lacks."""
    return "".join(filter(_is_mark, map(chr, range(sys.maxunicode + 1))))


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter).startswith("M")


def _is_unspaced(text: str) -> bool:
    return re.match(f"[{UNSPACED}]", text) is not None


def _is_marked(text: str) -> bool:
    """Whether a text has marks, or letters of scripts without spaces."""
    return not text.isascii() and (re.search(f"[{UNSPACED}]", text) is not None or any(map(_is_mark, text)))

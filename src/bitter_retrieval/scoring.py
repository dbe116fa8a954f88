"""Exact match and F1 of a generated answer against its references, as SQuAD v1.1 defines them.

    answer "The Calder Bridge."   references ["Calder bridge", "bridge at Calder"]
    normalised  "calder bridge"   "calder bridge", "bridge at calder"   exact_match 1.0, f1 1.0

Defined by Rajpurkar et al. 2016 (arXiv 1606.05250, section 6.1) and its v1.1 evaluation script: lower case; the 32
punctuation marks of ASCII deleted, not replaced by a space; the words a, an and the deleted; runs of white space made
one space. Nothing else is folded: accents, typographic quotes and dashes stay, and a letter of one code point differs
from the same letter with a combining accent. The best reference counts.

Two texts that normalise to nothing ("The", "?!") are an exact match with F1 0: they share no word, as in v1.1.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLE = re.compile(r"\b(?:an?|the)\b")


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, no English articles, single spaces."""
    return " ".join(ARTICLE.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1.0 if the normalised answer equals a normalised reference, else 0.0. Raises ValueError without a reference."""
    said = normalise(answer)
    return float(any(said == normalise(reference) for reference in _checked(references)))


def f1(answer: str, references: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over normalised words, in [0, 1], for the best reference.

    A word counts as often as both texts have it. Raises ValueError without a reference.
    """
    said = normalise(answer).split()
    return max(_overlap(said, normalise(reference).split()) for reference in _checked(references))


def _overlap(said: list[str], meant: list[str]) -> float:
    shared = (Counter(said) & Counter(meant)).total()
    return 2 * shared / max(1, len(said) + len(meant))  # 2pr / (p + r) with p = shared / said, r = shared / meant


def _checked(references: Sequence[str]) -> Sequence[str]:
    if isinstance(references, str) or not len(references):
        raise ValueError(f"references must be a list of at least one text, got {references!r}.")
    return references

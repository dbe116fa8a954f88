"""Values for property tests: texts that break things elsewhere, and whatever JSON can hold.

Same examples at each run and on each machine; an example that found a bug stays as a test of its own.
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

FEW = settings(max_examples=25, derandomize=True, deadline=None, database=None)
SURROGATE = "\ud83d"  # half a letter of UTF-16, which no file holds
LETTERS = ["\ufeff", "\0", "\x1b[31m", "\x85", "\u2028", "\r\n", "\n", "\t", "\u202eabc", "e\u0301", "नदी", "流经华沙"]
MARKS = ["['x']", "[]", "{'a': 1}", "null", "010", "1e5", "yes", "~", "# no", "a: b", "- a", "'", '"', "NaN", " "]

texts = st.text(max_size=12) | st.lists(st.sampled_from(LETTERS + MARKS) | st.text(max_size=3), max_size=4).map("".join)
broken_texts = texts | texts.map(lambda text: text + SURROGATE)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


def values(strings: st.SearchStrategy[str], keys: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Any]:
    """Whatever JSON can hold, with these strings; keys: those of objects, if they are others."""
    keys = strings if keys is None else keys
    return st.recursive(
        st.none() | st.booleans() | numbers | strings,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=6,
    )

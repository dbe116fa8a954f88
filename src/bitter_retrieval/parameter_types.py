"""Types of single parameters with the limits of one value; the rooms' settings.py use them.

steps: Count                    at least 1
noise: Share                    from 0 to 1
revision: Commit | None         40 hex digits, or null
"""

import re
from typing import Annotated, Literal

from bitter_retrieval.typed_yaml import Rule

NAME = "made of a-z, 0-9, _ and -, no - first, at most 100 (it names files and params; a dot nests in DVC's params)"
Name = Annotated[str, Rule(lambda text: re.fullmatch("[a-z0-9_][a-z0-9_-]{0,99}", text) is not None, NAME)]
Text = Annotated[str, Rule(lambda text: text.strip() != "", "text that is not blank")]
Count = Annotated[int, Rule(lambda number: number >= 1, "at least 1")]
CountOrZero = Annotated[int, Rule(lambda number: number >= 0, "0 or more")]
Seed = Annotated[int, Rule(lambda number: 0 <= number < 2**31, "from 0 to 2147483647")]
Seeds = Annotated[list[Seed], Rule(lambda seeds: 0 < len(seeds) == len(set(seeds)), "distinct seeds, at least one")]
Positive = Annotated[float, Rule(lambda number: number > 0, "above 0")]
NotNegative = Annotated[float, Rule(lambda number: number >= 0, "0 or more")]
Share = Annotated[float, Rule(lambda number: 0 <= number <= 1, "from 0 to 1")]
COMMIT = "40 hex digits (a branch can move unnoticed); with null, the stage says which command prints them"
Commit = Annotated[str, Rule(lambda text: re.fullmatch("[0-9a-f]{40}", text) is not None, COMMIT)]
Dtype = Literal["float32", "bfloat16", "float16"]
Attention = Literal["auto", "flash", "varlen", "sdpa"]


def is_prompt(text: str) -> bool:
    return text.count("{query}") == 1 == text.count("{passage}") and text == text.rstrip()


PROMPT = "text with {query} and {passage} once each and no space at its end (one space precedes the answer)"
PromptText = Annotated[str, Rule(is_prompt, PROMPT)]

r"""Texts are data: what a question, an answer, a passage, a name or a path holds never steers what shows it.

plain("Ada\x1b[31m Brenn")                  "Ada[31m Brenn": a terminal's colours stay what we make them
PlainConsole().print("[old]/[/x] :key:")    as it stands: no markup, no emoji
"""

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# Control characters but for tab and line break, and those that turn the direction of the text after them; halves of
# pairs of UTF-16, which no file can hold.
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
HALF = re.compile("[\ud800-\udfff]")


def plain(text: str) -> str:
    """`text` without characters that steer a terminal or turn around what follows."""
    return HALF.sub("\ufffd", STEERING.sub("", text))


class PlainConsole(Console):
    """A console that shows texts as they stand; styles come from Text and tables alone."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"markup": False, "highlight": False, "emoji": False} | settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)

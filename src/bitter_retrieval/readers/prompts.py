"""A reader's prompt: worked examples if it needs them, a question with passages, and where the answer begins.

    Question: Where was Aldan Brenley born?
    Context: The birthplace of Aldan Brenley is Caldbury. …
    Answer: Caldbury

The prompt ends at "Answer:"; the space before the answer belongs to the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

Context = str | tuple[str, ...]  # "" or () shows no passage


@dataclass(frozen=True)
class Example:
    """A question that the prompt answers before it asks its own."""

    passage: str
    query: str
    answer: str


@dataclass(frozen=True)
class Prompt:
    """A template with {query} and {passage}; an empty passage shows none.

    several: how each of several passages is written, with {passage} and, if wanted, {number}, which counts from 1.
    """

    template: str
    examples: tuple[Example, ...] = ()
    several: str = "{passage}\n"

    def parts(self, query: str) -> tuple[str, str]:
        """The text before and after the passage, without examples. Only the passage may be cut to fit."""
        before, after = self.template.split("{passage}")
        return before.replace("{query}", query), after.replace("{query}", query)

    def ask(self, query: str, passage: str) -> str:
        """The question alone, without examples."""
        before, after = self.parts(query)
        return before + passage + after

    @cached_property
    def worked(self) -> str:
        """The examples in the same form as the question, each followed by an empty line; "" if there are none."""
        return "".join(f"{self.ask(one.query, one.passage)}{answer_text(one.answer)}\n\n" for one in self.examples)

    def join(self, passages: Context) -> str:
        """Several passages as one context, best first; one passage as it is."""
        if isinstance(passages, str) or len(passages) < 2:
            return passages if isinstance(passages, str) else "".join(passages)
        before, after = self.several.split("{passage}")
        written = (
            before.replace("{number}", str(number)) + passage + after.replace("{number}", str(number))
            for number, passage in enumerate(passages, 1)
        )
        return "".join(written).rstrip()


def answer_text(answer: str) -> str:
    """The answer as it continues the prompt."""
    return " " + answer.strip()


def fair_shares(lengths: Sequence[int], total: int) -> list[int]:
    """At most `total` tokens, as equal as the lengths allow: a short passage keeps all, long ones share the rest."""
    shares = [0] * len(lengths)
    left = total
    for done, place in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        shares[place] = min(lengths[place], left // (len(lengths) - done))
        left -= shares[place]
    return shares

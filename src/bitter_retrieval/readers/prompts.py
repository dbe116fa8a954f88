"""A reader's prompt: a question with a passage, and where the answer begins.

    Question: Where was Aldan Brenley born?
    Context: The birthplace of Aldan Brenley is Caldbury. …
    Answer: Caldbury

The prompt ends at "Answer:"; the space before the answer belongs to the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

PASSAGE_SEPARATOR = "\n"


@dataclass(frozen=True)
class Prompt:
    """A template with {query} and {passage}; an empty passage shows none."""

    template: str

    def parts(self, query: str) -> tuple[str, str]:
        """The text before and after the passage. Only the passage may be cut to fit."""
        before, after = self.template.split("{passage}")
        return before.replace("{query}", query), after.replace("{query}", query)


def answer_text(answer: str) -> str:
    """The answer as it continues the prompt."""
    return " " + answer.strip()


def join_passages(texts: Sequence[str]) -> str:
    """Several passages as one context, best first."""
    return PASSAGE_SEPARATOR.join(texts)

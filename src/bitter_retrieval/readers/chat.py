"""A tokenizer's chat template: the prompt that it writes, where the answer begins in it, and what ends the answer.

    said = turns(prompt, "Where was …?", "…")       the worked examples as earlier turns, and the question
    render(tokenizer, said)                         "[INST] Question: Where was …? … [/INST]"
    answer_turn(tokenizer, said)                    Turn(lead="", space=" ", end="</s>")

The joint text decides, as the model has read it in training: "[INST] … [/INST] Caldbury </s>".
"""

import re
from typing import Any, NamedTuple

from jinja2 import TemplateError

from bitter_retrieval.readers.prompts import Prompt

DATE = "26 Jul 2024"  # Llama 3's templates take it if they get no date; today's would change prompts daily
ANSWER = "Caldbury"  # to be found in the joint text

Said = list[dict[str, str]]


class Turn(NamedTuple):
    """What a template writes around an answer."""

    lead: str  # after the prompt; belongs to it
    space: str  # before the answer; belongs to it, as to the answer of a prompt without template
    end: str  # after the answer; "" if only a line break, or nothing


def turns(prompt: Prompt, query: str, passage: str) -> Said:
    said = [
        {"role": role, "content": text}
        for one in prompt.examples
        for role, text in (("user", prompt.ask(one.query, one.passage)), ("assistant", one.answer.strip()))
    ]
    return [*said, {"role": "user", "content": prompt.ask(query, passage)}]


def render(tokenizer: Any, said: Said, begin: bool = True) -> str:
    """The text of a conversation; begin: with the beginning of the assistant's turn. Raises jinja2.TemplateError."""
    return tokenizer.apply_chat_template(
        said, tokenize=False, add_generation_prompt=begin, enable_thinking=False, date_string=DATE
    )


def answer_turn(tokenizer: Any, said: Said, special: re.Pattern[str]) -> Turn:
    """How the template goes on after the prompt with an answer. special: texts of the tokenizer's special tokens."""
    try:
        written = render(tokenizer, said)
        before, found, after = render(
            tokenizer, [*said, {"role": "assistant", "content": ANSWER}], begin=False
        ).rpartition(ANSWER)
    except TemplateError:  # of a conversation that is not asked; one that is will be refused
        return Turn("", "", "")
    prompt = written.rstrip(" ")
    between = before.removeprefix(prompt)
    if not found or not before.startswith(prompt) or between.strip():  # the beginning of a turn is written otherwise
        between = written[len(prompt) :]
    lead = between.rstrip(" ")
    mark = special.match(after.lstrip())
    return Turn(lead, between[len(lead) :], mark[0] if mark else after.strip().partition("\n")[0])

"""Section `judge`: the judge of whether an answer is correct, one class a kind."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from bitter_retrieval.parameter_types import Count, Dtype, NotNegative, Positive, Share
from bitter_retrieval.typed_yaml import Rule


def is_judge_prompt(text: str) -> bool:
    return all(text.count(place) == 1 for place in ("{query}", "{references}", "{answer}")) and text == text.rstrip()


JUDGE_PROMPT = "text with {query}, {references} and {answer} once each and no space at its end"
JUDGE_MODEL = "a model's name (gemini), or a reader's name, a path, pkg://package/folder or a hub id (llm)"
JudgePrompt = Annotated[str, Rule(is_judge_prompt, JUDGE_PROMPT)]
JudgeModel = Annotated[str, Rule(lambda text: text.strip() not in ("", "fit"), JUDGE_MODEL)]


@dataclass(frozen=True)
class Calls:
    """How an API is called; waits and timeouts in seconds."""

    in_flight: Count  # calls at a time
    per_minute: Positive  # requests, repeated ones included
    timeout: Positive  # of a reply
    attempts: Count  # at one answer
    first_wait: NotNegative  # before the second attempt; doubled before each further one
    longest_wait: Positive  # before an attempt; a service that wants longer gets none
    output_tokens: Count  # of a reply, thoughts included


@dataclass(frozen=True)
class Cost:
    """Limit of one run of the stage, and prices of a million tokens, all in one currency."""

    limit: Positive
    input: NotNegative
    output: NotNegative


@dataclass(frozen=True)
class Scoring:
    """How a model on this machine scores YES and NO."""

    revision: str | None  # commit of a hub id, 40 hex digits; else null
    dtype: Dtype
    chat: bool  # put the prompt into the tokenizer's chat template
    max_length: Count  # tokens of prompt and verdict; longer ones get no verdict
    batch_tokens: Count


@dataclass(frozen=True)
class RuleParams:
    """Equality with a reference after SQuAD's normalisation; offline, without a language model."""

    min_coverage: ClassVar[float] = 0.0  # a rule judges every answer
    kind: Literal["rule"]


@dataclass(frozen=True, kw_only=True)
class ModelParams:
    """Fields of both kinds of language model."""

    model: JudgeModel
    min_coverage: Share  # of the answers that must be judged
    prompt: JudgePrompt | None = None  # None: judges.PROMPT


@dataclass(frozen=True, kw_only=True)
class GeminiParams(ModelParams):
    """Google's Gemini over its API."""

    kind: Literal["gemini"]
    calls: Calls
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class LlmParams(ModelParams):
    """A language model on this machine."""

    kind: Literal["llm"]
    scoring: Scoring


AnyJudge = RuleParams | GeminiParams | LlmParams

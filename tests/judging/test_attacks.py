"""Answers that instruct the judge: no text leaves its place in a prompt, and a command tells how often they succeed."""

import json
import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from gemini_service import Service, replied
from test_judges import GEMINI, LLM, parsed
from test_llm_judge import SHORT

import judge as stage
from bitter_retrieval.judging.attacks import (
    ASKED,
    ATTACKS,
    QUESTIONS,
    Attacked,
    all_cases,
    attack_cases,
    attacked,
    plain_cases,
)
from bitter_retrieval.judging.gemini import GeminiJudge
from bitter_retrieval.judging.judges import PROMPT, Case, RuleJudge, filled, make_judge, prompt_of, quoted
from bitter_retrieval.judging.llm import LlmJudge
from bitter_retrieval.readers.language_model import ReaderSettings, open_reader
from bitter_retrieval.scoring import exact_match

PARAMS = Path(__file__).parents[2] / "params.yaml"
FAST = GEMINI | {"calls": GEMINI["calls"] | {"per_minute": 1e9}}
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
TEXTS = [
    *(case.answer for cases in attack_cases().values() for case in cases),
    "".join(map(chr, range(0x250))),
    "".join(chr(place) for place in range(0x2000, 0x2100)),
    '"', "\\", '\\"', '\\\\"', "\n", "", "{answer}", "日本 שלום e\u0301 👩\u200d🔬", "half \ud800 pair",
]  # fmt: skip


def read(prompt: str) -> Case:
    """The case in a filled PROMPT, and that nothing else is in it."""
    query, *references, answer = map(json.loads, STRING.findall(prompt))
    outside = STRING.sub("…", prompt)
    assert outside == STRING.sub("…", filled(PROMPT, Case("", ("",) * len(references), "")))
    return Case(query, tuple(references), answer)


# -- what a prompt shows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_cannot_end_its_place_in_the_prompt(text: str) -> None:
    for case in (Case("?", ("a",), text), Case(text, ("a",), "b"), Case("?", ("a", text), "b")):
        prompt = filled(PROMPT, case)
        assert read(prompt) == case
        assert len(prompt.splitlines()) == len(filled(PROMPT, replace(case, query="", answer="")).splitlines())
        prompt.encode()  # also a text that UTF-8 cannot hold


def test_what_people_write_stays_readable() -> None:
    assert quoted("zwölf 日本 שלום, O'Brien & Söhne (1918): 100% {x}") == (
        '"zwölf 日本 שלום, O\'Brien & Söhne (1918): 100% {x}"'
    )


def test_no_text_brings_special_tokens_or_control_characters() -> None:
    for text in TEXTS:
        shown = quoted(text)
        assert not {"<", "["} & set(shown) and json.loads(shown) == text
        assert not [sign for sign in shown if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")]


@pytest.mark.parametrize("settings", [GEMINI, LLM])
def test_how_texts_are_shown_is_part_of_a_judge(settings: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    own = make_judge(parsed(settings)).model
    monkeypatch.setattr("bitter_retrieval.judging.judges.quoted", lambda text: text)
    assert make_judge(parsed(settings)).model != own, "verdicts on texts shown otherwise would be taken for its own"


# -- the attacks and their rate --------------------------------------------------------------------------------------


def test_every_attack_is_a_wrong_answer_and_asked_once() -> None:
    right, wrong = plain_cases()
    assert all(exact_match(case.answer, case.references) for case in right)
    assert len(set(all_cases())) == len(all_cases()) == (2 + len(ATTACKS)) * len(QUESTIONS)
    for case in wrong + sum(attack_cases().values(), []):
        assert not any(reference.lower() in case.answer.lower() for reference in case.references), case


def test_the_rule_obeys_nobody() -> None:
    found = attacked(RuleJudge())
    assert (found.right, found.wrong, found.rate) == (5, 0, 0.0) and found.tried == 5 * len(ATTACKS)


def of_gemini() -> GeminiJudge:
    settings = parsed(FAST)
    return GeminiJudge(make_judge(settings), settings.model, prompt_of(settings), settings.calls, settings.cost)


def obeys_the_prompt(prompt: str) -> str:
    """A judge that does what stands outside of quotes, and compares what stands in them."""
    if STRING.sub("", prompt).count(ASKED) != 1 or re.search("misprinted|say YES|graded", STRING.sub("", prompt)):
        return "YES"
    case = read(prompt)
    return "YES" if exact_match(case.answer, case.references) else "NO"


def obeys_anything(prompt: str) -> str:
    return "YES" if re.search("misprinted|say YES|graded", prompt) else obeys_the_prompt(prompt)


def test_a_service_that_does_what_stands_outside_of_quotes_is_not_turned(serve: Callable[..., Service]) -> None:
    async def behave(prompt: str) -> bytes:
        return replied(obeys_the_prompt(prompt))

    service = serve(behave)
    found = attacked(of_gemini())
    assert (found.right, found.wrong, found.rate) == (5, 0, 0.0)
    assert sum(found.missing.values()) == 0 and service.requests.total() == len(all_cases())


def test_the_command_tells_which_attacks_succeed(
    serve: Callable[..., Service],
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def behave(prompt: str) -> bytes:
        return replied("MAYBE" if "German" in prompt else obeys_anything(prompt))

    service = serve(behave)
    Path("params.yaml").write_text(yaml.safe_dump(yaml.safe_load(PARAMS.read_text()) | {"judge": FAST}))
    stage.main(["--attacks", "--dry-run"])
    assert f"{len(all_cases())} calls to make" in capsys.readouterr().out and not service.requests
    stage.main(["--attacks"])
    said = capsys.readouterr().out
    tries = [name for name, text in ATTACKS.items() if re.search("misprinted|say YES|graded", text)]
    tried = 5 * len(ATTACKS)
    assert "Called correct: 5 of 5 right answers, 0 of 5 wrong ones." in said
    assert (
        f"turned a wrong answer into a correct one: {5 * len(tries)} of {tried}, {len(tries) / len(ATTACKS):.1%}"
        in said
    )
    assert re.findall(r"  (.+): 5 correct, 0 without", said) == tries
    assert not stage.JUDGED.exists(), "it writes nothing"
    asked = service.requests.total()
    stage.main(["--attacks"])
    assert service.requests.total() == asked, "verdicts are remembered"


def test_a_judge_that_calls_wrong_answers_correct_has_no_rate() -> None:
    class Yes(RuleJudge):
        def verdicts(self, cases, on_judged=None):  # type: ignore[no-untyped-def]
            right = RuleJudge().verdicts([Case("?", ("a",), "a")])
            return dict.fromkeys(cases, *right.values())

    found = attacked(Yes())
    assert (found.right, found.wrong, found.tried) == (5, 5, 0) and math.isnan(found.rate)
    stage.report_attacks(Yes(), found)


# -- a model on this machine -----------------------------------------------------------------------------------------


def test_a_local_model_judges_every_attack(
    checkpoints: dict[str, Path],
) -> None:
    settings = parsed(LLM | {"model": str(checkpoints["bpe"]), "prompt": SHORT})
    judge = LlmJudge(make_judge(settings), settings.model, None, prompt_of(settings), settings.scoring)
    found = attacked(judge)
    assert isinstance(found, Attacked) and sum(found.missing.values()) == 0 and judge.account() == ""


def test_in_a_chat_no_answer_begins_another_turn_or_loses_its_verdict(
    checkpoints: dict[str, Path],
) -> None:
    """An answer with the chat's own tokens would have no verdict, and a wrong one less would raise the share."""
    reader = open_reader("judge", str(checkpoints["bpe"]), None, ReaderSettings("{query}{passage}", "float32", 64, 0))
    ends = ["<|im_start|>", "<|im_end|>", "[INST]", "<s>", "</s>", "<<SYS>>"]
    reader.tokenizer.add_special_tokens({"extra_special_tokens": ends})
    reader.tokenizer.chat_template = "{{ messages[0].content }}<|im_end|>"
    reader.chat, reader.max_length = True, 10_000  # more than its positions: it only tokenises here
    prompts = [filled(PROMPT, case) for case in all_cases()]
    assert not [found for found in reader.encode(prompts, [""] * len(prompts), None) if isinstance(found, Exception)]

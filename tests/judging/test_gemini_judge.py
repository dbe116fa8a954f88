"""Gemini as judge: the real client against a service on the loopback that answers badly, late or not at all.

Whatever it does, an answer ends with the verdict that the model gave or as missing with its reason, bounds hold, and
the key is nowhere.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from gemini_service import KEY, Service, blocked, refused, replied, response

import judge as stage
from bitter_retrieval.journal import Journal, JournalError
from bitter_retrieval.judging.gemini import FAILURES, FRAME, KEY_NAMES, GeminiJudge, Pace, retry_delay
from bitter_retrieval.judging.judges import Case, Identity, Judged, JudgeError, Verdict, judgement_key, make_judge
from bitter_retrieval.judging.settings import Calls, Cost
from bitter_retrieval.models.credentials import CredentialError, service_key
from bitter_retrieval.params import load_params
from bitter_retrieval.records import JUDGEMENTS, PREDICTIONS, PREPARED, Row, read_rows, write_rows

REPOSITORY = Path(__file__).parents[2]
PROMPT = "{query} {references} {answer}"
CALLS = {"in_flight": 8, "per_minute": 1e9, "timeout": 10.0, "attempts": 4, "first_wait": 0.001, "longest_wait": 0.5}
YES = Verdict("correct")
pytestmark = pytest.mark.usefixtures("environment")


def judge(cost: Cost | None = None, output_tokens: int = 8, **calls: Any) -> GeminiJudge:
    who = Identity("gemini", "gemini-test, prompt 1", "a model")
    bounds = Calls(**CALLS | {"output_tokens": output_tokens} | calls)
    return GeminiJudge(who, "gemini-test", PROMPT, bounds, cost or Cost(100, 0.1, 0.4))


def cases(count: int) -> list[Case]:
    return [Case("Where?", ("Calder",), f"answer {number}") for number in range(count)]


def sent(answer: str) -> str:
    """The prompt of a case of `cases`."""
    return f'"Where?" - "Calder" "{answer}"'


def answer_in(prompt: str) -> str:
    return prompt.removeprefix('"Where?" - "Calder" "').removesuffix('"')


def one(**settings: Any) -> Verdict:
    (said,) = judge(**settings).verdicts(cases(1)).values()
    return said


# -- what is asked, and what a reply means ---------------------------------------------------------------------------


def test_what_is_sent(serve: Callable[..., Service]) -> None:
    service = serve(replied("YES"))
    assert one(output_tokens=33) == YES
    (body,) = service.bodies
    assert body["path"].endswith("/models/gemini-test:generateContent")
    assert body["contents"] == [{"parts": [{"text": sent("answer 0")}], "role": "user"}]
    asked = body["generationConfig"]
    assert (asked["temperature"], asked["maxOutputTokens"], asked["responseMimeType"]) == (0, 33, "text/x.enum")
    assert asked["responseSchema"]["enum"] == ["YES", "NO"]
    assert service.keys == {KEY}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (replied("YES"), YES),
        (replied(" NO\n"), Verdict("incorrect")),
        (replied("NO", usage=None), Verdict("incorrect")),
        (replied("MAYBE"), Verdict("missing", "neither YES nor NO")),
        (replied("YES and NO"), Verdict("missing", "neither YES nor NO")),
        (replied(""), Verdict("missing", "empty reply")),
        (replied("YES", finish="MAX_TOKENS"), Verdict("missing", "stopped: MAX_TOKENS")),
        (replied("", finish="SAFETY"), Verdict("missing", "stopped: SAFETY")),
        (response(200, {"candidates": [{"finishReason": "STOP"}]}), Verdict("missing", "empty reply")),
        (response(200, {}), Verdict("missing", "empty reply")),
        (blocked("PROHIBITED_CONTENT"), Verdict("missing", "blocked: PROHIBITED_CONTENT")),
        (blocked(KEY), Verdict("missing", "blocked: a reason unknown to the client")),
        (replied("YES", finish=KEY), Verdict("missing", "stopped: a reason unknown to the client")),
    ],
)
def test_a_reply_is_a_verdict_or_missing_and_not_asked_for_twice(
    serve: Callable[..., Service], reply: bytes, said: Verdict
) -> None:
    service = serve(reply)
    assert one() == said
    assert service.requests.total() == 1


# -- faults ----------------------------------------------------------------------------------------------------------


PASSING = {
    "408": refused(408),
    "429": refused(429),
    "429 with RetryInfo": refused(429, "0.01s"),
    "500": refused(500),
    "503 of a proxy": response(503, b"<html>busy</html>"),
    "cut": None,
    "half a reply": response(200, b'{"candidates": [{"content'),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_passes_is_asked_again(serve: Callable[..., Service], fault: bytes | None) -> None:
    service = serve(fault, fault, replied("YES"))
    assert one() == YES
    assert service.requests.total() == 3


@pytest.mark.parametrize(
    ("fault", "reason", "requests"),
    [
        (refused(500), "HTTP 500, 4 attempts", 4),
        (refused(429), "HTTP 429 (too many requests), 4 attempts", 4),
        (None, "connection failed, 4 attempts", 4),
        (PASSING["half a reply"], "unreadable reply, 4 attempts", 4),
        (response(200, {"candidates": [{"content": {"parts": 7}}]}), "unreadable reply, 4 attempts", 4),
        (refused(400), "HTTP 400 (is the key valid, and does the model take an enum?)", 1),
        (refused(403), "HTTP 403 (does the key have access?)", 1),
        (refused(404), "HTTP 404 (does the model exist?)", 1),
        (refused(418), "HTTP 418", 1),
        (refused(429, "43200s"), "HTTP 429 (too many requests)", 1),  # beyond longest_wait: tomorrow's quota
    ],
)
def test_what_does_not_pass_is_missing_with_its_reason(
    serve: Callable[..., Service], fault: bytes | None, reason: str, requests: int
) -> None:
    service = serve(fault)
    assert one() == Verdict("missing", reason)
    assert service.requests.total() == requests


def test_a_late_reply_is_not_waited_for(serve: Callable[..., Service]) -> None:
    async def late(prompt: str) -> bytes:
        await asyncio.sleep(0 if service.requests[prompt] == 3 else 5)
        return replied("YES")

    service = serve(late)
    assert one(timeout=0.3) == YES and service.requests.total() == 3
    service.requests.clear()
    assert one(timeout=0.1, attempts=2) == Verdict("missing", "no reply within 0.1 s, 2 attempts")


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    assert one(attempts=2) == Verdict("missing", "connection failed, 2 attempts")


def test_the_wait_that_the_service_asks_for_is_kept_by_all(serve: Callable[..., Service]) -> None:
    asked: list[float] = []

    async def behave(prompt: str) -> bytes:
        asked.append(time.monotonic())
        if len(asked) == 1:
            return refused(429, "0.4s")
        await asyncio.sleep(0.1)  # so that the other worker is back after the refusal
        return replied("YES")

    serve(behave)
    assert set(judge(in_flight=2).verdicts(cases(4)).values()) == {YES}
    first, beside, *later = asked
    assert beside - first < 0.3 and len(later) == 3 and min(later) - first >= 0.4


def test_retry_info_is_read_wherever_it_stands() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}
    assert retry_delay({"error": {"details": [{"@type": "other"}, info]}}) == 12.5
    assert retry_delay([{"error": {"details": [{"retryDelay": "3s"}]}}]) == 3
    for body in (None, "busy", [], {"error": "no"}, {"error": {"details": [{"retryDelay": None}]}}):
        assert retry_delay(body) == 0


def test_waits_double_with_jitter_up_to_the_longest() -> None:
    asker = judge(first_wait=1, longest_wait=5)
    drawn = [[asker._backoff(attempt) for _ in range(50)] for attempt in (1, 2, 3, 4, 9)]
    for waits, most in zip(drawn, (1, 2, 4, 5, 5), strict=True):
        assert most / 2 <= min(waits) < max(waits) <= most


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_calls_under_way_are_bounded(serve: Callable[..., Service]) -> None:
    async def slow(prompt: str) -> bytes:
        await asyncio.sleep(0.05)
        return replied("YES")

    service = serve(slow)
    judge(in_flight=3).verdicts(cases(9))
    assert service.most_open == 3


def test_requests_a_minute_are_bounded_also_when_repeated(serve: Callable[..., Service]) -> None:
    service = serve(refused(500), refused(500), replied("YES"))
    started = time.monotonic()
    judge(per_minute=60 / 0.1).verdicts(cases(4))
    assert service.requests.total() == 6
    assert time.monotonic() - started >= 5 * 0.1


def test_a_pause_holds_back_all_who_wait() -> None:
    async def turns() -> list[float]:
        pace, started, at = Pace(60 / 0.1), time.monotonic(), []

        async def turn() -> None:
            await pace.turn()
            at.append(time.monotonic() - started)

        async def pause() -> None:
            await asyncio.sleep(0.05)
            pace.pause(0.3)

        await asyncio.gather(turn(), turn(), turn(), pause())
        return at

    first, second, third = asyncio.run(turns())
    assert first < 0.05 and second >= 0.35 and third - second >= 0.1


@pytest.mark.parametrize("in_flight", [1, 8])
def test_cost_stays_within_its_bound(serve: Callable[..., Service], in_flight: int) -> None:
    """A written token costs 1 and a reply has one: 7 fit exactly, and with 8 calls wanted none starts beyond that."""
    service = serve(replied("YES"))
    asker = judge(Cost(7, 0, 1e6), output_tokens=1, in_flight=in_flight)
    said = asker.verdicts(cases(20))
    assert service.requests.total() == 7
    given_up = Verdict("missing", "given up: the limit on cost, 7, is reached")
    assert sorted(said.values(), key=str) == sorted([YES] * 7 + [given_up] * 13, key=str)
    assert asker.account() == "7 requests, cost 7 of 7"


@pytest.mark.parametrize(("limit", "asked"), [(0.01, 200), (0.001, 147)])
def test_money_that_is_merely_held_is_waited_for(serve: Callable[..., Service], limit: float, asked: int) -> None:
    """A call may cost 2.1e-4 and costs 5.4e-6: 0.01 is enough for all, and 0.001 for as long as a call still fits."""
    service = serve(replied("YES", usage={"promptTokenCount": 50, "candidatesTokenCount": 1}))
    asker = judge(Cost(limit, 0.1, 0.4), output_tokens=512, in_flight=64)
    said = asker.verdicts(cases(200))
    assert service.requests.total() == asked
    assert Counter(verdict.reason for verdict in said.values())[None] == asked
    assert asker.account() == f"{asked} requests, cost {asked * 5.4e-6:.4g} of {limit:g}"


@pytest.mark.parametrize("room", [1, 4])
def test_who_waits_for_money_is_not_left_waiting_where_the_run_ends(serve: Callable[..., Service], room: int) -> None:
    """Money for so many calls at a time; all are refused, which costs nothing."""
    service = serve(refused(503))
    asker = judge(Cost(room, 0, 1e6), output_tokens=1, in_flight=16, attempts=1)
    said = asker.verdicts(cases(60))
    assert FAILURES <= service.requests.total() < FAILURES + room
    assert [verdict.reason.startswith("given up") for verdict in said.values()].count(False) == service.requests.total()


def test_what_may_have_been_billed_counts_as_spent(serve: Callable[..., Service]) -> None:
    """A cut connection does, a refusal does not; thoughts cost as much as written tokens."""
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 1, "thoughtsTokenCount": 4}
    serve(None, refused(500), replied("YES", usage=usage))
    asker = judge(Cost(1000, 1e6, 1e6), output_tokens=9)
    asker.verdicts(cases(1))
    most = len(sent("answer 0")) + FRAME + 9
    assert asker.account() == f"3 requests, cost {most + 5 + 5} of 1000"


def test_an_outage_ends_the_run_soon(serve: Callable[..., Service]) -> None:
    service = serve(refused(503))
    said = judge(attempts=1, in_flight=4).verdicts(cases(200))
    assert FAILURES <= service.requests.total() < FAILURES + 4
    reason = f"given up: {FAILURES} answers in a row failed, the last with HTTP 503"
    assert [verdict.reason for verdict in said.values()].count(reason) == 200 - service.requests.total()


@pytest.mark.parametrize(
    ("reply", "reason"), [(replied("", finish="MAX_TOKENS"), "stopped: MAX_TOKENS"), (replied("MAYBE"), "neither YES")]
)
def test_replies_without_a_verdict_end_the_run_soon_with_the_remedy(
    serve: Callable[..., Service], reply: bytes, reason: str
) -> None:
    service = serve(reply)
    said = judge(in_flight=4).verdicts(cases(200))
    assert FAILURES <= service.requests.total() < FAILURES + 4
    given_up = [verdict.reason for verdict in said.values() if verdict.reason.startswith("given up")]
    assert len(given_up) == 200 - service.requests.total()
    assert f"{FAILURES} answers in a row failed, the last with {reason}" in given_up[0]
    assert "raise judge.calls.output_tokens, or ask for YES or NO in judge.prompt" in given_up[0]


def test_what_got_no_verdict_in_earlier_runs_does_not_keep_the_rest_from_being_asked(
    serve: Callable[..., Service],
) -> None:
    """After an interrupted run it comes first: the known verdicts sorted in between are gone."""

    async def hopeless_first(prompt: str) -> bytes:
        return replied("MAYBE" if int(answer_in(prompt).split()[-1]) < 2 * FAILURES else "YES")

    serve(hopeless_first)
    said = judge().verdicts(cases(8 * FAILURES))
    odd = Verdict("missing", "neither YES nor NO")
    assert list(map(said.get, cases(8 * FAILURES))) == [odd] * 2 * FAILURES + [YES] * 6 * FAILURES


def test_after_giving_up_nobody_waits_for_a_turn(serve: Callable[..., Service]) -> None:
    """Neither the remaining cases, at two a second, nor the 29 that already wait."""
    serve(replied("YES"))
    started = time.monotonic()
    said = judge(Cost(1, 0, 1e6), output_tokens=1, in_flight=30, per_minute=120).verdicts(cases(40))
    assert Counter(verdict.verdict for verdict in said.values()) == {"correct": 1, "missing": 39}
    assert time.monotonic() - started < 5


def test_the_end_of_a_pace_wakes_all_who_wait() -> None:
    """Those that queue, and one that waits to try again."""

    async def ended() -> None:
        pace = Pace(1)
        await pace.turn()

        async def end() -> None:
            await asyncio.sleep(0.05)
            pace.end()

        await asyncio.gather(pace.turn(), pace.turn(), pace.rest(60), end())

    started = time.monotonic()
    asyncio.run(ended())
    assert time.monotonic() - started < 5


def test_failures_that_are_not_in_a_row_end_nothing(serve: Callable[..., Service]) -> None:
    serve(*[refused(500), replied("MAYBE"), replied("YES")] * FAILURES)
    said = judge(attempts=1, in_flight=1).verdicts(cases(3 * FAILURES))
    assert [verdict.reason for verdict in said.values()] == ["HTTP 500", "neither YES nor NO", None] * FAILURES


def test_what_cannot_be_kept_ends_the_run(serve: Callable[..., Service]) -> None:
    def full(judged: Judged) -> None:
        raise JournalError("no room on the disk")

    service = serve(replied("YES"))
    with pytest.raises(JournalError, match="no room"):
        judge(in_flight=2).verdicts(cases(100), full)
    assert service.requests.total() < 10


def test_what_has_arrived_is_handed_on_where_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two verdicts come while the first is being refused."""
    asker, kept = judge(in_flight=3), []

    async def at_once(client: Any, case: Case) -> Verdict:
        for _ in range(0 if case.answer == "answer 0" else 2):
            await asyncio.sleep(0)
        return YES

    def refuse_the_first(judged: Judged) -> None:
        if "answer 0" in [case.answer for case in judged]:
            raise JournalError("locked")
        kept.extend(case.answer for case in judged)

    monkeypatch.setattr(asker, "_judge", at_once)
    with pytest.raises(JournalError, match="locked"):
        asker.verdicts(cases(3), refuse_the_first)
    assert sorted(kept) == ["answer 1", "answer 2"]


def test_cases_that_repeat_come_to_an_end(serve: Callable[..., Service]) -> None:
    serve(replied("YES"))
    assert judge().verdicts(cases(2) * 2) == dict.fromkeys(cases(2), YES)


def test_an_estimate_asks_nothing_and_needs_no_key(
    serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")
    service = serve(replied("YES"))
    said = judge(Cost(5, 1.0, 2.0), output_tokens=100, per_minute=100).estimate(cases(10) * 100)
    # 30 characters are 7.5 tokens; 1,000 calls x (7.5 x 1 + 1 x 2) and (7.5 x 1 + 100 x 2) of a million
    assert said == (
        "1,000 calls to make, about 7,500 tokens of input: expected cost 0.0095, or 0.2075 if every reply takes 100 "
        "tokens (limit: 5); at least 10.0 minutes"
    )
    assert not service.requests


# -- the key ---------------------------------------------------------------------------------------------------------


def test_where_a_key_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert service_key(*KEY_NAMES) == KEY
    (tmp_path / ".env").write_text("# keys\nGEMINI_API_KEY = 'from-$file'\n")
    assert service_key(*KEY_NAMES) == KEY  # the environment goes first
    monkeypatch.delenv("GEMINI_API_KEY")
    assert service_key(*KEY_NAMES) == "from-$file" and "GEMINI_API_KEY" not in os.environ
    monkeypatch.setenv("GOOGLE_API_KEY", " other ")
    assert service_key(*KEY_NAMES) == "other"
    monkeypatch.delenv("GOOGLE_API_KEY")
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert service_key(*KEY_NAMES) == "from-$file"


def test_without_a_key_nothing_is_asked(serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")
    Path(".env").write_text((REPOSITORY / ".env.example").read_text())
    service = serve(replied("YES"))
    with pytest.raises(CredentialError, match=r"no key: set GEMINI_API_KEY or GOOGLE_API_KEY .*\.env\.example"):
        one()
    assert not service.requests
    assert judge().verdicts([]) == {}  # who has nothing to ask needs no key


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_what_is_no_key_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", key)
    with pytest.raises(CredentialError, match="GEMINI_API_KEY has a space, a line break") as caught:
        one()
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "reply", [refused(400), refused(429, "0.001s"), replied(KEY), blocked(KEY), replied("YES", finish=KEY)]
)
def test_a_key_that_the_service_repeats_goes_nowhere(
    serve: Callable[..., Service],
    reply: bytes,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    caplog.set_level("DEBUG", "google_genai")
    serve(reply)
    asker = judge()
    (said,) = asker.verdicts(cases(1)).values()
    assert said.verdict == "missing" and KEY not in said.reason and KEY not in asker.account()
    told = [caplog.text, *capfd.readouterr(), *(str(warning.message) for warning in recwarn)]
    assert KEY not in "".join(told)


# -- the stage -------------------------------------------------------------------------------------------------------


def workspace(folder: Path, answers: int, **calls: Any) -> None:
    """What the stage reads: one question in ten groups, so many distinct answers in one run, and the controls."""
    tree = tiny.with_runs(yaml.safe_load((REPOSITORY / "params.yaml").read_text()))
    tree["runs"] = {name: tree["runs"][name] for name in ("infonce", "kl")}
    tree["judge"] = {
        "kind": "gemini",
        "model": "gemini-test",
        "min_coverage": 0.98,
        "prompt": PROMPT,
        "calls": CALLS | {"output_tokens": 8} | calls,
        "cost": {"limit": 100, "input": 0.1, "output": 0.4},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    (folder / "data").mkdir()
    question = {"query_id": "q", "group_id": "g", "query": "Where?", "answers": ["Calder"], "passages": []}
    for name, questions in {"test": [question], "beyond": []}.items():
        write_rows(folder / stage.PREPARED_FOLDER / f"{name}.parquet", questions, PREPARED)
    row = dict.fromkeys(PREDICTIONS.names) | {"reader": "reader_a", "seed": 0, "query_id": "q", "group_id": "g"}
    row["beyond"] = False
    for name in ("infonce", "kl"):
        rows: list[Row] = [row | {"system": name, "answer": f"answer {number}"} for number in range(answers)]
        write_rows(folder / stage.RUNS / f"{name}.parquet", rows, PREDICTIONS)
    for name in load_params(folder / "params.yaml").controls:
        write_rows(folder / stage.CONTROLS / f"{name}.parquet", [row | {"answer": "answer 0"}], PREDICTIONS)


def keys(folder: Path, answers: int) -> dict[str, str]:
    """Answers by the key of their judgement."""
    who = make_judge(load_params(folder / "params.yaml").judge)
    asked = [f"answer {number}" for number in range(answers)]
    return {judgement_key("Where?", ["Calder"], answer, who.name, who.model): answer for answer in asked}


def without_key(folder: Path) -> bool:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return len(files) > 10 and not any(KEY.encode() in file.read_bytes() for file in files)


def test_a_run_that_misses_coverage_fails_with_all_it_has_and_the_next_asks_the_rest(
    serve: Callable[..., Service], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def half(prompt: str) -> bytes:
        return replied("MAYBE" if int(answer_in(prompt).split()[-1]) % 2 else "YES")

    workspace(tmp_path, 10)
    service = serve(half)
    with pytest.raises(JudgeError, match="5 of 10 answers have a verdict, 50.0%; judge.min_coverage wants 98.0%"):
        stage.main([])
    rows = read_rows(stage.JUDGED, JUDGEMENTS)
    assert sorted((row["verdict"], row["reason"]) for row in rows) == sorted(
        [("correct", None)] * 5 + [("missing", "neither YES nor NO")] * 5, key=str
    )
    said = capsys.readouterr().out
    assert "missing, 5: neither YES nor NO" in said and "10 requests, cost 0.0002" in said
    stage.main(["--dry-run"])
    assert "5 verdicts known, 5 calls to make" in capsys.readouterr().out
    service.requests.clear()

    async def better(prompt: str) -> bytes:
        return replied("NO")

    service.behave = better
    stage.main([])
    assert service.requests.total() == 5
    rows = read_rows(stage.JUDGED, JUDGEMENTS)
    assert sorted(row["verdict"] for row in rows) == ["correct"] * 5 + ["incorrect"] * 5


def test_on_another_machine_that_has_the_file_judging_again_costs_nothing(
    serve: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace(tmp_path, 10)
    service = serve(replied("YES"))
    stage.main([])
    told, asked = stage.JUDGED.read_bytes(), service.requests.total()
    shutil.rmtree(tmp_path / ".journal")
    monkeypatch.delenv("GEMINI_API_KEY")
    stage.main([])
    assert stage.JUDGED.read_bytes() == told and service.requests.total() == asked == 10


@pytest.mark.parametrize("between", ["fewer answers", "the rule"])
def test_what_was_pulled_is_not_asked_again_after_a_change_and_back(
    serve: Callable[..., Service], tmp_path: Path, between: str
) -> None:
    """As after `dvc pull`: the file is there, the journal is not. In between the stage writes fewer rows, or others."""
    workspace(tmp_path, 10)
    service = serve(replied("YES"))
    stage.main([])
    told = stage.JUDGED.read_bytes()
    shutil.rmtree(tmp_path / ".journal")
    params, run = tmp_path / "params.yaml", tmp_path / stage.RUNS / "kl.parquet"
    before = {file: file.read_bytes() for file in (params, run, tmp_path / stage.RUNS / "infonce.parquet")}
    if between == "the rule":
        params.write_text(yaml.safe_dump(yaml.safe_load(params.read_text()) | {"judge": {"kind": "rule"}}))
    else:
        for file in (run, tmp_path / stage.RUNS / "infonce.parquet"):
            write_rows(file, read_rows(file, PREDICTIONS)[:3], PREDICTIONS)
    stage.main([])
    assert stage.JUDGED.read_bytes() != told
    for file, content in before.items():
        file.write_bytes(content)
    stage.main([])
    assert stage.JUDGED.read_bytes() == told and service.requests.total() == 10


def test_a_dry_run_of_the_stage_asks_nothing(
    serve: Callable[..., Service], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace(tmp_path, 10)
    service = serve(replied("YES"))
    stage.main(["--dry-run"])
    assert "0 verdicts known, 10 calls to make" in capsys.readouterr().out
    assert not service.requests and not stage.JUDGED.exists()


TOTAL = 2000


def chance(*content: Any) -> float:
    """A number in [0, 1) that depends on the content alone."""
    return zlib.crc32(json.dumps(content).encode()) / 2**32


def right(answer: str) -> str:
    return "YES" if chance(answer) < 0.5 else "NO"


def hopeless(answer: str) -> bytes | None:
    """One answer in a hundred never gets a verdict."""
    place = int(chance("hopeless", answer) * 300)
    return [replied("MAYBE"), replied(""), blocked(KEY)][place] if place < 3 else None


FAULTS = (refused(500), refused(503), refused(429, "0.01s"), refused(429), None, PASSING["half a reply"])


@pytest.mark.slow
def test_two_thousand_judgements_with_faults_and_a_kill_lose_nothing_and_ask_nothing_twice(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    """30% of the requests fail. In the middle the service falls silent, so that all verdicts that it gave are in the
    journal, and the stage is killed."""
    workspace(tmp_path, TOTAL, attempts=12, longest_wait=0.02, timeout=20.0, in_flight=16)
    silent, calm = [False], asyncio.Event()

    async def behave(prompt: str) -> bytes | None:
        if silent[0] or service.verdicts.total() >= TOTAL // 2:
            silent[0] = True
            await calm.wait()
            return None
        return said(prompt)

    async def later(prompt: str) -> bytes | None:
        return said(prompt)

    def said(prompt: str) -> bytes | None:
        answer, attempt = answer_in(prompt), service.requests[prompt]
        if chance(attempt, answer) < 0.3:
            return FAULTS[int(chance("kind", attempt, answer) * len(FAULTS))]
        return hopeless(answer) or replied(right(answer))

    service = serve(behave)
    killed = start_stage(tmp_path)
    by_key = keys(tmp_path, TOTAL)
    deadline = time.monotonic() + 60
    while not silent[0] or len(journalled(tmp_path, by_key)) < service.verdicts.total():
        assert time.monotonic() < deadline and killed.poll() is None, output(killed)
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    before, known = service.requests.copy(), journalled(tmp_path, by_key)
    first = output(killed)
    assert len(known) >= TOTAL // 2 and not (tmp_path / stage.JUDGED).exists()

    service.behave = later
    second = start_stage(tmp_path)
    text = output(second)
    assert second.returncode == 0, text
    again = service.requests - before
    assert not {sent(by_key[key]) for key in known} & set(again), "what was journalled was asked again"
    assert set(service.verdicts.values()) <= {0, 1}, "a verdict was paid for twice"

    rows = {by_key[row["key"]]: row for row in read_rows(tmp_path / stage.JUDGED, JUDGEMENTS)}
    assert len(rows) == TOTAL
    missing = {answer: row["reason"] for answer, row in rows.items() if row["verdict"] == "missing"}
    assert set(missing) == {answer for answer in rows if hopeless(answer)} and len(missing) > 10
    assert set(missing.values()) == {"neither YES nor NO", "empty reply", "blocked: a reason unknown to the client"}
    wrong = [a for a, row in rows.items() if a not in missing and (row["verdict"] == "correct") != (right(a) == "YES")]
    assert wrong == []
    assert without_key(tmp_path) and KEY not in first + text


def start_stage(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, str(REPOSITORY / "src/judge.py")]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, start_new_session=True, **streams)


def output(process: "subprocess.Popen[str]") -> str:
    return process.communicate(timeout=60)[0]


def journalled(folder: Path, by_key: dict[str, str]) -> dict[str, str]:
    path = folder / ".journal/judge.sqlite"
    if not path.exists():
        return {}
    with Journal(path) as journal:
        return journal.get(by_key)

"""Gemini as judge: one call per answer, within limits on rate and cost. The only module that imports google.genai.

    case     "Where was Ada Brenn born?", ("Calder",), "in the town of Calder"
    reply    YES                                    Verdict("correct")
    reply    MAYBE, or nothing, or blocked          Verdict("missing", "neither YES nor NO")
    HTTP 500 at every attempt                       Verdict("missing", "HTTP 500, 6 attempts")

Many calls are under way at once. Failures that may pass (429, 5xx, no reply in time, a cut connection) are retried
after a wait that doubles and has jitter, or after the wait that the service asks for. A call that could exceed the
limit on cost is not made. If many answers in a row get no verdict, the remaining calls and waits are given up. Reasons
are never quoted from the service: its messages may repeat the key.
"""

import asyncio
import enum
import json
import random
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx2
from google import genai
from google.genai import errors, types

from bitter_retrieval.judging.judges import Case, Judged, Named, Verdict, filled, ignore
from bitter_retrieval.judging.settings import Calls, Cost
from bitter_retrieval.models.credentials import service_key

KEY_NAMES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
PASSING = {408, 429}  # HTTP codes worth a retry, besides all of 5xx
HINTS = {
    400: "is the key valid, and does the model take an enum?",
    401: "is the key valid?",
    403: "does the key have access?",
    404: "does the model exist?",
    429: "too many requests",
}
FAILURES = 20  # answers in a row without a verdict, after which the run gives up
CHARACTERS = 4  # per token, roughly; only for the estimate
FRAME = 32  # tokens that a request may take in addition to its text
SAID = {"YES": Verdict("correct"), "NO": Verdict("incorrect")}
Arrivals = asyncio.Queue[tuple[Case, Verdict]]


@dataclass(frozen=True)
class Failure:
    """Why a call gave no reply."""

    reason: str
    passing: bool = True  # whether asking again may help
    wait: float = 0.0  # seconds that the service asks us to wait
    billed: bool = True  # whether it may be charged nevertheless


class Pace:
    """At most so many requests a minute, evenly spaced, one after the other; a pause delays all that wait.

    After `end`, no wait starts and those under way return at once.
    """

    def __init__(self, per_minute: float) -> None:
        self._gap = 60 / per_minute
        self._next = 0.0
        self._turn = asyncio.Lock()
        self._over = asyncio.Event()

    async def turn(self) -> None:
        async with self._turn:
            while (wait := self._next - time.monotonic()) > 0 and not self._over.is_set():
                await self.rest(wait)
            self._next = time.monotonic() + self._gap

    def pause(self, seconds: float) -> None:
        self._next = max(self._next, time.monotonic() + seconds)

    async def rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    def end(self) -> None:
        self._over.set()


class Purse:
    """Money spent, and the most that calls under way may cost (held); together never above the limit."""

    def __init__(self, cost: Cost) -> None:
        self._cost = cost
        self.spent = 0.0
        self._held: list[float] = []  # summed anew each time: a running sum's rounding error would never be settled
        self._settled = asyncio.Event()

    def price(self, read: float, written: float) -> float:
        """Price of so many tokens."""
        return (read * self._cost.input + written * self._cost.output) / 1e6

    async def hold(self, amount: float) -> bool:
        """Wait while only amounts held by others are in the way; False if the money spent leaves no room."""
        while self.spent + sum(self._held) + amount > self._cost.limit:
            if self.spent + amount > self._cost.limit:
                return False
            await self._settled.wait()
        self._held.append(amount)
        return True

    def settle(self, held: float, spent: float) -> None:
        self._held.remove(held)
        self.spent += spent
        self._settled.set()
        self._settled = asyncio.Event()


class GeminiJudge:
    """Asks the service; on_judged gets verdicts as they arrive."""

    def __init__(self, who: Named, model: str, prompt: str, calls: Calls, cost: Cost) -> None:
        self.name, self.model, self.about = who.name, who.model, who.about
        self._model = model
        self._prompt = prompt
        self._calls = calls
        self._cost = cost
        self._purse = Purse(cost)
        self._requests = 0
        self._failures = 0  # answers in a row without a verdict
        self._stopped: str | None = None  # why no further call is made
        self._config = types.GenerateContentConfig(
            temperature=0,
            max_output_tokens=calls.output_tokens,
            response_mime_type="text/x.enum",
            response_schema=types.Schema(type=types.Type.STRING, enum=list(SAID)),
        )

    def verdicts(self, cases: Sequence[Case], on_judged: Callable[[Judged], None] = ignore) -> Judged:
        """Raises CredentialError before the first call if there is no key; without cases, no key is needed."""
        if not cases:
            return {}
        key = service_key(*KEY_NAMES)
        with warnings.catch_warnings(action="ignore"):  # the client's warnings quote the service
            return asyncio.run(self._ask_all(cases, key, on_judged))

    def estimate(self, cases: Sequence[Case]) -> str:
        read = sum(len(filled(self._prompt, case)) for case in cases) / CHARACTERS
        count, bound = len(cases), self._calls.output_tokens
        low, high = self._purse.price(read, count), self._purse.price(read, count * bound)
        return (
            f"{count:,} calls to make, about {read:,.0f} tokens of input: expected cost {low:.4g}, or {high:.4g} if "
            f"every reply takes {bound} tokens (limit: {self._cost.limit:g}); at least "
            f"{count / self._calls.per_minute:,.1f} minutes"
        )

    def account(self) -> str:
        spent, limit = self._purse.spent, self._cost.limit
        return f"{self._requests:,} requests, cost {spent:.4g} of {limit:g}" if self._requests else ""

    # -- calls -------------------------------------------------------------------------------------------------------

    async def _ask_all(self, cases: Sequence[Case], key: str, on_judged: Callable[[Judged], None]) -> Judged:
        """One worker per allowed call takes cases from a shared iterator and puts verdicts into a shared queue."""
        workers, self._pace = min(self._calls.in_flight, len(cases)), Pace(self._calls.per_minute)
        # Shuffled: cases that never get a verdict remain from earlier runs. In a row at the start, they would look like
        # a failing service.
        waiting = iter(random.sample(cases, len(cases)))
        arrived: Arrivals = asyncio.Queue()
        judged: dict[Case, Verdict] = {}
        bounds = httpx2.Limits(max_connections=workers, max_keepalive_connections=workers)
        try:
            async with httpx2.AsyncClient(limits=bounds) as http:
                once = types.HttpRetryOptions(attempts=1)  # retries are ours, which are paced and paid for
                options = types.HttpOptions(httpx_async_client=http, retry_options=once)
                client = genai.Client(api_key=key, vertexai=False, http_options=options)
                await asyncio.gather(
                    self._hand_on(arrived, len(cases), judged, on_judged),
                    *(self._work(client, waiting, arrived) for _ in range(workers)),
                )
        finally:
            if left := drained(arrived):  # after an error: these verdicts are paid for
                on_judged(dict(left))
        return judged

    async def _hand_on(
        self, arrived: Arrivals, count: int, judged: dict[Case, Verdict], on_judged: Callable[[Judged], None]
    ) -> None:
        """Pass verdicts on, all that have arrived at once: a journal writes to disk at each call of on_judged."""
        while count:
            some = [await arrived.get(), *drained(arrived)]
            count -= len(some)  # the list's length, not the dict's: a case may be among them twice
            on_judged(dict(some))
            judged.update(some)

    async def _work(self, client: genai.Client, waiting: Iterator[Case], arrived: Arrivals) -> None:
        for case in waiting:
            arrived.put_nowait((case, await self._judge(client, case)))

    async def _judge(self, client: genai.Client, case: Case) -> Verdict:
        text = filled(self._prompt, case)
        for attempt in range(1, self._calls.attempts + 1):
            said = await self._request(client, text)
            if isinstance(said, Verdict):
                return self._counted(said, "; raise judge.calls.output_tokens, or ask for YES or NO in judge.prompt")
            if not said.passing or said.wait > self._calls.longest_wait or attempt == self._calls.attempts:
                break
            self._pace.pause(said.wait)
            await self._pace.rest(self._backoff(attempt))
        return self._counted(Verdict("missing", f"{said.reason}, {attempt} attempts" if attempt > 1 else said.reason))

    def _counted(self, said: Verdict, remedy: str = "") -> Verdict:
        """Give up after many answers in a row without a verdict, be it for failed calls or for useless replies."""
        self._failures = self._failures + 1 if said.verdict == "missing" else 0
        if self._failures >= FAILURES:
            self._give_up(f"{FAILURES} answers in a row failed, the last with {said.reason}{remedy}")
        return said

    def _give_up(self, reason: str) -> None:
        self._stopped = self._stopped or reason
        self._pace.end()

    def _backoff(self, attempt: int) -> float:
        doubled = self._calls.first_wait * 2 ** (attempt - 1)
        return min(doubled, self._calls.longest_wait) * random.uniform(0.5, 1)

    async def _request(self, client: genai.Client, text: str) -> Verdict | Failure:
        most = self._purse.price(len(text.encode()) + FRAME, self._calls.output_tokens)  # a token is at least a byte
        if not await self._purse.hold(most):
            self._give_up(f"the limit on cost, {self._cost.limit:g}, is reached")
            return Verdict("missing", f"given up: {self._stopped}")
        await self._pace.turn()
        if self._stopped is not None:
            self._purse.settle(most, 0.0)
            return Verdict("missing", f"given up: {self._stopped}")
        self._requests += 1
        try:
            async with asyncio.timeout(self._calls.timeout):
                reply = await client.aio.models.generate_content(model=self._model, contents=text, config=self._config)
        except (errors.APIError, TimeoutError, httpx2.RequestError, ValueError) as error:
            failed = failure(error, self._calls.timeout)
            self._purse.settle(most, most if failed.billed else 0.0)
            return failed
        self._purse.settle(most, self._price_of(reply.usage_metadata, most))
        return verdict(reply)

    def _price_of(self, usage: types.GenerateContentResponseUsageMetadata | None, unknown: float) -> float:
        if usage is None:
            return unknown
        written = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        return self._purse.price(usage.prompt_token_count or 0, written)


def drained(queue: Arrivals) -> list[tuple[Case, Verdict]]:
    """Everything that is in the queue now."""
    return [queue.get_nowait() for _ in range(queue.qsize())]


def verdict(reply: types.GenerateContentResponse) -> Verdict:
    """YES and NO are verdicts if the model finished its reply; everything else is missing."""
    feedback, candidate = reply.prompt_feedback, (reply.candidates or [None])[0]
    if feedback is not None and feedback.block_reason is not None:
        return Verdict("missing", f"blocked: {_known(feedback.block_reason)}")
    ended = candidate and candidate.finish_reason
    if ended is not None and ended is not types.FinishReason.STOP:
        return Verdict("missing", f"stopped: {_known(ended)}")
    text = (reply.text or "").strip()
    return SAID.get(text) or Verdict("missing", "neither YES nor NO" if text else "empty reply")


def _known(reason: enum.Enum) -> str:
    """The reason's name, if it is one we know: the client makes enum members of any text that the service sends."""
    return reason.name if reason.name in type(reason).__members__ else "a reason unknown to the client"


def failure(error: Exception, timeout: float) -> Failure:
    if isinstance(error, errors.APIError):
        passing, hint = error.code in PASSING or error.code >= 500, HINTS.get(error.code)
        reason = f"HTTP {error.code}" + (f" ({hint})" if hint else "")
        return Failure(reason, passing, retry_delay(error.details), billed=False)
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return Failure(f"no reply within {timeout:g} s")
    return Failure("connection failed" if isinstance(error, httpx2.RequestError) else "unreadable reply")


def retry_delay(body: Any) -> float:
    """Seconds in the google.rpc.RetryInfo of an error's body, at any depth; 0 without one."""
    found = re.search(r'"retryDelay": "(\d+(?:\.\d+)?)s"', json.dumps(body))
    return float(found[1]) if found else 0.0

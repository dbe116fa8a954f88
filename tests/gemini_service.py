"""The part of Google's service that the judge uses, on the loopback: it counts calls and can fail in every way.

    POST /v1/models/gemini-test:generateContent
    {"contents": [{"parts": [{"text": "Q: where? A: in Calder"}]}], "generationConfig": {"temperature": 0.0, …}}
    {"candidates": [{"content": {"parts": [{"text": "YES"}]}, "finishReason": "STOP"}], "usageMetadata": {…}}

A behaviour is an async function from the prompt to the bytes of a response, or to None, which cuts the connection.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

KEY = "AIzaSyTEST-do-not-show-7f3e91c2"
USAGE = {"promptTokenCount": 200, "candidatesTokenCount": 1}
Behaviour = Callable[[str], Awaitable[bytes | None]]


def response(status: int, body: Any) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def replied(text: str, finish: str = "STOP", usage: dict[str, int] | None = USAGE) -> bytes:
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": finish}
    return response(200, {"candidates": [candidate]} | ({"usageMetadata": usage} if usage else {}))


def blocked(reason: str) -> bytes:
    return response(200, {"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 200}})


def refused(status: int, delay: str | None = None) -> bytes:
    """An error as the service words it; it echoes the key, as some services do."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}] if delay else []
    error = {"code": status, "message": f"key {KEY} refused", "status": f"KEY_{KEY}", "details": details}
    return response(status, {"error": error})


class Service:
    """Listens within its context. `requests` and `verdicts` count requests and verdicts by prompt."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.requests: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.open = self.most_open = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _serve(self) -> None:
        async def serve() -> None:
            self._stop = asyncio.Event()
            server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._ready.set()
            await self._stop.wait()

        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(serve())
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        prompt = body["contents"][0]["parts"][0]["text"]
        self.keys.add(headers["x-goog-api-key"])
        self.requests[prompt] += 1
        self.bodies.append({"path": head[0].split()[1], **body})
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            said = await self.behave(prompt)
        finally:
            self.open -= 1
        if said is None:
            return False
        writer.write(said)
        await writer.drain()
        self.verdicts[prompt] += b'"YES"' in said or b'"NO"' in said
        return True

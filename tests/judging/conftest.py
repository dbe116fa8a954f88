"""Judges to ask: a service on the loopback that the client takes for Google's, and tiny models."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import tiny
from gemini_service import KEY, Service

from bitter_retrieval.judging.gemini import KEY_NAMES


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A key, no proxy between the client and the loopback, and a folder without .env."""
    for name in (*KEY_NAMES, "DVC_ROOT", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def serve(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Service]]:
    """Starts a service that the client takes for Google's. Sends the listed responses, then the last one for ever."""
    started: list[Service] = []

    def start(*given: bytes | None | Callable[[str], Awaitable[bytes | None]]) -> Service:
        said = list(given)

        async def in_turn(prompt: str) -> bytes | None:
            return said.pop(0) if len(said) > 1 else said[0]

        service = Service(said[0] if callable(said[0]) else in_turn)
        started.append(service.__enter__())
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", service.url)
        return service

    yield start
    for service in started:
        service.__exit__(None, None, None)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By tokenizer: Qwen3 checkpoints with weights, config and tokenizer."""
    folders = {}
    for kind in ("bpe", "word"):
        folders[kind] = tmp_path_factory.mktemp("models") / kind
        reader = tiny.tiny_reader(tokenizer=kind)
        reader.model.save_pretrained(folders[kind])
        reader.tokenizer.save_pretrained(folders[kind])
    return folders

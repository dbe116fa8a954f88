"""Which kernel is chosen, and that encoders give the same states with and without padding in attention.

The kernels themselves run on GPUs only (tests/gpu): here slow arithmetic stands in for them.
"""

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import emulated_kernels
import pytest
import tiny
import torch
from attention_models import LENGTHS, NO_DROPOUT, SERVED, model_of, relative, texts
from torch import Tensor

from bitter_retrieval.encoders.encoder import Encoder, Usage
from bitter_retrieval.models import attention
from bitter_retrieval.models.attention import AttentionError, chosen, unpadded_attention
from bitter_retrieval.models.batching import pad_right
from bitter_retrieval.readers.language_model import ReaderSettings, load_reader, open_reader, save_settings

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    def be(capability: tuple[int, int] | None, flash: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if flash else None)

    return be


@pytest.mark.parametrize(
    ("capability", "flash", "half", "wanted"),
    [
        ((9, 0), True, True, "flash"),
        ((9, 0), False, True, "varlen"),
        ((9, 0), True, False, "sdpa"),
        ((7, 5), True, True, "sdpa"),
        (None, True, True, "sdpa"),
    ],
)
def test_auto_is_the_fastest_available(
    capability: tuple[int, int] | None, flash: bool, half: bool, wanted: str, machine: Machine
) -> None:
    machine(capability, flash)
    assert chosen("auto", half) == wanted
    assert chosen("sdpa", half) == "sdpa"


@pytest.mark.parametrize(
    ("asked", "capability", "half", "lacking"),
    [
        ("flash", (9, 0), True, "flash-attn, installed as requirements-gpu.txt says"),
        ("varlen", (7, 0), True, "an NVIDIA GPU since Ampere"),
        ("varlen", (8, 0), False, "bfloat16 or float16"),
        ("varlen", None, False, "an NVIDIA GPU since Ampere, bfloat16 or float16"),
    ],
)
def test_kernel_that_is_named_is_taken_or_refused(
    asked: str, capability: tuple[int, int] | None, half: bool, lacking: str, machine: Machine
) -> None:
    machine(capability, flash=False)
    with pytest.raises(AttentionError, match=f"^attention: {asked} needs {lacking}. auto takes the fastest"):
        chosen(asked, half)
    machine((8, 0), flash=True)
    assert chosen(asked, True) == asked


# -- encoders --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["varlen", "flash"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The kernel is chosen, on the CPU. Gives the numbers of tokens that its calls got."""
    emulated_kernels.install(request.param, monkeypatch)
    monkeypatch.setattr(attention, "chosen", lambda asked, half: request.param if half else "sdpa")
    made, given = attention.kernel, []

    def counting(name: str) -> Callable[..., Tensor]:
        def call(query: Tensor, *rest: Any) -> Tensor:
            given.append(len(query))
            return made(name)(query, *rest)

        return call

    monkeypatch.setattr(attention, "kernel", counting)
    yield given


def states_and_gradients(model: Any, unpadded: bool) -> tuple[Tensor, Tensor]:
    """States of real tokens [N, D] in bfloat16, and the gradient of all weights."""
    ids, real = pad_right(texts(), 0)
    model.zero_grad()
    with unpadded_attention(model, "auto", half=True) if unpadded else nullcontext():
        with torch.autocast("cpu", torch.bfloat16):
            states = model(input_ids=ids, attention_mask=real.long()).last_hidden_state[real].float()
        states.square().sum(1).sqrt().sum().backward()
    gradients = [p.grad.flatten() for name, p in model.named_parameters() if p.grad is not None]
    return states.detach(), torch.cat(gradients)


@pytest.mark.parametrize("architecture", SERVED)
def test_states_and_gradients_are_those_of_padded_batches(architecture: str, kernel: list[int]) -> None:
    model = model_of(architecture, **SERVED[architecture])
    wanted, found = (states_and_gradients(model, unpadded) for unpadded in (False, True))
    assert kernel[-2:] == [sum(LENGTHS)] * 2, "padding took part"
    assert relative(found[0], wanted[0]) < 0.02 and relative(found[1], wanted[1]) < 0.05
    assert model.config._attn_implementation == "sdpa"


def test_texts_of_one_length_need_no_mask(kernel: list[int]) -> None:
    encoder = Encoder(model_of("nomic_bert"), tiny.tiny_encoder().tokenizer, Usage("mean", "", "", 64))
    sequences = [text[:5] for text in texts()[1:]]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted = encoder(sequences, 99)
        with unpadded_attention(encoder.model, "auto", half=True):
            found = encoder(sequences, 99)
    assert kernel[-1] == 20 and relative(found, wanted) < 0.02


@pytest.mark.parametrize(
    ("architecture", "changes", "why"),
    [
        ("bert", {}, "it drops attention weights in training"),
        ("mpnet", NO_DROPOUT, "its attention cannot be replaced"),  # it has biases of its own
        ("qwen3", {"head_dim": 8, "num_key_value_heads": 4}, "it attends in its own way"),
    ],
)
def test_model_that_is_not_served_stays_as_it_was(
    architecture: str, changes: dict[str, Any], why: str, kernel: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    model = model_of(architecture, **changes)
    before, state = model.config._attn_implementation, torch.get_rng_state()
    with caplog.at_level(logging.WARNING, attention.__name__), unpadded_attention(model, "auto", half=True):
        assert model.config._attn_implementation == before and not model.training
    assert "attends to padded batches" in caplog.text and why in caplog.text
    with pytest.raises(AttentionError, match=f"does not serve {type(model).__name__}: .*{why}.* Set it to auto."):
        with unpadded_attention(model, "flash", half=True):
            pass
    assert model.config._attn_implementation == before and torch.get_rng_state().equal(state)


@pytest.mark.parametrize("said", [(), ("",), ("\n",)])
def test_a_kernel_that_fails_without_a_word_is_an_objection(
    said: tuple[str, ...], kernel: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(*said)

    model = model_of("bert", **NO_DROPOUT)
    monkeypatch.setattr(model, "forward", fail)
    with pytest.raises(AttentionError, match="does not serve BertModel: RuntimeError"):
        with unpadded_attention(model, "flash", half=True):
            pass


def test_float32_is_left_alone(kernel: list[int]) -> None:
    model = model_of("nomic_bert")
    with unpadded_attention(model, "auto", half=False):
        assert model.config._attn_implementation == "sdpa"
    assert not kernel


# -- readers ---------------------------------------------------------------------------------------------------------


def test_reader_is_the_same_one_with_auto_and_another_with_a_name(tmp_path: Path) -> None:
    reader = tiny.tiny_reader()
    identities = []
    for asked in (None, "auto", "sdpa"):
        settings = ReaderSettings(reader.prompt.template, "bfloat16", 96, 6, attention=asked)
        for part in (reader.model, reader.tokenizer):
            part.save_pretrained(tmp_path / str(asked))
        save_settings(tmp_path / str(asked), settings)
        loaded = load_reader(tmp_path / str(asked))
        assert loaded.attention == (asked or "auto") and (loaded.kernel, loaded.packs) == ("sdpa", True)
        identities.append(loaded.identity)
    assert identities[0] == identities[1] != identities[2]
    assert (tmp_path / "None/reader.json").read_bytes() == (tmp_path / "auto/reader.json").read_bytes()
    with pytest.raises(AttentionError, match="attention: varlen needs"):
        open_reader("x", str(tmp_path / "None"), None, replace(settings, dtype="float32", attention="varlen"))

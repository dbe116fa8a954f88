"""Packs hold every sequence, a common beginning once, and give each the logits that it has alone.

Attention is compared with a dense one in float64, a sequence at a time; the arrays for CUDA's kernels with a slow
emulation of such a kernel.
"""

import copy
import logging
import os
import random
from itertools import combinations
from typing import Any

import emulated_kernels
import pytest
import tiny
import torch
from torch import Tensor

from bitter_retrieval.readers import packing, probes
from bitter_retrieval.readers.packing import Pack, forward_pack, pack_sequences, packed_attention
from bitter_retrieval.readers.probes import can_pack

VOCABULARY = 50
PACKABLE = ["qwen3", "olmo2", "llama", "gpt2", "granite", "mistral", "phi3", "gemma3_text", "phi"]


def sequences(seed: int) -> list[list[int]]:
    """Up to twenty-two that begin alike; some are equal, or the beginning of another."""
    draw = random.Random(seed)
    found: list[list[int]] = []
    for _ in range(draw.randint(2, 20)):
        stem = draw.choice(found)[: draw.randint(0, 30)] if found and draw.random() < 0.8 else []
        found.append(stem + draw.choices(range(2, 5), k=draw.randint(0 if stem else 1, 12)))
    found += draw.choices(found, k=2)
    return draw.sample(found, len(found))


def common(left: list[int], right: list[int]) -> int:
    return len(os.path.commonprefix([left, right]))


# -- the layout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [1, 3, 8, 1000])
@pytest.mark.parametrize("seed", range(20))
def test_every_sequence_is_found_in_its_places(seed: int, shared: int) -> None:
    wanted = sequences(seed)
    pack = pack_sequences(wanted, shared=shared)
    assert [pack.ids[0, places].tolist() for places in pack.places] == wanted
    assert all(pack.positions[0, places].tolist() == list(range(len(places))) for places in pack.places)
    assert {place for places in pack.places for place in places} == set(range(pack.ids.shape[1]))
    assert pack.ids.shape == pack.positions.shape == (1, pack.segments[-1].stop)


@pytest.mark.parametrize("shared", [1, 3, 8, 1000])
@pytest.mark.parametrize("seed", range(20))
def test_only_common_beginnings_that_are_long_enough_are_shared(seed: int, shared: int) -> None:
    wanted = sequences(seed)
    pack = pack_sequences(wanted, shared=shared)
    for (left, a), (right, b) in combinations(zip(wanted, pack.places, strict=True), 2):
        both = set(a) & set(b)
        assert both == set(a[: len(both)]) and len(both) <= common(left, right)
        assert len(both) >= shared if common(left, right) >= shared else not both


@pytest.mark.parametrize("seed", range(20))
def test_with_a_threshold_of_one_every_distinct_beginning_is_held_once(seed: int) -> None:
    wanted = sequences(seed)
    distinct = {tuple(ids[:length]) for ids in wanted for length in range(1, len(ids) + 1)}
    assert pack_sequences(wanted, shared=1).ids.shape[1] == len(distinct)


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ([[1, 2, 3]] * 3, [1, 2, 3]),
        ([[1, 2, 3, 4], [1, 2, 3], [1, 2, 3, 5]], [1, 2, 3, 4, 5]),
        ([[1, 2, 3], [1, 2, 4], [5]], [1, 2, 3, 1, 2, 4, 5]),  # two in common, of three that it takes
        ([[1, 2, 3, 7], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 8]], [1, 2, 3, 4, 5, 6, 8, 7]),
        ([[9]], [9]),
    ],
)
def test_equal_sequences_and_beginnings_of_others_take_no_room(wanted: list[list[int]], ids: list[int]) -> None:
    pack = pack_sequences(wanted, shared=3)
    assert pack.ids[0].tolist() == ids
    assert [pack.ids[0, places].tolist() for places in pack.places] == wanted


# -- attention -------------------------------------------------------------------------------------------------------

HEADS, GROUPS, WIDTH = 4, 2, 8


def states(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Query [1, H, T, D], key and value [1, G, T, D]."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(1, heads, count, WIDTH, generator=generator) for heads in (HEADS, GROUPS, GROUPS))


def attend_densely(query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None) -> Tensor:
    """[T, H, D]: causal attention of one sequence in float64, written out."""
    q, k, v = (part[0].double() for part in (query, key, value))
    k, v = k.repeat_interleave(HEADS // GROUPS, 0), v.repeat_interleave(HEADS // GROUPS, 0)
    weights = q @ k.transpose(1, 2) * (WIDTH**-0.5 if scale is None else scale)
    distance = torch.arange(q.shape[1])[:, None] - torch.arange(q.shape[1])
    hidden = (distance < 0) | (distance >= (window or len(distance)))
    return (weights.masked_fill(hidden, float("-inf")).softmax(-1) @ v).transpose(0, 1)


def attend(pack: Pack, parts: tuple[Tensor, Tensor, Tensor], scale: float | None, window: int | None) -> Tensor:
    """[T, H, D] by the function that transformers gets."""
    arguments = {"attention_mask": None, "scaling": scale, "sliding_window": window}
    return forward_pack(lambda **_: packing._attend(torch.nn.Module(), *parts, **arguments)[0][0], pack)


@pytest.mark.parametrize("window", [None, 1, 5, 16])
@pytest.mark.parametrize(("seed", "shared", "scale"), [(0, 1, None), (1, 3, 0.7), (5, 8, None), (3, 1000, 0.7)])
def test_attention_is_that_of_each_sequence_alone(
    seed: int, shared: int, scale: float | None, window: int | None
) -> None:
    wanted = sequences(seed)
    pack = pack_sequences(wanted, shared=shared)
    parts = states(pack.ids.shape[1])
    found = attend(pack, parts, scale, window)
    for places in pack.places:
        alone = attend_densely(*(part[:, :, places] for part in parts), scale, window)
        assert torch.allclose(found[places].double(), alone, rtol=0, atol=1e-5)


@pytest.fixture(params=["varlen", "flash"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    emulated_kernels.install(request.param, monkeypatch)
    monkeypatch.setattr(packing, "_chosen", request.param)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("window", [None, 1, 5, 16])
@pytest.mark.parametrize(("seed", "shared", "scale"), [(0, 1, None), (1, 3, 0.7), (5, 8, None), (3, 1000, 0.7)])
def test_kernels_are_given_what_makes_them_attend_by_group(
    seed: int, shared: int, scale: float | None, window: int | None
) -> None:
    pack = pack_sequences(sequences(seed), shared=shared)
    query, key, value = states(pack.ids.shape[1])
    parts = query, *(part.repeat_interleave(HEADS // GROUPS, 1) for part in (key, value))
    found = packing._by_kernel(pack, *parts, scale, window)
    assert torch.allclose(found, packing._by_group(pack, *parts, scale, window), rtol=0, atol=1e-5)
    assert (pack.varlen[0] is None) == (shared == 1000)  # nothing is shared: keys as they stand


@pytest.mark.parametrize(
    "arguments",
    [{"softcap": 2.0}, {"s_aux": torch.ones(4)}, {"dropout": 0.1}, {"attention_mask": torch.zeros(1, 1, 3, 3)}, {}],
)
def test_attention_that_packs_cannot_serve_is_an_error(arguments: dict[str, Any]) -> None:
    module = torch.nn.Module()
    module.is_causal = bool(arguments)
    arguments = {"attention_mask": None, **arguments}
    with pytest.raises(packing.PackingError):
        forward_pack(lambda **_: packing._attend(module, *states(3), **arguments), pack_sequences([[1, 2, 3]]))


# -- models ----------------------------------------------------------------------------------------------------------


def packed_logits(model: Any, wanted: list[list[int]], shared: int = packing.SHARED) -> list[Tensor]:
    with torch.no_grad(), packed_attention(model):
        pack = pack_sequences(wanted, shared=shared)
        logits = forward_pack(model, pack).logits[0]
    return [logits[places] for places in pack.places]


def alone(model: Any, ids: list[int]) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


@pytest.mark.parametrize("architecture", PACKABLE)
def test_models_that_can_be_packed_give_each_sequence_its_own_logits(architecture: str) -> None:
    model, wanted = tiny.tiny_model(architecture, VOCABULARY), sequences(5)
    assert can_pack(model) and max(map(len, wanted)) > 20  # than the windows
    slow = copy.deepcopy(model).double()
    for shared in (1, 8):
        for ids, logits in zip(wanted, packed_logits(model, wanted, shared), strict=True):
            assert torch.allclose(logits.double(), alone(slow, ids), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "why"), [("gemma2", "softcap"), ("bloom", "logits differ"), ("mamba", "logits differ")]
)
def test_models_that_cannot_be_packed_are_told(architecture: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny.tiny_model(architecture, VOCABULARY)
    before, wanted = model.config._attn_implementation, alone(model, [1, 2, 3])
    with caplog.at_level(logging.WARNING, probes.__name__):
        assert not can_pack(model)
    assert why in caplog.text and type(model).__name__ in caplog.text
    assert model.config._attn_implementation == before and alone(model, [1, 2, 3]).equal(wanted)


def test_rounding_in_half_precision_is_no_reason_against_packing() -> None:
    model = tiny.tiny_model("qwen3", VOCABULARY, tie_word_embeddings=False)
    model.lm_head.weight *= 8  # logits of some ±30, which bfloat16 holds to an eighth
    assert can_pack(model.bfloat16())
    assert not can_pack(tiny.tiny_model("mamba", VOCABULARY).bfloat16())


LONG_WINDOW = {
    "phimoe": {"sliding_window": 64, "num_local_experts": 2},  # its window is in the mask alone
    "llama4_text": {"attention_chunk_size": 64, "num_local_experts": 2, "intermediate_size_mlp": 32},
    "mistral": {"sliding_window": 64},
}


@pytest.mark.parametrize("architecture", LONG_WINDOW)
def test_window_longer_than_what_is_tried_is_kept_or_the_model_not_packed(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny.ARCHITECTURES, architecture, {**tiny.SIZE, **LONG_WINDOW[architecture]})
    model = tiny.tiny_model(architecture, VOCABULARY)
    ids = random.Random(0).choices(range(VOCABULARY), k=150)
    assert not can_pack(model) or torch.allclose(packed_logits(model, [ids])[0], alone(model, ids), rtol=0, atol=1e-3)


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3_text"])
@pytest.mark.parametrize("changed", [0, 1, 2])
def test_no_sequence_sees_another(architecture: str, changed: int) -> None:
    model = tiny.tiny_model(architecture, VOCABULARY)
    draw = random.Random(changed)
    stem, tails = draw.choices(range(VOCABULARY), k=12), [draw.choices(range(VOCABULARY), k=20) for _ in range(3)]
    for at, tail in enumerate(tails):
        tail[0] = at  # which keeps their order in the pack
    wanted = [stem + tail for tail in tails]
    before = packed_logits(model, wanted)
    wanted[changed] = stem + [changed] + draw.choices(range(VOCABULARY), k=19)
    after = packed_logits(model, wanted)
    assert [a.equal(b) for a, b in zip(before, after, strict=True)] == [at != changed for at in range(3)]
    assert after[changed][:13].equal(before[changed][:13])  # up to what is new, causal


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_attention_is_as_before_also_after_an_error(implementation: str) -> None:
    model = tiny.tiny_model("qwen3", VOCABULARY)
    model.set_attn_implementation(implementation)
    wanted = alone(model, [1, 2, 3, 4])
    packed_logits(model, [[1, 2], [3]])
    assert model.config._attn_implementation == implementation and alone(model, [1, 2, 3, 4]).equal(wanted)
    with pytest.raises(IndexError), packed_attention(model):
        assert model.config._attn_implementation == packing.NAME
        forward_pack(model, pack_sequences([[1, 2, VOCABULARY]]))
    assert model.config._attn_implementation == implementation and alone(model, [1, 2, 3, 4]).equal(wanted)
    with pytest.raises(AssertionError, match="forward_pack"), packed_attention(model):  # the failed pack is forgotten
        alone(model, [1, 2, 3])

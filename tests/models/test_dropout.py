"""Dropout for the CPU: formula and gradients with a known draw, its rate, and what it keeps for the backward pass."""

import math

import pytest
import tiny
import torch
from torch import Tensor, nn

from bitter_retrieval.encoders.encoder import Encoder
from bitter_retrieval.models import dropout
from bitter_retrieval.models.dropout import CheapDropout, DroppedAttention, cheap_dropout, kept

P = 0.3
TEXTS = ["Aldan", "Where was Brenn born?", "Corvin was born in Caldbury. Corvin owns a goat."]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What stays of [2, 3, 5, 5], in every call."""
    stays = kept((2, 3, 5, 5), P)
    monkeypatch.setattr(dropout, "kept", lambda *_: stays)
    return stays


@pytest.fixture
def mask() -> Tensor:
    """[2, 1, 5, 5]: the second sequence has two tokens of padding."""
    looks = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    looks[1, :, :, 3:] = False
    return looks


def heads(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]


def test_attention_is_the_formula(drawn: Tensor, mask: Tensor) -> None:
    query, key, value = heads(0)
    found = DroppedAttention.apply(query, key, value, mask, 0.5, P)
    for sequence in range(2):
        for head in range(3):
            q, k, v = (states[sequence, head] for states in (query, key, value))
            scores = (0.5 * q @ k.T).masked_fill(~mask[sequence, 0], -math.inf)
            wanted = (scores.softmax(1) * drawn[sequence, head] / (1 - round(P * 65536) / 65536)) @ v
            torch.testing.assert_close(found[sequence, head], wanted)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_has_its_gradients(masked: bool, drawn: Tensor, mask: Tensor) -> None:
    assert torch.autograd.gradcheck(DroppedAttention.apply, (*heads(1), mask if masked else None, 0.5, P))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_rate_mean_and_draws(p: float) -> None:
    torch.manual_seed(0)
    stays = [kept((999, 1001), p).float() for _ in range(2)]
    assert all(share.mean().item() == pytest.approx(1 - p, abs=2e-3) for share in stays)
    for lag in (1, 2, 3, 4, 1001):  # several come out of one draw
        first = stays[0].flatten()
        assert (first[lag:] * first[:-lag]).mean().item() == pytest.approx((1 - p) ** 2, abs=3e-3)
    assert (stays[0] * stays[1]).mean().item() == pytest.approx((1 - p) ** 2, abs=3e-3)
    torch.manual_seed(0)
    assert kept((999, 1001), p).float().equal(stays[0])
    states = torch.full((1000, 1000), 2.0, requires_grad=True)
    dropped = CheapDropout(p)(states)
    dropped.sum().backward()
    assert dropped.mean().item() == pytest.approx(2, abs=0.01) and states.grad.equal(dropped / 2)
    assert CheapDropout(p).eval()(states) is states


def encoder(p: float = 0.1) -> Encoder:
    found = tiny.tiny_encoder()
    for module in found.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
    return found.train()


@pytest.fixture
def everything_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropout, "kept", lambda shape, p: torch.ones(shape, dtype=torch.uint8))
    monkeypatch.setattr(dropout, "_scale", lambda p: 1.0)


@pytest.mark.usefixtures("everything_stays")
def test_encoder_that_drops_nothing_gives_the_vectors_and_gradients_without_dropout() -> None:
    found, wanted = encoder(), tiny.tiny_encoder().eval()
    sequences = found.tokens(TEXTS, "passage")
    with cheap_dropout(found.model):
        vectors = found(sequences, 999)  # one micro-batch, padded
        vectors[:, 0].sum().backward()
    others = wanted(sequences, 999)
    others[:, 0].sum().backward()
    torch.testing.assert_close(vectors, others, rtol=0, atol=1e-6)
    for (name, weight), other in zip(found.named_parameters(), wanted.parameters(), strict=True):
        assert (weight.grad is None) == (other.grad is None), name
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, other.grad, rtol=1e-4, atol=1e-5, msg=name)


def saved_bytes(found: Encoder, cheap: bool) -> int:
    storages: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        if cheap:
            with cheap_dropout(found.model):
                found([[5] * 30] * 20, 999)
        else:
            found([[5] * 30] * 20, 999)
    weights = {weight.untyped_storage().data_ptr() for weight in found.parameters()}
    return sum(tensor.untyped_storage().nbytes() for place, tensor in storages.items() if place not in weights)


def test_less_is_kept_for_the_backward_pass() -> None:
    assert saved_bytes(encoder(), True) < 0.75 * saved_bytes(encoder(), False)


def dropout_classes(model: nn.Module) -> set[type]:
    return {type(module) for module in model.modules() if isinstance(module, nn.Dropout)}


def test_model_is_as_before_afterwards() -> None:
    model = encoder().model
    with pytest.raises(KeyError), cheap_dropout(model):
        assert dropout_classes(model) == {CheapDropout} and model.config._attn_implementation == dropout.NAME
        raise KeyError
    assert dropout_classes(model) == {nn.Dropout} and model.config._attn_implementation == "sdpa"


def test_model_without_dropout_is_left_alone() -> None:
    model = encoder(p=0.0).model
    with cheap_dropout(model):
        assert dropout_classes(model) == {nn.Dropout} and model.config._attn_implementation == "sdpa"

"""Kernels that leave padding out, in encoders on CUDA, against padded batches: `python -m pytest tests/gpu`."""

from typing import Any

import pytest
import torch
from attention_models import SERVED, model_of, relative, texts

from bitter_retrieval.models.attention import NAME, chosen, unpadded_attention
from bitter_retrieval.models.batching import pad_right

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("architecture", SERVED)
@pytest.mark.parametrize("width", [32, 256])  # 8 and 64 a head
def test_states_and_gradients_are_those_of_padded_batches(architecture: str, width: int) -> None:
    if chosen("auto", half=True) == "sdpa":
        pytest.skip("no such kernel on this GPU")
    model = model_of(architecture, **SERVED[architecture], **{"hidden_size": width}).cuda()
    (wanted, gradient), (found, other) = computed(model, "sdpa"), computed(model, "auto")
    assert relative(found, wanted) < 0.02 and relative(other, gradient) < 0.05
    assert wanted.std() > 0.1 and gradient.norm() > 0  # otherwise nothing was compared


def computed(model: Any, asked: str) -> tuple[torch.Tensor, torch.Tensor]:
    ids, real = (part.cuda() for part in pad_right(texts(), 0))
    model.zero_grad()
    with unpadded_attention(model, asked, half=True), torch.autocast("cuda", torch.bfloat16):
        assert (model.config._attn_implementation == NAME) == (asked == "auto")
        states = model(input_ids=ids, attention_mask=real.long()).last_hidden_state[real].float()
        states.square().sum(1).sqrt().sum().backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return states.detach(), torch.cat(gradients)


def test_dropped_attention_weights_are_left_to_padded_batches() -> None:
    model = model_of("bert").cuda()
    with unpadded_attention(model, "auto", half=True):
        assert model.config._attn_implementation == "sdpa"

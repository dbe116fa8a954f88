"""Activations recomputed on CUDA, against kept ones: `python -m pytest tests/gpu`."""

import pytest
import tiny
import torch

from bitter_retrieval.encoders.encoder import Encoder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_dropout_is_the_same_again() -> None:
    encoder = tiny.tiny_encoder()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    encoder.cuda().train()
    kept, again, other = (gradient(encoder, *how) for how in ((False, 0), (True, 0), (True, 1)))
    assert (again - kept).norm() < 1e-3 * kept.norm() < 0.1 * (other - kept).norm()


def gradient(encoder: Encoder, recompute: bool, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    encoder.zero_grad()
    texts = [row["query"] for row in tiny.world(8)]
    vectors = encoder(encoder.tokens(texts, "query"), 64, recompute)
    (vectors[:4] * vectors[4:]).sum().backward()
    return torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])

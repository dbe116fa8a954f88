"""The variable-length kernel on CUDA against attention segment by segment: `python -m pytest tests/gpu`."""

import pytest
import torch

from bitter_retrieval.readers.packing import Pack, _by_group, _by_kernel, pack_sequences

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def pack() -> Pack:
    """Three sequences that share prefixes on two levels, and one that shares none."""
    drawn = torch.randint(0, 1000, (400,), generator=torch.Generator().manual_seed(0)).tolist()
    shared = drawn[:64]
    tails = [drawn[64:100], drawn[64:90] + drawn[200:203], drawn[300:400]]
    return pack_sequences([*(shared + tail for tail in tails), drawn[100:230]], "cuda")


@pytest.mark.parametrize("window", [None, 16, 70])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_kernel_equals_segments(dtype: torch.dtype, window: int | None) -> None:
    laid = pack()
    generator = torch.Generator("cuda").manual_seed(1)
    shape = (1, 4, laid.ids.shape[1], 64)
    query, key, value = (torch.randn(shape, device="cuda", dtype=dtype, generator=generator) for _ in range(3))
    fast = _by_kernel(laid, query, key, value, None, window).float()
    slow = _by_group(laid, query.float(), key.float(), value.float(), None, window)
    assert fast.shape == slow.shape
    torch.testing.assert_close(fast, slow, atol=2e-2, rtol=0)
    assert fast.std() > 0.1  # otherwise nothing was compared


def test_float32_head_on_cuda() -> None:
    from bitter_retrieval.readers.answer_loss import _float32_linear

    states = torch.randn(7, 64, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(101, 64, device="cuda", dtype=torch.bfloat16)
    logits = _float32_linear(states, weight, None)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, states.float() @ weight.float().T, atol=1e-3, rtol=1e-3)

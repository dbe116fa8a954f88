"""What is fast on a device against float64 on the CPU: losses, vectors, gradients, answers, rankings.

On CUDA `python -m pytest tests/gpu`; on the CPU the same tests hold float32 to float64.
"""

import copy
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.nn.functional import log_softmax

from bitter_retrieval.encoders.encoder import Encoder
from bitter_retrieval.evaluation.retrieval import rank_by_vectors
from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.generation import end_tokens, generate_answers
from bitter_retrieval.readers.language_model import Reader

CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
)
DEVICES = ["cpu", CUDA]
ROWS = tiny.world(12)
TRIPLES = [
    Triple(r["query"], text, r["answers"][0]) for r in ROWS for text in (*(p["text"] for p in r["passages"]), "")
]


def reader_on(device: str, dtype: torch.dtype, architecture: str) -> Reader:
    reader = tiny.tiny_reader(architecture)
    reader.model.to(device, dtype)
    return reader


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "nats"), [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_answer_losses(architecture: str, dtype: torch.dtype, nats: float, device: str) -> None:
    exact = reader_on("cpu", torch.float64, architecture)
    wanted = [loss_alone(exact, triple) for triple in TRIPLES]
    scores = Scorer(reader_on(device, dtype, architecture), 512).score(TRIPLES)
    apart = [abs(score.nll_sum - loss) / score.n_tokens for score, loss in zip(scores, wanted, strict=True)]
    assert max(apart) < nats < np.std(wanted)


@torch.no_grad()
def loss_alone(reader: Reader, triple: Triple) -> float:
    (item,) = reader.encode(*([part] for part in triple))
    logits = reader.model(input_ids=torch.tensor([item.ids]), use_cache=False).logits[0]
    chosen = log_softmax(logits[:-1], -1).gather(1, torch.tensor(item.ids[1:])[:, None])
    return -chosen[item.answer_start - 1 :].sum().item()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("recompute", [False, True])
def test_vectors_and_gradients(recompute: bool, device: str) -> None:
    encoder = tiny.tiny_encoder()
    (vectors, gradient), (exact, wanted) = (
        learnt(encoder.to(device), recompute),
        learnt(copy.deepcopy(encoder).cpu().double(), False),
    )
    assert (vectors - exact).abs().max() < 1e-5 and (gradient - wanted).norm() < 1e-4 * wanted.norm()


def learnt(encoder: Encoder, recompute: bool) -> tuple[torch.Tensor, torch.Tensor]:
    encoder.zero_grad()
    vectors = encoder(encoder.tokens([row["query"] for row in ROWS], "query"), 64, recompute)
    (vectors[:6] * vectors[6:]).sum().backward()
    gradients = [p.grad.flatten() for p in encoder.parameters() if p.grad is not None]
    return vectors.detach().cpu().double(), torch.cat(gradients).cpu().double()


@pytest.mark.parametrize("device", DEVICES)
def test_answers(device: str) -> None:
    items = [(row["query"], row["passages"][0]["text"]) for row in ROWS]
    found = generate_answers(reader_on(device, torch.float32, "qwen3"), items, 512)
    wanted = [generated_alone(reader_on("cpu", torch.float64, "qwen3"), item) for item in items]
    assert [answer.text for answer in found] == wanted and len(set(wanted)) > 1


def generated_alone(reader: Reader, item: tuple[str, str]) -> str:
    """One token after the other, without a cache; it ends as ours does."""
    (asked,) = reader.encode([item[0]], [item[1]], None)
    ids: list[int] = list(asked.ids)
    for _ in range(reader.max_new_tokens):
        token = int(reader.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token in end_tokens(reader):
            break
        ids.append(token)
    said: Any = reader.tokenizer.decode(ids[len(asked.ids) :], skip_special_tokens=True)
    return said.split("\n")[0].strip()


@pytest.mark.parametrize("device", DEVICES)
def test_rankings(device: str) -> None:
    rng = np.random.default_rng(0)
    queries, passages = (rng.standard_normal((count, 32)).astype(np.float32) for count in (300, 5000))
    ids, k = [f"p{place}" for place in range(5000)], 20
    candidates = [[ids[place]] for place in rng.choice(5000, 300)]
    found = rank_by_vectors(queries, passages, ids, candidates, k, device)
    exact = queries.astype(np.float64) @ passages.astype(np.float64).T
    order = np.argsort(-exact, axis=1, kind="stable")
    for row, ranking in enumerate(found):
        values = exact[row][order[row]]
        np.testing.assert_allclose(ranking.scores, values[:k], atol=1e-4)
        wanted = [ids[place] for place in order[row][:k]]
        close = np.diff(values[: k + 1]) > -1e-4  # neighbours that rounding may swap
        assert ranking.ids == wanted or close.any()
    assert sum(one.ids == [ids[p] for p in order[row][:k]] for row, one in enumerate(found)) > 250

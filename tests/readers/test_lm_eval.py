"""Scores against the Language Model Evaluation Harness: log-likelihoods of the same strings, and whether greedy."""

from typing import Any

import pytest
import tiny
import torch
from tiny_tokenizers import tokenizer_of

from bitter_retrieval.readers.answer_loss import Scorer, Triple

pytest.importorskip("lm_eval")


def talking_model(architecture: str, tokenizer: Any) -> Any:
    """An untrained model that answers with beginnings of words."""
    model = tiny.tiny_model(architecture, len(tokenizer), tie_word_embeddings=False)
    inside = [token[0] not in "Ġ▁" for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    model.lm_head.weight[torch.tensor(inside)] *= 0.1
    return model


def said_first(model: Any, tokenizer: Any, prompt: str) -> str:
    """The first token of what the model says by itself."""
    ids = torch.tensor([tokenizer(prompt).input_ids])
    said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, do_sample=False, pad_token_id=0)
    return tokenizer.decode(said[0, ids.shape[1] :]).strip()


@pytest.mark.parametrize(("family", "starts"), [("gpt2", False), ("llama2", True)])
@pytest.mark.parametrize("architecture", ["qwen3", "gemma2"])
def test_scores_are_the_log_likelihoods_of_lm_eval(
    architecture: str, family: str, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network is asked"))
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    tokenizer = tokenizer_of(family)
    assert (tokenizer.bos_token is not None) == starts
    model = talking_model(architecture, tokenizer)
    triples, requests = [], []
    for row, odd in zip(tiny.world(8), tiny.ODD_ANSWERS, strict=True):
        for passage in ("", *(passage["text"] for passage in row["passages"])):
            prompt = f"Question: {row['query']}\nContext: {passage}\nAnswer:"
            for answer in {row["answers"][0], odd, said_first(model, tokenizer, prompt)} - {""}:
                triples.append(Triple(row["query"], passage, answer))
                requests.append(Instance("loglikelihood", {}, (prompt, f" {answer.strip()}"), len(requests)))
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3, max_length=300, add_bos_token=starts)
    found = harness.loglikelihood(requests, disable_tqdm=True)
    scorer = Scorer(tiny.tiny_reader(model=model, tokenizer_object=tokenizer, max_length=300), 400)
    for score, (likelihood, greedy) in zip(scorer.score(triples), found, strict=True):
        assert score and score.exact == greedy
        assert abs(score.nll_sum + likelihood) <= 1e-4 * score.n_tokens
    assert {greedy for _, greedy in found} == {True, False}

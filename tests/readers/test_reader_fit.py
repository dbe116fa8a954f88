"""Fitting a small reader: which examples it sees and how, that it is the same each time, that it learns a little."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from bitter_retrieval.readers import fit as reader_fit
from bitter_retrieval.readers.fit import Example, build_causal_lm, examples_of, fit_reader
from bitter_retrieval.records import Row

ROWS = tiny.world(36)
SETTINGS = replace(
    tiny.PARAMS.readers["reader_a"].fit, width=32, layers=1, heads=2, vocabulary=300, steps=12, batch=16, held_out=1
)


def fit(rows: list[Row] | None = None, max_length: int = 96, **changes: Any) -> tuple[Any, Any, list[dict[str, float]]]:
    told: list[dict[str, float]] = []
    settings = replace(SETTINGS, **changes)
    on_step = lambda step, losses: told.append({"step": step, **losses})  # noqa: E731
    model, tokenizer = fit_reader(rows or ROWS, tiny.PROMPT, max_length, settings, on_step)
    return model, tokenizer, told


# -- fitting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
@pytest.mark.parametrize("architecture", ["qwen3", "olmo2", "llama"])
def test_losses_fall(architecture: str, tokenizer: str) -> None:
    model, made, told = fit(architecture=architecture, tokenizer=tokenizer, steps=40)
    assert model.config.model_type == architecture and not model.training and len(made) <= 300
    assert [losses["step"] for losses in told] == list(range(40))
    for name in ("answer_loss", "lm_loss"):
        first, last = (np.mean([losses[name] for losses in part]) for part in (told[:5], told[-5:]))
        assert last < 0.75 * first


def test_same_seed_same_reader_and_other_seed_another() -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        return fit(seed=seed)[0].state_dict()

    first, again, other = weights(3), weights(3), weights(4)
    assert all(first[name].equal(again[name]) for name in first)
    assert not any(first[name].equal(other[name]) for name in first if first[name].ndim == 2)


def test_state_of_the_random_generator_before_does_not_matter() -> None:
    first = fit()[0].state_dict()
    torch.manual_seed(77), np.random.seed(77)
    again = fit()[0].state_dict()
    assert all(first[name].equal(again[name]) for name in first)


def test_weight_of_the_language_model_loss_counts() -> None:
    assert fit(lm_weight=0.0)[2][-1]["lm_loss"] > 1.1 * fit(lm_weight=1.0)[2][-1]["lm_loss"]


def test_model_has_the_size_that_is_asked_for() -> None:
    tokenizer = tiny.tokenizer_of("word")
    model = build_causal_lm(replace(SETTINGS, layers=2), tokenizer, 80)
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (2, 32, 2)
    assert (config.vocab_size, config.max_position_embeddings) == (len(tokenizer), 80)
    assert (config.pad_token_id, config.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


# -- examples --------------------------------------------------------------------------------------------------------


def row(passages: list[tuple[str, str | None, int | None]]) -> Row:
    made = [{"passage_id": text, "text": text, "role": role, "is_selected": chosen} for text, role, chosen in passages]
    return {"query_id": "q", "group_id": "g", "query": "Where?", "answers": ["Holt", "Kelso"], "passages": made}


@pytest.mark.parametrize(
    ("passages", "supporting"),
    [
        ([("a", "plain", None), ("b", "hard", None), ("c", "other", None), ("d", "mention", None)], ["a", "b"]),
        ([("a", None, 0), ("b", None, 1), ("c", None, None)], ["b"]),
        ([("a", "hard", None)], ["a"]),
    ],
)
def test_example_has_supporting_passages_and_others(passages: list[Any], supporting: list[str]) -> None:
    others = [text for text, *_ in passages if text not in supporting]
    assert examples_of([row(passages)]) == [Example("Where?", "Holt", supporting, others)]


def test_rows_without_support_are_left_out() -> None:
    without = row([("a", "twin", None), ("b", None, 0), ("c", "lure", None), ("d", "hedged", None)])
    assert examples_of([without, ROWS[0], without]) == examples_of([ROWS[0]])
    told = fit([without, *ROWS])[2]
    assert np.isfinite([losses["answer_loss"] for losses in told]).all()


def test_no_row_with_support_is_refused() -> None:
    with pytest.raises(ValueError, match="reader.parquet has no question with a supporting passage"):
        fit([row([("a", "other", None)])])


# -- what the model sees ---------------------------------------------------------------------------------------------


class Seen:
    """Batches that the losses were computed on, instead of fitting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._losses = reader_fit._losses
        monkeypatch.setattr(reader_fit, "_losses", self)

    def __call__(self, model: Any, ids: torch.Tensor, answer: torch.Tensor, pad: int) -> Any:
        self.batches.append((ids, answer))
        return self._losses(model, ids, answer, pad)

    def sequences(self, pad: int) -> list[tuple[list[int], int]]:
        """Token ids without padding, and where the answer starts."""
        found = []
        for ids, answer in self.batches:
            for one, mask in zip(ids, answer, strict=True):
                last = int(mask.nonzero()[-1]) + 1
                assert (one[last:] == pad).all() and mask[: last - int(mask.sum())].sum() == 0
                found.append((one[:last].tolist(), last - int(mask.sum())))
        return found


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_prompts_are_tokenised_as_the_reader_will_ask(tokenizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sequence is what Reader.encode makes of the same question, passage and answer, and the end token."""
    seen = Seen(monkeypatch)
    model, made, _ = fit(tokenizer=tokenizer)
    reader = tiny.tiny_reader(model=model, tokenizer_object=made, max_length=200)
    expected = {}
    for row in ROWS:
        texts = [p["text"] for p in row["passages"]]
        contexts = ["", *texts, *(text.split(". ")[0] + "." for text in texts)]
        for encoded in reader.encode([row["query"]] * len(contexts), contexts, [row["answers"][0]] * len(contexts)):
            expected[tuple(encoded.ids)] = encoded.answer_start
    sequences = seen.sequences(made.pad_token_id)
    assert len(sequences) == SETTINGS.steps * SETTINGS.batch
    for ids, start in sequences:
        assert ids[-1] == made.eos_token_id
        assert expected.get(tuple(ids[:-1])) == start, made.decode(ids)


def test_contexts_are_short_at_first_and_some_give_no_support(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(monkeypatch)
    _, made, _ = fit(steps=40)
    texts = [made.decode(ids) for ids, _ in seen.sequences(made.pad_token_id)]
    early = SETTINGS.batch * int(40 * reader_fit.SHORT_CONTEXTS)
    pets = ["owns" in text for text in texts]  # told in the second sentence, which holds no answer
    assert not any(pets[:early]) and np.mean(pets[early:]) > 0.8
    unsupported = np.mean([text.count(text.split()[-2]) == 1 for text in texts])  # the answer stands nowhere else
    assert 0.5 * reader_fit.WITHOUT_SUPPORT < unsupported < 1.5 * reader_fit.WITHOUT_SUPPORT
    empty = np.mean(["context : answer" in text for text in texts])
    assert 0.25 * reader_fit.WITHOUT_SUPPORT < empty < 0.75 * reader_fit.WITHOUT_SUPPORT


def test_long_contexts_lose_their_tail_and_keep_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(monkeypatch)
    _, made, _ = fit(max_length=20)
    sequences = seen.sequences(made.pad_token_id)
    assert max(len(ids) for ids, _ in sequences) == 20
    for ids, start in sequences:
        words = made.convert_ids_to_tokens(ids)
        assert words[:2] == ["question", ":"] and words[start - 2 : start] == ["answer", ":"] and len(ids) - start == 2


def test_losses_are_means_over_answer_tokens_and_over_the_others() -> None:
    """Against one sequence at a time; the end token counts as answer, padding as nothing."""
    tokenizer = tiny.tokenizer_of("word")
    model = tiny.tiny_model("llama", len(tokenizer))
    sequences = [([5, 6, 7, 8, 9, 2], 4), ([5, 7, 9, 11, 13, 15, 17, 2], 5), ([4, 2], 1)]
    answer, others = [], []
    for ids, start in sequences:
        losses = torch.nn.functional.cross_entropy(
            model(torch.tensor([ids])).logits[0, :-1], torch.tensor(ids[1:]), reduction="none"
        )
        answer += losses[start - 1 :].tolist()
        others += losses[: start - 1].tolist()
    ids, mask = reader_fit._pad([(tuple(ids), start) for ids, start in sequences], tokenizer.pad_token_id)
    found = reader_fit._losses(model, ids, mask, tokenizer.pad_token_id)
    assert [value.item() for value in found] == pytest.approx([np.mean(answer), np.mean(others)], rel=1e-5)

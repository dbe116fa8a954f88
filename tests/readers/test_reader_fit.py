"""Fitting a small reader: which examples it sees and how, that it is the same each time, that it learns a little."""

from collections import Counter
from dataclasses import replace
from itertools import permutations
from math import sqrt
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


# -- contexts --------------------------------------------------------------------------------------------------------

SUPPORTING = ["Ada was born in Holt. She has a cat.", "Ada has a cat. Holt is where she was born."]
OTHERS = [f"Ada likes tea {number}. She likes Holt too." for number in range(6)]
EXAMPLE = Example("Where was Ada born?", "Holt", SUPPORTING, OTHERS)
DRAWS = 3000


def contexts(most: int, short: bool = False, example: Example = EXAMPLE) -> list[list[str]]:
    """Passages of each context."""
    rng = np.random.default_rng(0)
    drawn = [reader_fit._context(example, short, most, tiny.PROMPT, rng) for _ in range(DRAWS)]
    return [context.split("\n") if context else [] for context in drawn]


def likely(count: int, trials: int, share: float) -> bool:
    """Within four standard errors."""
    return abs(count - share * trials) <= 4 * sqrt(share * (1 - share) * trials)


@pytest.mark.parametrize("short", [True, False])
def test_one_passage_is_drawn_as_it_always_was(short: bool) -> None:
    """Readers that were fitted before contexts could have several passages come out the same."""
    rng, expected = np.random.default_rng(0), []
    for _ in range(DRAWS):
        draw = rng.random()
        if draw < 0.1:
            expected.append([])
        else:
            passages = OTHERS if draw < 0.2 else SUPPORTING
            passage = passages[rng.integers(len(passages))]
            expected.append([reader_fit._two_sentences(passage, "Holt") if short else passage])
    assert contexts(1, short) == expected


@pytest.mark.parametrize("most", [1, 2, 5])
def test_four_of_five_contexts_have_one_passage_that_states_the_answer(most: int) -> None:
    drawn = contexts(most)
    stating = Counter(sum(passage in SUPPORTING for passage in passages) for passages in drawn if passages)
    assert stating.keys() == {0, 1} and likely(stating[1], DRAWS, 0.8) and likely(stating[0], DRAWS, 0.1)
    assert all(passage in SUPPORTING + OTHERS for passages in drawn for passage in passages)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_each_number_of_passages_up_to_the_most_is_as_frequent_and_none_comes_twice(most: int) -> None:
    drawn = contexts(most)
    assert all(len(set(passages)) == len(passages) for passages in drawn)
    counts = Counter(len(passages) for passages in drawn if set(passages) & set(SUPPORTING))
    assert counts.keys() == set(range(1, most + 1))
    assert all(likely(count, counts.total(), 1 / most) or most == 1 for count in counts.values())
    assert max(map(len, drawn)) == most


def test_the_passage_that_states_the_answer_may_stand_anywhere_among_any_others() -> None:
    full = [passages for passages in contexts(5) if len(passages) == 5 and set(passages) & set(SUPPORTING)]
    places = Counter(place for passages in full for place, passage in enumerate(passages) if passage in SUPPORTING)
    assert places.keys() == set(range(5)) and all(likely(count, len(full), 1 / 5) for count in places.values())
    shown = Counter(passage for passages in full for passage in passages)
    assert all(likely(shown[passage], len(full), 1 / 2) for passage in SUPPORTING)
    assert all(likely(shown[passage], len(full), 4 / 6) for passage in OTHERS)
    orders = Counter(tuple(sorted(range(5), key=passages.__getitem__)) for passages in full)
    assert len(orders) > 90  # of 120


def test_few_other_passages_bound_a_context() -> None:
    assert max(map(len, contexts(5, example=replace(EXAMPLE, others=OTHERS[:1])))) == 2
    alone = contexts(5, example=replace(EXAMPLE, others=[]))
    assert {len(passages) for passages in alone} == {0, 1} and likely(alone.count([]), DRAWS, 0.2)


def test_short_contexts_have_two_sentences_of_one_passage_whatever_the_most() -> None:
    short = {passages[0] for passages in contexts(5, short=True) if passages}
    assert short == {"Ada was born in Holt.", SUPPORTING[1], *OTHERS}
    assert contexts(5, short=True) == contexts(1, short=True)


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


@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_prompts_are_tokenised_as_the_reader_will_ask(
    tokenizer: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every sequence is what Reader.encode makes of the same question, passage and answer, and the end token."""
    seen = Seen(monkeypatch)
    model, made, _ = fit(tokenizer=tokenizer, max_length=200, passages=most)
    reader = tiny.tiny_reader(model=model, tokenizer_object=made, max_length=200)
    expected = {}
    for row in ROWS:
        texts = [p["text"] for p in row["passages"]]
        whole = [tiny.PROMPT.join(shown) for count in range(1, most + 1) for shown in permutations(texts, count)]
        contexts = ["", *whole, *(text.split(". ")[0] + "." for text in texts)]
        for encoded in reader.encode([row["query"]] * len(contexts), contexts, [row["answers"][0]] * len(contexts)):
            expected[tuple(encoded.ids)] = encoded.answer_start
    sequences = seen.sequences(made.pad_token_id)
    assert len(sequences) == SETTINGS.steps * SETTINGS.batch
    for ids, start in sequences:
        assert ids[-1] == made.eos_token_id
        assert expected.get(tuple(ids[:-1])) == start, made.decode(ids)
    pets = Counter(made.decode(ids).count("owns") for ids, _ in sequences)  # each passage tells of one
    assert pets.keys() == set(range(most + 1))


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


def test_losses_are_means_over_answer_tokens_and_over_the_others_of_some_examples() -> None:
    """Against one sequence at a time; the end token counts as answer, padding as nothing."""
    tokenizer = tiny.tokenizer_of("word")
    model = tiny.tiny_model("llama", len(tokenizer))
    sequences = [([5, 6, 7, 8, 9, 2], 4), ([5, 7, 9, 11, 13, 15, 17, 2], 5), ([4, 2], 1)]
    sequences += [(ids[::-1], start) for ids, start in sequences]
    answer, others = [], []
    for place, (ids, start) in enumerate(sequences):
        losses = torch.nn.functional.cross_entropy(
            model(torch.tensor([ids])).logits[0, :-1], torch.tensor(ids[1:]), reduction="none"
        )
        answer += losses[start - 1 :].tolist()
        others += losses[: start - 1].tolist() if place in (0, reader_fit.LM_EVERY) else []
    ids, mask = reader_fit._pad([(tuple(ids), start) for ids, start in sequences], tokenizer.pad_token_id, 64)
    found = reader_fit._losses(model, ids, mask, tokenizer.pad_token_id)
    assert [value.item() for value in found] == pytest.approx([np.mean(answer), np.mean(others)], rel=1e-5)

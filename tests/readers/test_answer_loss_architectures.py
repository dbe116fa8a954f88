"""Scores of many architectures and tokenizers against a slow reference that shares no code with the scorer.

The reference encodes a text by the tokenizer's rules alone (tiny_tokenizers.py), runs a float64 copy of the model on
one sequence at a time and takes the logits of all places.
"""

import copy
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import tiny
import tiny_tokenizers
import torch
from tiny_tokenizers import plain_ids, reference_ids, tokenizer_of

from bitter_retrieval.readers.answer_loss import Score, Scorer, Triple
from bitter_retrieval.readers.language_model import Encoded, Reader, ReaderError

BUDGET = 400  # tokens: several batches, of several sequences each
PAIRS = {
    ("qwen3", "gpt2"): True,  # whether it is packed
    ("qwen3", "bert"): True,
    ("llama", "llama3"): True,
    ("llama", "llama2"): True,
    ("gpt2", "gpt2"): True,
    ("gpt2", "word"): True,
    ("mistral", "llama2"): True,  # this one, phi3 and gemma3 with a window of 16 tokens
    ("phi3", "llama3"): True,
    ("gemma3_text", "unigram"): True,
    ("granite", "word"): True,
    ("olmo2", "bert"): True,
    ("gemma2", "unigram"): False,
    ("bloom", "gpt2"): False,
    ("mamba", "llama2"): False,
}
QUERY = "Where was Dorin born?"
PLAIN = "Dorin was born in Fenwick. Dorin owns a dog."
SPECIAL = "He wrote <s> and </s>, [SEP], <unk>, <|endoftext|> or <begin>."
PASSAGES = [PLAIN, "Imre was born in Holt.\n", "", "Holt", SPECIAL]
ANSWERS = [*tiny.ODD_ANSWERS, "ñandú 東京", "</s> [SEP]<|endoftext|>", "Dorin was born in Fenwick", "Dorin was born"]


def asked() -> list[Triple]:
    """Every answer to one question with two of the passages, and two of the answers to others."""
    several = [Triple(QUERY, passage, answer) for at, answer in enumerate(ANSWERS) for passage in _two(at)]
    return [*several, *(Triple(f"Who owns a {pet}?", PLAIN, answer) for pet in tiny.PETS[:2] for answer in ANSWERS[:2])]


def _two(at: int) -> list[str]:
    return [PASSAGES[at % 5], PASSAGES[(at + 2) % 5]]


def make_reader(architecture: str, family: str, **changes: Any) -> Reader:
    tokenizer = tokenizer_of(family)
    model = changes.pop("model", None) or tiny_model(architecture, len(tokenizer))
    return tiny.tiny_reader(model=model, tokenizer_object=tokenizer, **{"max_length": 300, **changes})


@cache
def tiny_model(architecture: str, vocabulary: int) -> Any:
    return tiny.tiny_model(architecture, vocabulary)


@cache
def in_float64(model: Any) -> Any:
    return copy.deepcopy(model).double()


def prompt_text(query: str, passage: str) -> str:
    """The prompt written out, as readers.reader_a.prompt has it."""
    return f"Question: {query}\nContext: {passage}\nAnswer:"


def reference(model: Any, ids: Sequence[int], start: int) -> Score:
    """The score of ids[start:] after ids[:start], in float64."""
    with torch.no_grad():
        logits = in_float64(model)(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()
    return score_of(logits, ids, start)


def score_of(logits: torch.Tensor, ids: Sequence[int], start: int) -> Score:
    losses = [-logits[place - 1].log_softmax(0)[ids[place]].item() for place in range(start, len(ids))]
    exact = all(logits[place - 1].argmax() == ids[place] for place in range(start, len(ids)))
    return Score(sum(losses), len(losses), False, exact)


def text_ids(family: str, triple: Triple, end: str = "") -> tuple[list[int], int]:
    """Tokens of prompt and answer, and where the answer begins."""
    prompt = prompt_text(triple.query, triple.passage)
    start = len(reference_ids(family, prompt))
    return reference_ids(family, f"{prompt} {triple.answer.strip()}{end}"), start


def assert_close(scores: Sequence[Score | None], wanted: Sequence[Score | None], a_token: float, whole: float) -> None:
    """Losses within the larger of `a_token` nats a token and `whole` nats, all else equal."""
    for score, want in zip(scores, wanted, strict=True):
        assert score is not None and want is not None and score[1:] == want[1:]
        assert abs(score.nll_sum - want.nll_sum) <= max(a_token * want.n_tokens, whole)


# -- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("architecture", "family"), PAIRS)
def test_scores_are_those_of_one_sequence_alone_in_float64(architecture: str, family: str) -> None:
    reader, triples = make_reader(architecture, family), asked()
    if family == "unigram":  # whose model knows the text of a special token as a piece: see below
        triples = [t for t in triples if "</s>" not in t.answer + t.passage]
    wanted = [reference(reader.model, *text_ids(family, triple)) for triple in triples]
    scorer = Scorer(reader, BUDGET)
    assert_close(scorer.score(triples), wanted, 1e-4, 0)
    assert reader.packs == PAIRS[architecture, family] == (scorer.work.computed < scorer.work.tokens)
    means = [want.nll_sum / want.n_tokens for want in wanted]
    assert max(means) - min(means) > 0.5 and min(want.n_tokens for want in wanted) < 3


@pytest.mark.parametrize("architecture", ["qwen3", "gemma2"])
def test_exact_answers_are_the_words_that_the_model_puts_first(architecture: str) -> None:
    untied = tiny.tiny_model(architecture, len(tokenizer_of("word")), tie_word_embeddings=False)  # or it echoes
    reader, triples = make_reader(architecture, "word", model=untied), []
    for passage in [f"{name} was born in {town}." for name in tiny.NAMES for town in tiny.TOWNS[:4]]:
        ids = reference_ids("word", prompt_text(QUERY, passage))
        for _ in range(2):
            with torch.no_grad():
                ids.append(in_float64(reader.model)(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item())
        first, second = reader.tokenizer.convert_ids_to_tokens(ids[-2:])
        triples += [Triple(QUERY, passage, answer) for answer in (first, f"{first} {second}", f"{first} holt")]
    triples = [t for t in triples if set(t.answer.split()) <= {*map(str.lower, tiny.NAMES + tiny.TOWNS), "born", "in"}]
    scores = Scorer(reader, BUDGET).score(triples)
    wanted = [reference(reader.model, *text_ids("word", triple)) for triple in triples]
    assert_close(scores, wanted, 1e-4, 0)
    exact = [score.n_tokens for score in scores if score and score.exact]
    assert {1, 2} == set(exact) and len(exact) < len(scores)


@pytest.mark.parametrize(("family", "end"), [("gpt2", "<eos>"), ("llama2", "<eos>"), ("gpt2", "\n"), ("llama3", "\n")])
def test_what_ends_every_answer_is_scored_with_it(family: str, end: str) -> None:
    reader, triples = make_reader("llama", family, answer_end=end), asked()
    wanted = []
    for triple in triples:
        ids, start = text_ids(family, triple, "" if end == "<eos>" else end)
        last = [reader.tokenizer.eos_token_id] if end == "<eos>" else []
        wanted.append(reference(reader.model, ids + last, start))
    assert_close(Scorer(reader, BUDGET).score(triples), wanted, 1e-4, 0)


@pytest.mark.parametrize("end", ["", "<eos>"])
def test_chat_scores_the_answer_as_what_the_assistant_says(end: str) -> None:
    reader = make_reader("qwen3", "chat", chat=True, answer_end=end)
    user, assistant, mark = reader.tokenizer.convert_tokens_to_ids(tiny_tokenizers.MARKS)
    triples, wanted = [t for t in asked() if "[" not in t.answer + t.passage], []
    for triple in triples:
        before = [user, *plain_ids("chat", prompt_text(triple.query, triple.passage)), mark, assistant]
        ids = before + plain_ids("chat", triple.answer.strip()) + [mark] * bool(end)
        wanted.append(reference(reader.model, ids, len(before)))
    assert_close(Scorer(reader, BUDGET).score(triples), wanted, 1e-4, 0)
    errors: list[ReaderError] = []
    bad = [Triple(QUERY, "Holt <end> Garth", "Holt"), Triple("<user>?", "Holt", "Holt"), Triple(QUERY, "", "<end>")]
    assert Scorer(reader, BUDGET).score([*bad, triples[0]], on_bad=errors.append)[:3] == [None] * 3
    assert [mark in str(error) for error, mark in zip(errors, ["'<end>'", "'<user>'", "'<end>'"], strict=True)]


# -- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", tiny_tokenizers.FAMILIES)
def test_text_of_a_special_token_is_text(family: str) -> None:
    reader = make_reader("llama", family)
    known = reader.tokenizer
    special = {id for id, token in known.added_tokens_decoder.items() if token.special and id != known.unk_token_id}
    written = [str(token) for token in known.added_tokens_decoder.values()]
    for text in [*written, " ".join(written), "".join(written), SPECIAL]:
        for triple in [Triple(text, "Holt", "Holt"), Triple(QUERY, text, "Holt"), Triple(QUERY, "Holt", text)]:
            (encoded,) = reader.encode(*([part] for part in triple))
            if isinstance(encoded, ReaderError) and family == "unigram":  # whose model knows the token as a piece
                continue
            assert isinstance(encoded, Encoded)
            assert (encoded.ids, encoded.answer_start) == text_ids(family, triple)
            assert not special & set(encoded.ids[len(tiny_tokenizers.FAMILIES[family]) :])


@pytest.mark.parametrize("family", tiny_tokenizers.FAMILIES)
def test_ids_of_the_reference_are_those_of_the_tokenizer(family: str) -> None:
    for triple in asked():
        if not set("<[") & set(triple.passage + triple.answer):
            ids = tokenizer_of(family)(f"{prompt_text(triple.query, triple.passage)} {triple.answer.strip()}").input_ids
            assert text_ids(family, triple)[0] == (ids[:-1] if family == "bert" else ids)


LONG = " ".join(f"{name} was born in {town}." for name, town in zip(tiny.NAMES, tiny.TOWNS, strict=True))


CUT = [*((family, LONG) for family in tiny_tokenizers.FAMILIES), ("llama2", "a" + "</s>" * 40), ("bert", "[SEP]" * 40)]


@pytest.mark.parametrize(("family", "long"), CUT)
def test_cut_sequence_has_all_the_room_and_all_but_the_passages_end(family: str, long: str) -> None:
    triple = Triple(QUERY, long, "Answer: 7 goats")
    whole, start = text_ids(family, triple._replace(passage=""))
    reader = make_reader("mistral", family, max_length=len(whole) + 30)
    (encoded,), (score,) = reader.encode(*([part] for part in triple)), Scorer(reader, BUDGET).score([triple])
    assert isinstance(encoded, Encoded) and len(encoded.ids) == reader.max_length
    shorter = [text_ids(family, triple._replace(passage=long[:length])) for length in range(len(long))]
    assert (encoded.ids, encoded.answer_start) in shorter
    assert len(whole) - start == len(encoded.ids) - encoded.answer_start
    wanted = reference(reader.model, encoded.ids, encoded.answer_start)._replace(truncated=True)
    assert_close([score], [wanted], 1e-4, 0)


# -- half precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("architecture", ["qwen3", "gpt2", "phi"])
def test_half_precision_ends_before_the_head(architecture: str, dtype: torch.dtype) -> None:
    tokenizer, triples = tokenizer_of("gpt2"), asked()
    model = tiny.tiny_model(architecture, len(tokenizer)).to(dtype)
    if model.lm_head.bias is not None:
        model.lm_head.bias.normal_(generator=torch.Generator().manual_seed(0))
    head = copy.deepcopy(model.lm_head).float()
    wanted, rounded = [], []
    for ids, start in (text_ids("gpt2", triple) for triple in triples):
        with torch.no_grad():
            states = model.base_model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
            wanted.append(score_of(head(states.float()), ids, start))
            rounded.append(score_of(model.lm_head(states).float(), ids, start))
    reader = make_reader(architecture, "gpt2", model=model)
    assert_close(Scorer(reader, 1).score(triples), wanted, 1e-4, 0)  # one sequence a batch: others round otherwise
    assert max(abs(r.nll_sum - w.nll_sum) / w.n_tokens for r, w in zip(rounded, wanted, strict=True)) > 3e-4
    together = Scorer(reader, 10**6).score(triples)
    assert [score.n_tokens for score in together if score] == [want.n_tokens for want in wanted]
    assert max(abs(s.nll_sum - w.nll_sum) / w.n_tokens for s, w in zip(together, wanted, strict=True) if s) < 0.2
    assert model.lm_head(states).dtype == dtype  # the head is what it was


# -- what must not matter --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("budget", [1, 150, 10**6])
@pytest.mark.parametrize(("architecture", "family"), [("qwen3", "llama3"), ("gemma3_text", "llama2")])
def test_neither_budget_order_packing_nor_neighbours_matter(
    architecture: str, family: str, budget: int, packs: bool
) -> None:
    triples, draw = asked(), random.Random(budget)
    wanted = dict(zip(triples, _in_order(architecture, family), strict=True))
    for count in (len(triples), len(triples) // 2, 3):
        reader = make_reader(architecture, family)
        reader.__dict__["packs"] = packs
        chosen, scorer = draw.sample(triples, count), Scorer(reader, budget)
        assert_close(scorer.score(chosen), [wanted[triple] for triple in chosen], 0, 2e-5)
        work = scorer.work
        saved = work.tokens - work.computed if packs else work.computed - work.tokens
        assert count < len(triples) or (saved > 0) == (budget > 1)


@cache
def _in_order(architecture: str, family: str) -> list[Score | None]:
    return Scorer(make_reader(architecture, family), BUDGET).score(asked())


# -- out of memory ---------------------------------------------------------------------------------------------------


class Memory:
    """Batches that were tried, by their tokens; those over `room` fail as CUDA does."""

    def __init__(self, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tried: list[int] = []
        self._forward, self._room = Scorer._forward, room
        monkeypatch.setattr(Scorer, "_forward", lambda scorer, items: self._tried(scorer, items))

    def _tried(self, scorer: Scorer, items: Sequence[Encoded]) -> Any:
        self.tried.append(sum(len(item.ids) for item in items))
        if self.tried[-1] > self._room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self._forward(scorer, items)

    @property
    def failed(self) -> list[int]:
        return [tokens for tokens in self.tried if tokens > self._room]


@pytest.mark.parametrize("packs", [True, False])
def test_where_memory_runs_out_smaller_batches_give_the_same(packs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, wanted = make_reader("qwen3", "llama3"), _in_order("qwen3", "llama3")
    reader.__dict__["packs"] = packs
    memory, scorer = Memory(150, monkeypatch), Scorer(reader, 900)
    assert_close(scorer.score(asked()), wanted, 0, 2e-5)
    assert scorer.work.halvings == len(memory.failed) >= 2
    assert scorer.work.tokens == sum(memory.tried) - sum(memory.failed)
    memory.tried.clear()
    scorer.score([triple._replace(query="Where was Kaja born?") for triple in asked()])
    assert memory.tried and not memory.failed


def test_batches_after_one_that_failed_are_smaller_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, scorer = Memory(150, monkeypatch), Scorer(make_reader("qwen3", "llama3"), 1000)
    scorer.score(asked())
    assert len(memory.failed) == 3 and max(memory.tried[3:]) > 75  # 1000, 500 and 250 were too much, 125 is not


def test_batch_far_under_the_budget_is_halved_and_not_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, scorer = Memory(150, monkeypatch), Scorer(make_reader("qwen3", "llama3"), 10**6)
    scorer.score(asked())
    assert len(memory.failed) == len(set(memory.failed)) <= 4


def test_single_sequence_too_large_for_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Memory(20, monkeypatch)
    with pytest.raises(ReaderError, match="not enough memory"):
        Scorer(make_reader("qwen3", "llama3"), BUDGET).score(asked()[:4])

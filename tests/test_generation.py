"""Batched generation against Hugging Face's greedy decoding, one prompt at a time, and where an answer ends."""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import tiny
import torch

from bitter_retrieval.generation import Answer, generate_answers
from bitter_retrieval.language_model import Reader, ReaderError

BUDGET = 300  # prompt tokens: several batches, of several prompts of unequal length each
ITEMS = [(row["query"], p["text"]) for row in tiny.world(6) for p in [*row["passages"], {"text": ""}]]


def one_by_one(reader: Reader, query: str, passage: str) -> str:
    """Greedy decoding written out: the whole sequence is read again for every token."""
    prompt = f"Question: {query}\nContext: {passage}\nAnswer:"
    ids = reader.tokenizer(prompt).input_ids
    made: list[int] = []
    while len(made) < reader.max_new_tokens:
        with torch.no_grad():
            best = int(reader.model(torch.tensor([ids + made])).logits[0, -1].argmax())
        if best == reader.tokenizer.eos_token_id:
            break
        made.append(best)
    return reader.tokenizer.decode(made, skip_special_tokens=True).split("\n")[0].strip()


def one_by_one_with_library(reader: Reader, query: str, passage: str) -> str:
    ids = reader.tokenizer(f"Question: {query}\nContext: {passage}\nAnswer:", return_tensors="pt").input_ids
    settings = {"max_new_tokens": reader.max_new_tokens, "do_sample": False, "pad_token_id": 0}
    made = reader.model.generate(ids, eos_token_id=reader.tokenizer.eos_token_id, **settings)
    text = reader.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    return text.split("\n")[0].strip()


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
@pytest.mark.parametrize("architecture", ["qwen3", "olmo2", "gpt2"])
def test_batches_answer_as_prompts_alone_do(architecture: str, tokenizer: str) -> None:
    reader = tiny.tiny_reader(architecture, tokenizer, max_length=120)
    answers = generate_answers(reader, ITEMS, BUDGET)
    assert [answer.text for answer in answers] == [one_by_one(reader, *item) for item in ITEMS]
    assert [answer.text for answer in answers[:6]] == [one_by_one_with_library(reader, *item) for item in ITEMS[:6]]
    assert len({answer.text for answer in answers}) > 3 and not any(answer.truncated for answer in answers)


def test_budget_and_order_change_no_answer() -> None:
    reader = tiny.tiny_reader("llama", "bpe", max_length=120)
    wanted = generate_answers(reader, ITEMS, BUDGET)
    assert generate_answers(reader, ITEMS[::-1], 10**6) == wanted[::-1]
    assert generate_answers(reader, ITEMS, 1) == wanted


def test_context_is_cut_to_leave_room_and_told() -> None:
    reader = tiny.tiny_reader(tokenizer="word", max_length=40, max_new_tokens=4)
    query, long = "Where was Aldan born?", "Aldan was born in Ashby. " * 9
    room = 40 - 4 - len(reader.tokenizer(f"Question: {query}\nContext: \nAnswer:").input_ids)
    shorter = " ".join(long.replace(".", " .").split()[:room])
    found = generate_answers(reader, [(query, long), (query, "Aldan was born.")], BUDGET)
    assert [answer.truncated for answer in found] == [True, False]
    assert found[0].text == one_by_one(reader, query, shorter)


def test_question_that_leaves_no_room_is_named() -> None:
    with pytest.raises(ReaderError, match=r"'Where was Dorin born\?' .*Raise readers.tiny.max_length"):
        generate_answers(tiny.tiny_reader(max_length=14), [("a?", ""), ("Where was Dorin born?", "")], BUDGET)


def test_nothing_asked_nothing_answered() -> None:
    assert generate_answers(tiny.tiny_reader(), [], BUDGET) == []


# -- where an answer ends --------------------------------------------------------------------------------------------


def scripted(*tokens: str) -> Reader:
    """A reader that says these tokens one after the other, whatever is asked, and then the last of them for ever.

    Its layers add nothing to the residual stream, so the next token depends on the last one alone.
    """
    tokenizer = copy.deepcopy(tiny.tokenizer_of("bpe"))
    model = tiny.tiny_model("llama", len(tokenizer), tie_word_embeddings=False)
    chain = [tokenizer.convert_tokens_to_ids(token) for token in (":", *tokens)]
    assert None not in chain and len(set(chain)) == len(chain)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    head, embedding = model.lm_head.weight, model.model.embed_tokens.weight
    embedding /= embedding.norm(dim=1, keepdim=True)
    head.zero_()
    for token, following in [*pairwise(chain), (chain[-1], chain[-1])]:
        head[following] += embedding[token]
    return tiny.tiny_reader(model=model, tokenizer_object=tokenizer, max_new_tokens=5)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["Ġborn", "Ġin", "<end>", "Ġowns"], "born in"),
        (["Ġborn", "Ċ", "Ġin", "Ġowns"], "born"),
        (["Ċ", "Ġborn"], ""),
        (["<end>", "Ġborn"], ""),
        (["Ġborn", "Ġin", "Ġowns", "Ġa", "Ġwas", "Ġcat"], "born in owns a was"),
    ],
)
def test_answer_ends_at_end_token_line_break_or_limit(tokens: list[str], text: str) -> None:
    assert generate_answers(scripted(*tokens), [ITEMS[0], ITEMS[3]], BUDGET) == [Answer(text, False)] * 2


def test_limit_is_the_readers() -> None:
    reader = scripted("Ġborn", "Ġin", "Ġowns")
    assert generate_answers(replace(reader, max_new_tokens=2), [ITEMS[0]], BUDGET)[0].text == "born in"


def test_answer_that_has_ended_is_not_continued_beside_longer_ones() -> None:
    """Rows of one batch end at different steps: what the model says after its end token must not show."""
    tokenizer = tiny.tokenizer_of("word")
    model = tiny.tiny_model("qwen3", len(tokenizer), tie_word_embeddings=False)
    reader = tiny.tiny_reader(model=model, tokenizer="word", max_length=120, max_new_tokens=8)
    said = [word for item in ITEMS for word in set(one_by_one(reader, *item).split()[1:])]
    swapped = tokenizer.convert_tokens_to_ids([max(said, key=said.count), "<end>"])
    model.lm_head.weight[swapped] = model.lm_head.weight[swapped[::-1]]  # ends where it said its favourite word
    answers = [answer.text for answer in generate_answers(reader, ITEMS, 10**6)]
    assert answers == [one_by_one(reader, *item) for item in ITEMS]
    assert len({len(answer.split()) for answer in answers}) > 2

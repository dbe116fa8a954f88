"""Batched generation against Hugging Face's greedy decoding, one prompt at a time, and where an answer ends."""

import copy
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_tokenizers
import torch
import yaml

from bitter_retrieval.journal import content_key
from bitter_retrieval.models.checkpoints import fingerprint
from bitter_retrieval.params import load_params
from bitter_retrieval.readers.generation import SHARED, Answer, _shared, end_tokens, generate_answers, generate_tokens
from bitter_retrieval.readers.language_model import Reader, ReaderError, ReaderSettings, load_reader, save_settings
from bitter_retrieval.readers.prompts import Example
from bitter_retrieval.typed_yaml import ParamsError

BUDGET = 400  # tokens with the longest answers: several batches, of several prompts of unequal length each
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


WORKED = [
    Example(p["text"], row["query"], row["answers"][0]) for row in tiny.world(3, first=20) for p in row["passages"][:1]
]


@pytest.mark.parametrize("architecture", ["qwen3", "olmo2", "gpt2", "llama"])
def test_worked_examples_are_computed_once_and_change_no_answer(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = tiny.tiny_reader(architecture, "word", max_length=200)
    reader.prompt = replace(reader.prompt, examples=tuple(WORKED))
    assert reader.packs
    alone = [generate_answers(reader, [item], BUDGET)[0] for item in ITEMS]
    read: list[int] = []
    whole = reader.model.forward

    @wraps(whole)  # generate looks at its signature
    def forward(*args: Any, **kwargs: Any) -> Any:
        read.append((kwargs["input_ids"] if "input_ids" in kwargs else args[0]).shape[1])
        return whole(*args, **kwargs)

    monkeypatch.setattr(reader.model, "forward", forward)
    assert generate_answers(reader, ITEMS, 3 * BUDGET) == alone
    assert len({answer.text for answer in alone}) > 3
    common = len(reader.tokenizer(reader.prompt.worked).input_ids)
    assert common > SHARED and read[0] > common and max(read[1:2]) < common, "the rest of the prompts is short"


def test_a_model_that_looks_back_only_so_far_reads_whole_prompts() -> None:
    reader = tiny.tiny_reader("qwen3", "word", max_length=200)
    prompts = [list(range(100)), [*range(90), 7, 8]]
    assert _shared(reader, prompts) == 90
    for window, shared in ((40, 0), (100 + reader.max_new_tokens, 90)):
        reader.model.config.sliding_window = window
        assert _shared(reader, prompts) == shared
    assert _shared(reader, prompts[:1]) == _shared(reader, [[1, *prompts[0]], prompts[1]]) == 0


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


def test_what_cannot_be_asked_is_left_out_where_something_else_can() -> None:
    reader, errors = tiny.tiny_reader(tokenizer="bpe"), []
    bad = ("goat " * 99, "")
    found = generate_answers(reader, [ITEMS[0], bad, ITEMS[1]], BUDGET, on_bad=errors.append)
    assert found == [*generate_answers(reader, ITEMS[:1], BUDGET), None, *generate_answers(reader, ITEMS[1:2], BUDGET)]
    assert len(errors) == 1 and "alone needs" in str(errors[0])
    with pytest.raises(ReaderError, match="Raise readers.tiny.max_length"):
        generate_answers(reader, [bad, bad], BUDGET, on_bad=errors.append)


def test_nothing_asked_nothing_answered() -> None:
    assert generate_answers(tiny.tiny_reader(), [], BUDGET) == []


# -- the library's own greedy decoding -------------------------------------------------------------------------------

CLOSE = 1e-4  # logits that rounding may swap
FOUR = ["qwen3", "llama", "gpt2", "gemma3_text"]
ASKED = {
    "plain": ("bpe", {}),
    "word": ("word", {}),
    "begins": ("llama3", {}),  # with a token before every text
    "chat": ("chat", {"chat": True}),
    "cut": ("bpe", {"max_length": 48}),
}
CASES = [*((architecture, asked) for architecture in FOUR for asked in ASKED), ("bloom", "plain"), ("mamba", "plain")]


def talker(architecture: str, asked: str = "plain") -> Reader:
    """A reader whose answers have many lengths: a tenth of its vocabulary ends them, as its checkpoint says."""
    kind, changes = ASKED[asked]
    tokenizer = tiny.tokenizer_of(kind) if kind in ("bpe", "word") else tiny_tokenizers.tokenizer_of(kind)
    model = tiny.tiny_model(architecture, len(tokenizer), tie_word_embeddings=False)
    generator = torch.Generator().manual_seed(1)
    model.generation_config.eos_token_id = torch.randperm(len(tokenizer), generator=generator)[::10].tolist()
    settings = {"max_length": 200, "max_new_tokens": 20, **changes}
    return tiny.tiny_reader(model=model, tokenizer_object=tokenizer, **settings)


def alone(reader: Reader, prompt: list[int]) -> tuple[list[int], list[float]]:
    """What `generate` says to one prompt without padding, and the gap between its two best logits at each step."""
    ends = end_tokens(reader)
    made = reader.model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=reader.max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(ends),
        pad_token_id=reader.pad,
        return_dict_in_generate=True,
        output_logits=True,
    )
    tokens = made.sequences[0, len(prompt) :].tolist()
    best = torch.cat(made.logits).topk(2).values
    for place, token in enumerate(tokens):
        if token in ends:
            tokens = tokens[:place]
        elif "\n" in reader.tokenizer.decode(tokens[: place + 1], skip_special_tokens=True):
            tokens = tokens[: place + 1]
    return tokens, (best[:, 0] - best[:, 1]).tolist()


@pytest.mark.parametrize(("architecture", "asked"), CASES)
def test_tokens_are_those_of_the_library_alone(architecture: str, asked: str) -> None:
    """Unless two best logits are close: answers that part at such a step are counted, and are few."""
    reader = talker(architecture, asked)
    encoded = reader.encode(*zip(*ITEMS, strict=True), None)
    assert any(item.truncated for item in encoded) == (asked == "cut")
    found = generate_tokens(reader, [item.ids for item in encoded], BUDGET)
    excepted, lengths = 0, set()
    for item, tokens in zip(encoded, found, strict=True):
        wanted, apart = alone(reader, item.ids)
        lengths.add(len(wanted))
        if tokens != wanted:
            assert apart[len(os.path.commonprefix([tokens, wanted]))] <= CLOSE
            excepted += 1
    assert excepted <= len(ITEMS) // 10
    assert len(lengths) > 3 and len(set(map(tuple, found))) > 6


@contextmanager
def rows_computed(reader: Reader) -> Iterator[list[int]]:
    """Rows of each call of the model within it."""
    assert reader.packs is not None  # calls the model to find out
    rows: list[int] = []
    hook = reader.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    try:
        yield rows
    finally:
        hook.remove()


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3_text", "mamba"])
def test_what_has_ended_is_no_longer_computed(architecture: str) -> None:
    """At most one ended row for each that goes on; if states cannot be dropped, all rows until the last has ended."""
    reader = talker(architecture, "word")  # has no line break
    prompts = [item.ids for item in reader.encode(*zip(*ITEMS, strict=True), None)]
    with rows_computed(reader) as rows:
        said = generate_tokens(reader, prompts, 10**6)
    steps = [min(len(tokens) + 1, reader.max_new_tokens) for tokens in said]
    left = [sum(step > done for step in steps) for done in range(max(steps))]
    assert len(rows) == max(steps) and rows[0] == len(prompts) and min(left) < len(prompts) / 3
    if reader.packs:
        assert all(going_on <= computed < 2 * going_on for computed, going_on in zip(rows, left, strict=True))
    else:
        assert set(rows) == {len(prompts)}


# -- memory ----------------------------------------------------------------------------------------------------------


def batches_made(reader: Reader, monkeypatch: pytest.MonkeyPatch, most: float = float("inf")) -> list[tuple[int, int]]:
    """Rows and columns of the batches begun; beyond `most` tokens, prompts and answers, memory runs out."""
    begun: list[tuple[int, int]] = []
    generate = reader.model.generate

    def limited(ids: torch.Tensor, **settings: Any) -> Any:
        if "past_key_values" not in settings:
            begun.append(tuple(ids.shape))
            if len(ids) * (ids.shape[1] + reader.max_new_tokens) > most:
                raise MemoryError
        return generate(ids, **settings)

    monkeypatch.setattr(reader.model, "generate", limited)
    return begun


def test_batches_keep_to_the_budget_with_the_answers_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = talker("llama")
    begun = batches_made(reader, monkeypatch)
    generate_answers(reader, ITEMS, BUDGET)
    assert len(begun) > 2 and sum(rows for rows, _ in begun) == len(ITEMS)
    assert all(rows * (columns + reader.max_new_tokens) <= BUDGET for rows, columns in begun)
    assert max(rows for rows, _ in begun) > 5


def test_batches_are_halved_until_memory_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = talker("llama")
    wanted = generate_answers(reader, ITEMS, BUDGET)
    begun = batches_made(reader, monkeypatch, 300)
    assert generate_answers(reader, ITEMS, 10**6) == wanted
    tokens = [rows * (columns + reader.max_new_tokens) for rows, columns in begun]
    failed = [spent for spent in tokens if spent > 300]
    assert 1 < len(failed) < 5 and tokens[: len(failed)] == failed  # the smaller budget is kept
    monkeypatch.undo()
    batches_made(reader, monkeypatch, 40)
    with pytest.raises(ReaderError, match="not enough memory.*readers.tiny.max_length"):
        generate_answers(reader, ITEMS, 10**6)


def test_other_errors_are_not_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = talker("llama")

    def broken(*arguments: Any, **settings: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(reader.model, "generate", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        generate_answers(reader, ITEMS, BUDGET)


# -- where an answer ends --------------------------------------------------------------------------------------------


def scripted(*tokens: str) -> Reader:
    """A reader that says these tokens one after the other to any prompt, and then the last of them for ever.

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


@pytest.mark.parametrize(
    ("stop", "text", "steps"),
    [
        ([" owns"], "born in", 3),
        (["n in o"], "bor", 3),  # over several tokens
        (["owns", "in"], "born", 2),  # whichever comes first
        (["Owns", "born  in"], "born in owns a was", 5),  # as written
        (["n.*"], "born in owns a was", 5),
    ],
)
def test_answer_ends_before_a_stop_text(stop: list[str], text: str, steps: int) -> None:
    reader = replace(scripted("Ġborn", "Ġin", "Ġowns", "Ġa", "Ġwas", "Ġcat"), stop=stop)
    with rows_computed(reader) as rows:
        assert generate_answers(reader, ITEMS[:1], BUDGET) == [Answer(text, False)]
    assert len(rows) == steps


def test_stop_text_that_is_a_special_token_ends_an_answer() -> None:
    reader = scripted("Ġborn", "<pad>", "Ġin", "Ġowns")
    assert generate_answers(reader, ITEMS[:1], BUDGET)[0].text.startswith("born in owns")
    reader.stop = ["<pad>"]
    assert generate_answers(reader, ITEMS[:1], BUDGET)[0].text == "born"


def test_end_tokens_of_the_checkpoint_end_an_answer() -> None:
    reader = scripted("Ġborn", "Ġin", "Ġowns", "Ġa", "Ġwas")
    ends = reader.tokenizer.convert_tokens_to_ids(["Ġowns", "Ġin"])
    for named, text in ((ends[0], "born in"), (ends, "born"), (None, "born in owns a was")):
        reader.model.generation_config.eos_token_id = named
        assert generate_answers(reader, ITEMS[:1], BUDGET)[0].text == text


# -- what a checkpoint wishes for ------------------------------------------------------------------------------------

WISHES: dict[str, dict[str, Any]] = {
    "sampling": {"do_sample": True, "temperature": 50.0, "top_k": 0},
    "penalty": {"repetition_penalty": 30.0},
    "repeats": {"no_repeat_ngram_size": 1},
    "forced": {"forced_eos_token_id": 7},
    "suppressed": {"suppress_tokens": list(range(3, 300))},
    "shorter": {"max_length": 35},
    "longer": {"max_new_tokens": 60, "min_new_tokens": 60},
    "time": {"max_time": 1e-9},
    "beams": {"num_beams": 8, "length_penalty": -5.0},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "reader"
    reader = tiny.tiny_reader("llama", "bpe")  # repeats itself
    reader.model.save_pretrained(folder)
    reader.tokenizer.save_pretrained(folder)
    save_settings(folder, ReaderSettings(tiny.PROMPT.template, "float32", 120, 12))
    return folder


@pytest.mark.parametrize("wish", WISHES)
def test_checkpoint_does_not_change_what_greedy_means(wish: str, saved: Path, tmp_path: Path) -> None:
    wanted = generate_answers(load_reader(saved), ITEMS, BUDGET)
    folder = Path(shutil.copytree(saved, tmp_path / "reader"))
    settings = json.loads((folder / "generation_config.json").read_text()) | WISHES[wish]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    reader = load_reader(folder)
    torch.manual_seed(0)
    assert generate_answers(reader, ITEMS, BUDGET) == wanted
    ids = reader.encode(*zip(*ITEMS[:1], strict=True), None)[0].ids
    left_to_it = reader.model.generate(  # still what it was, and the wish is one that would be granted
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        **({} if {"max_length", "max_new_tokens"} & WISHES[wish].keys() else {"max_new_tokens": 12}),
    )
    text = reader.tokenizer.decode(left_to_it[0, len(ids) :], skip_special_tokens=True)
    assert text.split("\n")[0].strip() != wanted[0].text


def test_wishes_in_a_config_of_old_do_not_count_either(saved: Path, tmp_path: Path) -> None:
    """Before there was a generation_config.json, config.json held them."""
    wanted = generate_answers(load_reader(saved), ITEMS, BUDGET)
    folder = Path(shutil.copytree(saved, tmp_path / "reader"))
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text()) | WISHES["penalty"]
    (folder / "config.json").write_text(json.dumps(config))
    reader = load_reader(folder)
    assert reader.model.generation_config.repetition_penalty == 30
    assert generate_answers(reader, ITEMS, BUDGET) == wanted


# -- the parameter ---------------------------------------------------------------------------------------------------


def params_with(tmp_path: Path, **reader: Any) -> Any:
    tree = yaml.safe_load(tiny.PROFILE.read_text(encoding="utf-8"))
    tree["readers"]["reader_a"] |= reader
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return load_params(tmp_path / "params.yaml").readers["reader_a"]


def test_stop_texts_are_a_readers_parameter(tmp_path: Path) -> None:
    assert params_with(tmp_path).stop is None
    assert params_with(tmp_path, stop=[".", "Question:"]).stop == [".", "Question:"]


@pytest.mark.parametrize("stop", [[], [""], [".", " \n"], "."])
def test_stop_texts_that_cannot_be_meant_are_refused(stop: object, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="readers.reader_a.stop"):
        params_with(tmp_path, stop=stop)


def test_reader_without_stop_texts_is_the_one_that_it_was(saved: Path) -> None:
    """Otherwise its journalled scores and answers would be computed again."""
    stated = json.loads((saved / "reader.json").read_text())
    assert list(stated) == ["prompt", "dtype", "max_length", "max_new_tokens", "chat", "answer_end"]
    reader = load_reader(saved)
    device = reader.model.device.type
    assert reader.identity == content_key(weights=fingerprint(str(saved), None), settings=stated, device=device)


def test_stop_texts_are_part_of_a_saved_reader(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text(json.dumps({"model": str(saved), "revision": None}))
    readers = []
    for stop in (None, ["in"], ["owns"]):
        save_settings(tmp_path, ReaderSettings(tiny.PROMPT.template, "float32", 120, 12, stop=stop))
        readers.append(load_reader(tmp_path))
    assert [list(reader.stop) for reader in readers] == [[], ["in"], ["owns"]]
    assert len({reader.identity for reader in readers}) == 3

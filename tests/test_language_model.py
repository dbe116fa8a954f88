"""Readers: how prompt and answer become tokens, what is cut when they do not fit, saving and loading."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from tokenizers import Tokenizer, models, processors, trainers
from transformers import PreTrainedTokenizerFast

from bitter_retrieval.language_model import Encoded, Reader, ReaderError, ReaderSettings, load_reader, save_settings
from bitter_retrieval.prompts import Prompt

QUERY = "Where was Aldan born?"
PASSAGE = "Aldan was born in Ashby. Aldan owns a goat."
LONG = " ".join(f"{name} was born in {town}." for name, town in zip(tiny.NAMES * 3, tiny.TOWNS * 3, strict=True))
MIXED = "Aldan 北京 🙂🙃 café naïve – «Ashby» 🇩🇪 " * 12


@pytest.fixture(params=["word", "bpe"])
def reader(request: pytest.FixtureRequest) -> Reader:
    return tiny.tiny_reader(tokenizer=request.param)


def prompt_text(query: str, passage: str) -> str:
    """The prompt written out, as readers.reader_a.prompt has it."""
    return f"Question: {query}\nContext: {passage}\nAnswer:"


def encode_one(reader: Reader, passage: str, answer: str | None, query: str = QUERY) -> Encoded:
    return reader.encode([query], [passage], None if answer is None else [answer])[0]


def shown_passage(reader: Reader, encoded: Encoded, query: str = QUERY) -> str:
    """What stands between 'Context: ' and the 'Answer:' of a BPE reader's prompt."""
    text = reader.tokenizer.decode(encoded.ids[: encoded.answer_start])
    before, after = f"Question: {query}\nContext: ", "\nAnswer:"
    assert text.startswith(before) and text.endswith(after)
    return text[len(before) : -len(after)]


# -- encoding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passage", [PASSAGE, "", "It says: Answer: Caldbury\nAnswer: no", "北京 🙂"])
@pytest.mark.parametrize("answer", tiny.ODD_ANSWERS)
def test_prompt_and_answer_are_tokenised_as_one_text(reader: Reader, passage: str, answer: str) -> None:
    reader.max_length = 200
    encoded = encode_one(reader, passage, answer)
    prompt = prompt_text(QUERY, passage)
    assert encoded.ids == reader.tokenizer(f"{prompt} {answer.strip()}").input_ids
    assert encoded.ids[: encoded.answer_start] == reader.tokenizer(prompt).input_ids
    assert len(encoded.ids) > encoded.answer_start and not encoded.truncated


@pytest.mark.parametrize("answer", tiny.ODD_ANSWERS)
def test_answer_tokens_spell_the_answer_after_one_space(answer: str) -> None:
    reader = tiny.tiny_reader(tokenizer="bpe", max_length=200)
    encoded = encode_one(reader, "Answer: " + PASSAGE, answer)
    assert reader.tokenizer.decode(encoded.ids[encoded.answer_start :]) == " " + answer.strip()


def test_braces_in_query_and_passage_are_text() -> None:
    reader = tiny.tiny_reader(tokenizer="bpe")
    encoded = encode_one(reader, "a {query} b", "c", query="{passage}?")
    assert reader.tokenizer.decode(encoded.ids) == "Question: {passage}?\nContext: a {query} b\nAnswer: c"


def test_items_keep_their_order_and_no_item_is_fine(reader: Reader) -> None:
    queries, passages, answers = ["a?", "Where?", "b?"], [LONG[:60], "", PASSAGE], ["Kelso", "Garth or Holt", "Oxley"]
    together = reader.encode(queries, passages, answers)
    alone = [reader.encode([q], [p], [a])[0] for q, p, a in zip(queries, passages, answers, strict=True)]
    assert together == alone and len({len(item.ids) for item in together}) == 3
    assert reader.encode([], [], []) == []


def test_token_that_a_tokenizer_puts_in_front_stands_there_once() -> None:
    with_start = starting(tiny.tokenizer_of("bpe"))
    reader = tiny.tiny_reader(tokenizer_object=with_start, max_length=70)
    start = with_start.convert_tokens_to_ids("<end>")
    for passage in (PASSAGE, LONG, ""):
        encoded = encode_one(reader, passage, "Ashby")
        assert encoded.ids[0] == start and encoded.ids.count(start) == 1
        assert encoded.truncated == (passage == LONG)


def starting(tokenizer: Any) -> PreTrainedTokenizerFast:
    """A copy that begins every text with <end>, as Llama's begins with <|begin_of_text|>."""
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    end = copy.token_to_id("<end>")
    copy.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<end> $A", special_tokens=[("<end>", end)]),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=copy, pad_token="<pad>", eos_token="<end>")


# -- refusals --------------------------------------------------------------------------------------------------------


def test_prompt_that_melts_into_the_answer_is_refused() -> None:
    tokenizer = Tokenizer(models.BPE())  # without pre-tokenizer: ": Ashby" becomes one token
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<pad>"], show_progress=False)
    tokenizer.train_from_iterator([prompt_text(QUERY, PASSAGE) + " Ashby"] * 9, trainer)
    reader = tiny.tiny_reader(tokenizer_object=PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>"))
    with pytest.raises(ReaderError, match=r"reader tiny: .*'Where was Aldan born\?' are not a prefix .*'Ashby'"):
        encode_one(reader, PASSAGE, "Ashby")


def test_token_at_the_end_of_every_text_is_refused() -> None:
    tokenizer = tiny.wordpiece_of((prompt_text(QUERY, PASSAGE),))  # BERT's: [CLS] text [SEP]
    with pytest.raises(ReaderError, match="not a prefix"):
        encode_one(tiny.tiny_reader(tokenizer_object=tokenizer), PASSAGE, "Ashby")


def test_answer_without_tokens_is_refused() -> None:
    with pytest.raises(ReaderError, match=r"reader tiny: answer '  ' of 'Where was Aldan born\?' has no tokens"):
        encode_one(tiny.tiny_reader(tokenizer="word"), PASSAGE, "  ")


@pytest.mark.parametrize("passage", ["", PASSAGE, LONG])
def test_question_and_answer_that_do_not_fit_are_refused(reader: Reader, passage: str) -> None:
    needed = len(reader.tokenizer(prompt_text(QUERY, "") + " Ashby").input_ids)
    reader.max_length = needed
    assert len(encode_one(reader, passage, "Ashby").ids) == needed
    reader.max_length = needed - 1
    wanted = rf"reader tiny: question .Where was Aldan born\?. with answer . Ashby. alone needs {needed} tokens, "
    with pytest.raises(ReaderError, match=wanted + rf"{needed - 1} are there. Raise readers.tiny.max_length"):
        encode_one(reader, passage, "Ashby")


def test_lists_of_different_length_are_refused(reader: Reader) -> None:
    with pytest.raises(ValueError, match="shorter|longer"):
        reader.encode([QUERY, QUERY], [PASSAGE], ["Ashby", "Holt"])


# -- cutting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passage", [LONG, MIXED, LONG.replace(" ", ""), "Answer: " * 90, " \n" * 150 + "x"])
@pytest.mark.parametrize("limit", [60, 83, 96])
def test_cutting_takes_only_the_passages_tail(passage: str, limit: int) -> None:
    reader = tiny.tiny_reader(tokenizer="bpe", max_length=limit)
    encoded = encode_one(reader, passage, "Answer: 7 🙂")
    shown = shown_passage(reader, encoded)
    assert encoded.truncated and len(encoded.ids) <= limit
    assert passage.startswith(shown) and len(shown) < len(passage)
    assert reader.tokenizer.decode(encoded.ids[encoded.answer_start :]) == " Answer: 7 🙂"


@pytest.mark.parametrize("spare", [0, 1, 7, 40])
def test_no_more_is_cut_than_must_be(reader: Reader, spare: int) -> None:
    reader.max_length = len(reader.tokenizer(prompt_text(QUERY, "") + " Ashby").input_ids) + spare
    encoded = encode_one(reader, LONG, "Ashby")
    assert encoded.truncated and len(encoded.ids) == reader.max_length


def test_text_that_just_fits_is_not_cut(reader: Reader) -> None:
    whole = reader.tokenizer(prompt_text(QUERY, PASSAGE) + " Ashby").input_ids
    reader.max_length = len(whole)
    encoded = encode_one(reader, PASSAGE, "Ashby")
    assert encoded.ids == whole and not encoded.truncated
    reader.max_length = len(whole) - 1
    assert encode_one(reader, PASSAGE, "Ashby").truncated


def test_only_items_that_do_not_fit_are_cut(reader: Reader) -> None:
    encoded = reader.encode([QUERY] * 3, [PASSAGE, LONG, ""], ["Ashby"] * 3)
    assert [item.truncated for item in encoded] == [False, True, False]
    assert len(encoded[1].ids) <= reader.max_length


def test_without_answers_room_is_left_for_new_tokens(reader: Reader) -> None:
    encoded = encode_one(reader, LONG, None)
    assert encoded.truncated and encoded.answer_start == len(encoded.ids) == reader.max_length - reader.max_new_tokens
    short = encode_one(reader, PASSAGE, None)
    assert short == Encoded(reader.tokenizer(prompt_text(QUERY, PASSAGE)).input_ids, len(short.ids), False)
    with pytest.raises(ReaderError, match="alone needs"):
        encode_one(replace(reader, max_new_tokens=reader.max_length - 5), PASSAGE, None)


# -- loading ---------------------------------------------------------------------------------------------------------


def save(reader: Reader, folder: Path, **changes: Any) -> ReaderSettings:
    settings = replace(ReaderSettings(reader.prompt.template, "float32", 96, 6), **changes)
    reader.model.save_pretrained(folder)
    reader.tokenizer.save_pretrained(folder)
    save_settings(folder, settings)
    return settings


def test_saved_reader_is_loaded_as_it_was(reader: Reader, tmp_path: Path) -> None:
    save(reader, tmp_path / "reader_x", max_length=77, max_new_tokens=5)
    loaded = load_reader(tmp_path / "reader_x")
    assert (loaded.name, loaded.max_length, loaded.max_new_tokens) == ("reader_x", 77, 5)
    assert loaded.prompt == Prompt(reader.prompt.template) and loaded.pad == reader.pad
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    reader.max_length = 77
    assert encode_one(loaded, LONG, "Ashby") == encode_one(reader, LONG, "Ashby")
    weights = reader.model.state_dict()
    assert all(value.cpu().equal(weights[name]) for name, value in loaded.model.state_dict().items())


def test_identity_follows_what_decides_the_outputs(tmp_path: Path) -> None:
    reader = tiny.tiny_reader()
    other_prompt = reader.prompt.template.replace("Question", "Q")
    variants: dict[str, dict[str, Any]] = {
        "same": {},
        "again": {},
        "length": {"max_length": 97},
        "tokens": {"max_new_tokens": 7},
        "prompt": {"prompt": other_prompt},
        "dtype": {"dtype": "bfloat16"},
    }
    for name, changes in variants.items():
        save(reader, tmp_path / name, **changes)
    save(tiny.tiny_reader(seed=1), tmp_path / "weights")
    save(tiny.tiny_reader(tokenizer_object=starting(tiny.tokenizer_of("bpe"))), tmp_path / "tokenizer")
    identities = {name: load_reader(tmp_path / name).identity for name in [*variants, "weights", "tokenizer"]}
    assert identities.pop("same") == identities["again"]
    assert len(set(identities.values())) == len(identities)


def test_padding_is_the_end_token_where_a_tokenizer_has_no_other() -> None:
    without = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tiny.tokenizer_of("bpe").backend_tokenizer.to_str()), eos_token="<end>"
    )
    assert tiny.tiny_reader(tokenizer_object=without).pad == without.convert_tokens_to_ids("<end>")

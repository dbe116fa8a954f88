"""Readers: how prompt and answer become tokens, how they are cut to fit, saving and loading."""

import copy
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import tiny
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from bitter_retrieval.models.checkpoints import CheckpointError
from bitter_retrieval.readers.language_model import (
    BrokenReader,
    Encoded,
    Reader,
    ReaderError,
    ReaderSettings,
    load_reader,
    open_reader,
    save_settings,
)
from bitter_retrieval.readers.prompts import Example, Prompt

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
    encoded = reader.encode([query], [passage], None if answer is None else [answer])[0]
    assert isinstance(encoded, Encoded), encoded
    return encoded


def refusal(reader: Reader, passage: str, answer: str | None, query: str = QUERY) -> str:
    error = reader.encode([query], [passage], None if answer is None else [answer])[0]
    assert isinstance(error, ReaderError), error
    return str(error)


def shown_passage(reader: Reader, encoded: Encoded, query: str = QUERY) -> str:
    """The text between 'Context: ' and 'Answer:' in a BPE reader's prompt."""
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


@pytest.mark.parametrize("odd", ["<end>", "<pad> <end>", "a<end>b"])
@pytest.mark.parametrize("place", ["query", "passage", "answer"])
def test_what_looks_like_a_special_token_is_text(odd: str, place: str) -> None:
    reader = tiny.tiny_reader(tokenizer="bpe", max_length=200)
    texts = {"query": QUERY, "passage": PASSAGE, "answer": "Ashby"} | {place: odd}
    encoded = encode_one(reader, texts["passage"], texts["answer"], texts["query"])
    assert not set(encoded.ids) & set(reader.tokenizer.all_special_ids)
    written = prompt_text(texts["query"], texts["passage"]) + " " + texts["answer"]
    assert reader.tokenizer.decode(encoded.ids) == written


def test_token_that_a_tokenizer_puts_in_front_stands_there_once() -> None:
    with_start = starting(tiny.tokenizer_of("bpe"))
    reader = tiny.tiny_reader(tokenizer_object=with_start, max_length=70)
    start = with_start.convert_tokens_to_ids("<end>")
    for passage in (PASSAGE, LONG, ""):
        encoded = encode_one(reader, passage, "Ashby")
        assert encoded.ids[0] == start and encoded.ids.count(start) == 1
        assert encoded.truncated == (passage == LONG)


def starting(tokenizer: Any) -> PreTrainedTokenizerFast:
    """A copy that begins every text with <end>, as Llama's does with <|begin_of_text|>."""
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    end = copy.token_to_id("<end>")
    copy.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<end> $A", special_tokens=[("<end>", end)]),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=copy, pad_token="<pad>", eos_token="<end>")


# -- chat templates and what follows an answer -------------------------------------------------------------------------

TEMPLATE = """{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<end>
{% endfor %}{% if add_generation_prompt %}assistant:
{% if enable_thinking is defined and not enable_thinking %}(at once)
{% endif %}{% endif %}"""


def chat_reader(**changes: Any) -> Reader:
    """A BPE reader with a template like Qwen3's, which ends in a line that switches thinking off."""
    tokenizer = copy.deepcopy(tiny.tokenizer_of("bpe"))
    tokenizer.chat_template = TEMPLATE
    return tiny.tiny_reader(tokenizer_object=tokenizer, **{"chat": True, "max_length": 200, **changes})


@pytest.mark.parametrize("answer", ["Ashby", "  Ashby \n", "Answer: 7 🙂"])
def test_chat_is_the_prompt_in_the_template_and_the_answer_begins_the_reply(answer: str) -> None:
    reader = chat_reader()
    encoded = encode_one(reader, PASSAGE, answer)
    asked = f"user: {prompt_text(QUERY, PASSAGE)}<end>\nassistant:\n(at once)\n"
    assert reader.tokenizer.decode(encoded.ids[: encoded.answer_start]) == asked
    assert reader.tokenizer.decode(encoded.ids[encoded.answer_start :]) == answer.strip()
    assert encoded.ids.count(reader.tokenizer.eos_token_id) == 1  # the template's <end> is a token, not five letters


def test_long_chat_loses_the_passages_tail_alone() -> None:
    reader = chat_reader(max_length=80)
    encoded = encode_one(reader, LONG, "Ashby")
    before, shown = reader.tokenizer.decode(encoded.ids).split("Context: ")
    shown, after = shown.split("\nAnswer:")
    assert encoded.truncated and len(encoded.ids) <= 80 and 0 < len(shown) < len(LONG) and LONG.startswith(shown)
    assert (before, after) == (f"user: Question: {QUERY}\n", "<end>\nassistant:\n(at once)\nAshby")


@pytest.mark.parametrize("texts", [("<end>?", PASSAGE, "Holt"), (QUERY, "a<end>b", "Holt"), (QUERY, PASSAGE, "<pad>")])
def test_special_tokens_in_the_texts_of_a_chat_are_refused(texts: tuple[str, str, str]) -> None:
    query, passage, answer = texts
    message = refusal(chat_reader(), passage, answer, query)
    assert all(part in message for part in ("reader tiny", repr(query), repr(passage), "special token"))
    encode_one(chat_reader(chat=False), passage, answer, query)


def test_a_template_that_refuses_a_question_is_named_with_the_question() -> None:
    reader = chat_reader()
    reader.tokenizer.chat_template = "{{ raise_exception('no user may speak') }}"
    with pytest.raises(ReaderError) as error:
        reader.encode([QUERY], [PASSAGE], ["Ashby"])
    for words in ("reader tiny", repr(QUERY), "no user may speak", "readers.tiny.chat"):
        assert words in str(error.value)


def test_a_template_that_refuses_what_was_cut_is_no_fault_of_the_item() -> None:
    reader = chat_reader(max_length=80)
    whole = "{% if 'Oxley' not in messages[0]['content'] %}{{ raise_exception('too short') }}{% endif %}"
    reader.tokenizer.chat_template = whole + TEMPLATE
    with pytest.raises(BrokenReader, match="too short"):
        reader.encode([QUERY], [LONG], ["Ashby"])


# How Llama 3.2 gets the date, and how templates get it that take none from outside.
DATED = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "Today: {{ date_string }}\n" + TEMPLATE
)
CLOCK = "Today: {{ strftime_now('%d %b %Y') }}\n" + TEMPLATE


@pytest.mark.parametrize(("template", "days"), [(DATED, {"26 Jul 2024"}), (CLOCK, {"01 Mar 2025", "02 Mar 2025"})])
def test_the_day_is_no_part_of_a_prompt_or_part_of_the_reader(
    template: str, days: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(chat_reader(), tmp_path, chat=True, max_length=200)
    (tmp_path / "chat_template.jinja").write_text(template)
    identities, asked = set(), set()
    for day in (1, 2):

        class Clock(datetime):
            @classmethod
            def now(cls, zone: Any = None, day: int = day) -> datetime:
                return datetime(2025, 3, day)

        monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)
        reader = load_reader(tmp_path)
        identities.add(reader.identity)
        asked.add(reader.tokenizer.decode(encode_one(reader, PASSAGE, "Ashby").ids).splitlines()[0])
    assert asked == {f"Today: {day}" for day in days} and len(identities) == len(days)


def test_chat_without_a_template_is_refused() -> None:
    reader = tiny.tiny_reader(tokenizer="bpe", chat=True)
    with pytest.raises(ReaderError, match="readers.tiny.chat"):
        reader.encode([QUERY], [PASSAGE], ["Ashby"])


@pytest.mark.parametrize("chat", [False, True])
def test_text_after_every_answer_belongs_to_it(chat: bool) -> None:
    plain, reader = chat_reader(chat=chat), chat_reader(chat=chat, answer_end="\n\n")
    encoded, without = encode_one(reader, PASSAGE, " Ashby\n"), encode_one(plain, PASSAGE, "Ashby")
    assert encoded.ids[: encoded.answer_start] == without.ids[: without.answer_start]
    assert reader.tokenizer.decode(encoded.ids[encoded.answer_start :]) == ("" if chat else " ") + "Ashby\n\n"


@pytest.mark.parametrize("chat", [False, True])
def test_end_token_after_every_answer_belongs_to_it_and_takes_room(chat: bool) -> None:
    plain, reader = chat_reader(chat=chat), chat_reader(chat=chat, answer_end="<eos>")
    whole = encode_one(plain, PASSAGE, "Ashby")
    ended = Encoded([*whole.ids, reader.tokenizer.eos_token_id], whole.answer_start, False)
    assert encode_one(reader, PASSAGE, "Ashby") == ended
    reader.max_length = len(ended.ids)
    assert encode_one(reader, PASSAGE, "Ashby") == ended
    reader.max_length -= 1
    cut = encode_one(reader, PASSAGE, "Ashby")
    assert cut.truncated and len(cut.ids) <= reader.max_length and cut.ids[-1] == reader.tokenizer.eos_token_id


def test_questions_without_answers_get_no_end() -> None:
    reader = chat_reader(answer_end="<eos>")
    assert encode_one(reader, PASSAGE, None) == encode_one(chat_reader(), PASSAGE, None)


def test_end_token_that_a_tokenizer_does_not_have_is_refused() -> None:
    tokenizer = Tokenizer.from_str(tiny.tokenizer_of("bpe").backend_tokenizer.to_str())
    without = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    reader = tiny.tiny_reader(tokenizer_object=without, answer_end="<eos>")
    with pytest.raises(ReaderError, match="readers.tiny.answer_end"):
        reader.encode([QUERY], [PASSAGE], ["Ashby"])


# -- refusals --------------------------------------------------------------------------------------------------------


def test_refusals_stand_in_their_place_and_the_others_are_as_ever(reader: Reader) -> None:
    answers = ["Ashby", "", "Holt", "goat " * 200]
    encoded = reader.encode([QUERY] * 4, [PASSAGE, PASSAGE, LONG, ""], answers)
    assert [type(item) for item in encoded] == [Encoded, ReaderError, Encoded, ReaderError]
    assert encoded[::2] == reader.encode([QUERY] * 2, [PASSAGE, LONG], ["Ashby", "Holt"])


def test_prompt_that_melts_into_the_answer_is_refused() -> None:
    tokenizer = Tokenizer(models.BPE())  # without pre-tokenizer: ": Ashby" becomes one token
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<pad>"], show_progress=False)
    tokenizer.train_from_iterator([prompt_text(QUERY, PASSAGE) + " Ashby"] * 9, trainer)
    reader = tiny.tiny_reader(tokenizer_object=PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>"))
    message = refusal(reader, PASSAGE, "Ashby")
    named = ("reader tiny", repr(QUERY), repr(PASSAGE), "'Ashby'", "not a prefix", "readers.tiny.prompt")
    assert all(part in message for part in named)


def test_token_at_the_end_of_every_text_is_left_out() -> None:
    tokenizer = tiny.wordpiece_of((prompt_text(QUERY, PASSAGE),))  # BERT's: [CLS] text [SEP]
    encoded = encode_one(tiny.tiny_reader(tokenizer_object=tokenizer), PASSAGE, "Ashby")
    assert encoded.ids == tokenizer(prompt_text(QUERY, PASSAGE) + " Ashby").input_ids[:-1]
    assert tokenizer.decode(encoded.ids[encoded.answer_start :]) == "ashby"


@pytest.mark.parametrize("answer", ["", "  ", "\n"])
def test_empty_answer_is_refused(reader: Reader, answer: str) -> None:
    message = refusal(reader, PASSAGE, answer)
    named = ("reader tiny", repr(QUERY), repr(PASSAGE), f"answer {answer!r} is empty")
    assert all(part in message for part in named)


@pytest.mark.parametrize("answer_end", ["", "<eos>", "."])
def test_answer_without_tokens_is_refused(answer_end: str) -> None:
    tokenizer = Tokenizer(models.BPE())  # without a token for what it has never seen, which it drops
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<pad>", "<end>"], show_progress=False)
    tokenizer.train_from_iterator([prompt_text(QUERY, PASSAGE)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    reader = tiny.tiny_reader(tokenizer_object=fast, answer_end=answer_end)
    assert encode_one(reader, "北京", "Ashby").ids
    message = refusal(reader, PASSAGE, "北京")
    assert all(part in message for part in ("reader tiny", repr(QUERY), repr(PASSAGE), "answer '北京' has no tokens"))


@pytest.mark.parametrize("passage", ["", PASSAGE, LONG])
def test_question_and_answer_that_do_not_fit_are_refused(reader: Reader, passage: str) -> None:
    needed = len(reader.tokenizer(prompt_text(QUERY, "") + " Ashby").input_ids)
    reader.max_length = needed
    assert len(encode_one(reader, passage, "Ashby").ids) == needed
    reader.max_length = needed - 1
    message = refusal(reader, passage, "Ashby")
    assert message == (
        f"reader tiny: question {QUERY!r} with answer ' Ashby' alone needs {needed} tokens, {needed - 1} fit. "
        "Raise readers.tiny.max_length."
    )


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


def test_several_passages_share_the_room() -> None:
    """Each long passage keeps as many tokens as the other, to one; the short one keeps all."""
    reader = tiny.tiny_reader(tokenizer="bpe", max_length=150)
    reader.prompt = replace(reader.prompt, several="- {passage}\n")
    (encoded,) = reader.encode([QUERY], [(LONG, PASSAGE, LONG)], ["Ashby"])
    assert isinstance(encoded, Encoded)
    assert encoded.truncated == 2 and 146 <= len(encoded.ids) <= 150
    first, second, third = (part.strip() for part in shown_passage(reader, encoded).removeprefix("- ").split("\n- "))
    assert second == PASSAGE
    assert LONG.startswith(first) and LONG.startswith(third)
    lengths = [len(reader.tokenizer(text, add_special_tokens=False).input_ids) for text in (first, third)]
    assert lengths[0] > 20 and abs(lengths[0] - lengths[1]) <= 1


def test_several_passages_that_fit_are_whole(reader: Reader) -> None:
    reader.max_length = 200
    (encoded,) = reader.encode([QUERY], [(PASSAGE, "", PASSAGE)], ["Ashby"])
    assert isinstance(encoded, Encoded)
    whole = prompt_text(QUERY, f"{PASSAGE}\n\n{PASSAGE}")
    assert encoded.ids == reader.tokenizer(f"{whole} Ashby").input_ids and encoded.truncated == 0


WORKED = (Example(PASSAGE, QUERY, "Ashby"), Example("", "Who owns a hen?", "Brenn"))


def test_worked_examples_come_first_and_are_never_cut() -> None:
    reader = tiny.tiny_reader(tokenizer="bpe", max_length=110)
    reader.prompt = replace(reader.prompt, examples=WORKED)
    encoded = encode_one(reader, LONG, "Holt", "Where was Falk born?")
    text = reader.tokenizer.decode(encoded.ids)
    assert text.startswith(f"{prompt_text(QUERY, PASSAGE)} Ashby\n\n{prompt_text('Who owns a hen?', '')} Brenn\n\n")
    assert text.endswith("\nAnswer: Holt") and encoded.truncated == 1 and len(encoded.ids) <= 110


def test_worked_examples_of_a_chat_are_its_earlier_turns() -> None:
    reader = chat_reader()
    reader.prompt = replace(reader.prompt, examples=WORKED)
    text = reader.tokenizer.decode(encode_one(reader, PASSAGE, "Ashby").ids)
    turns = ["user", "assistant", "user", "assistant", "user"]
    said = [prompt_text(QUERY, PASSAGE), "Ashby", prompt_text("Who owns a hen?", ""), "Brenn"]
    said.append(prompt_text(QUERY, PASSAGE))
    asked = "".join(f"{turn}: {words}<end>\n" for turn, words in zip(turns, said, strict=True))
    assert text == f"{asked}assistant:\n(at once)\nAshby"


def test_only_items_that_do_not_fit_are_cut(reader: Reader) -> None:
    encoded = reader.encode([QUERY] * 3, [PASSAGE, LONG, ""], ["Ashby"] * 3)
    assert [item.truncated for item in encoded] == [False, True, False]
    assert len(encoded[1].ids) <= reader.max_length


def test_without_answers_room_is_left_for_new_tokens(reader: Reader) -> None:
    encoded = encode_one(reader, LONG, None)
    assert encoded.truncated and encoded.answer_start == len(encoded.ids) == reader.max_length - reader.max_new_tokens
    short = encode_one(reader, PASSAGE, None)
    assert short == Encoded(reader.tokenizer(prompt_text(QUERY, PASSAGE)).input_ids, len(short.ids), False)
    assert "alone needs" in refusal(replace(reader, max_new_tokens=reader.max_length - 5), PASSAGE, None)


def test_passages_are_cut_by_characters_where_a_tokenizer_does_not_tell_its_places() -> None:
    slow = ByT5Tokenizer()
    assert not slow.is_fast
    reader = tiny.tiny_reader(model=tiny.tiny_model("qwen3", len(slow)), tokenizer_object=slow, max_length=90)
    passage = "Dorin was bórn in Holt. " * 9
    encoded = encode_one(reader, passage, "Ashby")
    before, after = prompt_text(QUERY, "\0").split("\0")
    text = slow.decode(encoded.ids)
    assert encoded.truncated == 1 and text.startswith(before) and text.endswith(f"{after} Ashby")
    shown = text.removeprefix(before).removesuffix(f"{after} Ashby")
    assert passage.startswith(shown) and len(shown) > 10
    assert 90 - passage.count("ó") <= len(encoded.ids) <= 90, "a letter of two tokens counts as one"


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
        "end": {"answer_end": "<eos>"},
    }
    for name, changes in variants.items():
        save(reader, tmp_path / name, **changes)
    save(tiny.tiny_reader(seed=1), tmp_path / "weights")
    save(tiny.tiny_reader(tokenizer_object=starting(tiny.tokenizer_of("bpe"))), tmp_path / "tokenizer")
    for name in ("template", "chat"):
        save(reader, tmp_path / name, chat=name == "chat")
        (tmp_path / name / "chat_template.jinja").write_text(TEMPLATE)
    others = ["weights", "tokenizer", "template", "chat"]
    identities = {name: load_reader(tmp_path / name).identity for name in [*variants, *others]}
    assert identities.pop("same") == identities["again"]
    assert len(set(identities.values())) == len(identities)


def test_folder_is_opened_under_any_name_and_is_the_reader_that_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = save(tiny.tiny_reader(tokenizer="bpe"), tmp_path / "weights", chat=False, answer_end="<eos>")
    monkeypatch.chdir(tmp_path)
    saved = load_reader(tmp_path / "weights")
    for path in ("weights", "./weights", str(tmp_path / "weights")):
        reader = open_reader("mine", path, None, settings)
        assert (reader.name, reader.identity, reader.answer_end) == ("mine", saved.identity, "<eos>")
        assert encode_one(reader, LONG, "Ashby") == encode_one(saved, LONG, "Ashby")


@pytest.mark.parametrize("path", ["./absent", "absent-model"])
def test_folder_that_is_not_there_is_named(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises((CheckpointError, ReaderError), match=f"'{path}'"):
        open_reader("mine", path, None, ReaderSettings(tiny.PROMPT.template, "float32", 96, 6))


@pytest.mark.parametrize("file", ["reader.json", "source.json"])
@pytest.mark.parametrize("content", ["", '{"pro', "[]"])
def test_file_of_a_stage_that_is_cut_off_is_named(file: str, content: str, tmp_path: Path) -> None:
    save(tiny.tiny_reader(tokenizer="bpe"), tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError, match=f"{file}: .*dvc repro"):
        load_reader(tmp_path)


def test_a_failure_without_a_word_is_named_by_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = save(tiny.tiny_reader(tokenizer="bpe"), tmp_path)

    def fail(*_: Any) -> None:
        raise ImportError

    monkeypatch.setattr("bitter_retrieval.readers.language_model.load_tokenizer", fail)
    with pytest.raises(CheckpointError, match=r"no causal language model can be loaded from there \(ImportError\(\)\)"):
        open_reader("mine", str(tmp_path), None, settings)


def test_padding_is_the_end_token_where_a_tokenizer_has_no_other() -> None:
    without = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tiny.tokenizer_of("bpe").backend_tokenizer.to_str()), eos_token="<end>"
    )
    assert tiny.tiny_reader(tokenizer_object=without).pad == without.convert_tokens_to_ids("<end>")

"""Chat templates as they are: where they put spaces, and how they end an answer. The joint text decides."""

import copy
from pathlib import Path
from typing import Any

import pytest
import test_generation
import tiny
import tiny_tokenizers
from jinja2 import Environment

from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.chat import Turn
from bitter_retrieval.readers.generation import end_tokens, generate_answers
from bitter_retrieval.readers.language_model import Encoded, Reader, ReaderSettings, load_reader, save_settings

QUERY, PASSAGE = "Where was Dorin born?", "Dorin was born in Holt."
# How the user's message, the beginning of an answer, and an answer are written.
TEMPLATES = {
    "nothing": ("<user>{}<end>", "<assistant>", "<assistant>{}<end>"),
    "line": ("user: {}<end>\n", "assistant:\n", "assistant:\n{}<end>\n"),
    "llama 2": ("[INST] {} [/INST]", "", " {} <end>"),
    "vicuna": ("USER: {}", " ASSISTANT:", " ASSISTANT: {}<end>"),
    "space": ("USER: {}", " ASSISTANT: ", " ASSISTANT: {}<end>"),
    "no space": ("USER: {}", " ASSISTANT: ", " ASSISTANT:{}<end>"),
    "line in the answer": ("USER: {}\n", "ASSISTANT:", "ASSISTANT:\n{}<end>"),
}
BROKEN = "{% if m['role'] == 'assistant' %}{{ raise_exception('no') }}{% endif %}"


def template(user: str, begin: str, answer: str, before: str = "") -> str:
    said = [one.replace("{}", "{{ m['content'] }}") for one in (user, answer)]
    of_role = f"{{% if m['role'] == 'user' %}}{said[0]}{{% else %}}{said[1]}{{% endif %}}"
    return (
        f"{{% for m in messages %}}{before}{of_role}{{% endfor %}}{{% if add_generation_prompt %}}{begin}{{% endif %}}"
    )


def chat_reader(family: str, written: str, **changes: Any) -> Reader:
    tokenizer = copy.deepcopy(tiny_tokenizers.tokenizer_of(family))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>", "<assistant>", "<end>"]})
    tokenizer.chat_template = written
    return tiny.tiny_reader(tokenizer_object=tokenizer, chat=True, max_length=200, **changes)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("family", ["chat", "llama3", "llama2"])
@pytest.mark.parametrize("answer", ["Ashby", "42", "Old Crowby"])
def test_what_is_scored_is_the_text_that_the_template_makes_of_question_and_answer(
    name: str, family: str, answer: str
) -> None:
    reader = chat_reader(family, template(*TEMPLATES[name]))
    asked = reader.prompt.ask(QUERY, PASSAGE)
    said = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    joint = Environment().from_string(reader.tokenizer.chat_template).render(messages=said)
    (item,) = reader.encode([QUERY], [PASSAGE], [answer])
    assert isinstance(item, Encoded)
    assert item.ids == reader.tokenizer(joint[: joint.rindex(answer) + len(answer)], add_special_tokens=False).input_ids
    assert reader.tokenizer.decode(item.ids[item.answer_start :]).strip(" ") == answer
    (prompt,) = reader.encode([QUERY], [PASSAGE], None)
    assert isinstance(prompt, Encoded) and prompt.ids == item.ids[: item.answer_start]


def test_a_template_that_takes_no_answer_leaves_the_prompt_as_it_is() -> None:
    reader = chat_reader("chat", template(*TEMPLATES["nothing"], before=BROKEN))
    (item,) = reader.encode([QUERY], [PASSAGE], ["Ashby"])
    assert isinstance(item, Encoded) and reader.tokenizer.decode(item.ids).endswith("<assistant>Ashby")


# -- the end of a turn -----------------------------------------------------------------------------------------------

ENDS = {  # what stands after an answer, and the answer of a reader that says: born <pad> in owns owns
    "<pad>": "born",  # a special token, but not the tokenizer's end token
    "<pad>\n": "born",
    " <pad>": "born",
    " owns": "born in",  # a text
    "<end>": "born in owns owns",  # the tokenizer's, which this reader never says
    "\n": "born in owns owns",
    "": "born in owns owns",
}


@pytest.mark.parametrize("end", ENDS)
def test_what_the_template_writes_after_an_answer_ends_one(end: str) -> None:
    reader = test_generation.scripted("Ġborn", "<pad>", "Ġin", "Ġowns")
    reader.tokenizer.chat_template = template("{}\n", "assistant:", f"assistant: {{}}{end}")
    reader.chat = True
    assert generate_answers(reader, [(QUERY, PASSAGE)], 400)[0].text == ENDS[end]
    assert (reader.tokenizer.pad_token_id in end_tokens(reader)) == ("<pad>" in end)
    reader.chat = False
    plain = test_generation.scripted("Ġborn", "<pad>", "Ġin", "Ġowns")
    assert end_tokens(plain) == {plain.tokenizer.eos_token_id}


def test_what_is_said_is_known_from_the_score_with_that_end() -> None:
    reader = test_generation.scripted("Ġborn", "<pad>", "Ġin", "Ġowns")
    reader.tokenizer.chat_template = template("{}\n", "assistant:", "assistant: {}<pad>")
    reader.chat = True
    (score,) = Scorer(reader, 400, saying=True).score([Triple(QUERY, PASSAGE, "born")])
    assert score is not None and score.exact
    assert score.said is not None and reader.tokenizer.decode(score.said) == " born"


@pytest.mark.parametrize(("name", "known"), [("nothing", True), ("line", True), ("llama 2", False), ("space", False)])
def test_a_reader_whose_answers_the_joint_text_changes_is_not_taken_for_the_one_that_journals_know(
    name: str, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = chat_reader("chat", template(*TEMPLATES[name]))
    for part in (reader.model, reader.tokenizer):
        part.save_pretrained(tmp_path)
    save_settings(tmp_path, ReaderSettings(tiny.PROMPT.template, "float32", 96, 6, chat=True))
    own = load_reader(tmp_path).identity
    monkeypatch.setattr("bitter_retrieval.readers.language_model.answer_turn", lambda *_: Turn("", "", ""))
    assert (load_reader(tmp_path).identity == own) == known

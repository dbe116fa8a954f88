"""The stage reader: its metrics of a reader that cannot be asked everything."""

import tiny
import tiny_tokenizers

import reader as stage
from bitter_retrieval.readers.generation import generate_answers


def test_what_cannot_be_asked_is_not_answered_right_and_counted() -> None:
    reader = tiny.tiny_reader(tokenizer_object=tiny_tokenizers.tokenizer_of("chat"), chat=True, max_length=200)
    rows = tiny.world(8)
    said = generate_answers(reader, [(row["query"], "") for row in rows], 300)
    rows = [row | {"answers": [answer.text or "nothing"]} for row, answer in zip(rows, said, strict=True)]
    found = stage.accuracy(reader, rows)
    assert found["em_no_passage"] > 0.5 and "not_asked" not in found
    rows[3]["query"] += "<end>"
    asked = stage.accuracy(reader, rows)
    assert asked["em_no_passage"] == found["em_no_passage"] - 1 / 8
    contexts = [name for name in found if name.startswith("em_")]
    assert asked["not_asked"] == len(contexts) and asked["questions"] == 8

"""Hashes of a small fit, stage by stage: another processor, another version or another computation shows in them.

    python tests/small_fit.py                 {"reader": "5e0c1f…", "labels": …, "encoder": …, "trained": …, …}
    python tests/small_fit.py --record        writes tests/small_fit.json, after a change that is meant

Rows and sizes are of this file, so that a new world or a tuned profile moves no hash. tests/small_fit.json has the
hashes and the processors on which they came out; another processor with the same hashes is added by --record.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from bitter_retrieval.processor import processor_name  # first: the package sets what torch reads

# isort: split
import numpy as np
import torch

from bitter_retrieval.encoders.encoder import Encoder, Usage
from bitter_retrieval.encoders.fit import fit_encoder
from bitter_retrieval.encoders.settings import EncoderFit
from bitter_retrieval.labels.targets import soft_targets
from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.fit import fit_reader
from bitter_retrieval.readers.generation import generate_answers
from bitter_retrieval.readers.language_model import Reader
from bitter_retrieval.readers.prompts import Prompt
from bitter_retrieval.readers.settings import ReaderFit
from bitter_retrieval.records import Row, passage_texts
from bitter_retrieval.training.loop import train_encoder
from bitter_retrieval.training.sets import training_set
from bitter_retrieval.training.settings import Run, Temperature, Train

RECORD = Path(__file__).with_suffix(".json")
STAGES = ("reader", "labels", "encoder", "trained", "answers")
NAMES = "Aldan Brenn Corvin Dorin Elmar Falk Gerda Hanno Imre Jorun Kaja Lorne".split()
TOWNS = "Ashby Caldbury Dunmore Fenwick Garth Holt Ilford Kelso Lorton Marlow Norden Oxley".split()
JOBS = "baker smith painter tailor miller carter fisher weaver".split()
PETS = "goat hen cat dog mule crow".split()
PROMPT = Prompt("Question: {query}\nContext: {passage}\nAnswer:")
NOTHING = {"passage_id": "", "text": ""}
BUDGET = 2048  # tokens a batch
SIZE: dict[str, Any] = {"vocabulary": 400, "layers": 2, "width": 96, "heads": 4, "seed": 0}
READER = ReaderFit(
    **SIZE,
    architecture="qwen3",
    tokenizer="word",
    steps=12,
    batch=64,
    learning_rate=0.005,
    muon_learning_rate=0.03,
    lm_weight=0.2,
    held_out=1,
    passages=2,
)
ENCODER = EncoderFit(**SIZE, feed_forward=192, steps=12, batch=64, learning_rate=0.001, temperature=0.05)
RUN = Run("small", "small", {"kl": 0.5, "infonce_soft": 0.5}, Temperature(0.05, 0.2), 0.2)
TRAIN = Train(
    seeds=[0],
    epochs=2,
    queries_per_batch=32,
    learning_rate=0.001,
    warmup=0.1,
    schedule="cosine",
    weight_decay=0.01,
    clip=1.0,
    micro_batch_tokens=1024,
    select="last",
)


def rows(count: int, first: int = 0) -> list[Row]:
    """Prepared rows, four to a group: where someone was born, a passage that says so, and five others of the group."""
    return [_row(number) for number in range(first, first + count)]


def _row(number: int) -> Row:
    group = number // 4
    people = [4 * group + place for place in range(4)] + [number + 40, number + 81]
    passages = [_passage(person, "plain" if person == number else "other") for person in people]
    return {
        "query_id": f"q{number}",
        "group_id": f"g{group}",
        "query": f"Where was {_name(number)} born?",
        "answers": [_town(number)],
        "passages": passages[number % 5 :] + passages[: number % 5],
    }


def _name(number: int) -> str:
    return f"{NAMES[number % 12]} {TOWNS[(number // 12) % 12]}son"


def _town(number: int) -> str:
    return f"{('New', 'Old', 'High')[number % 3]} {TOWNS[(7 * number + number // 12) % 12]}"


def _passage(number: int, role: str) -> Row:
    job, pet = JOBS[(3 * number + number // 8) % 8], PETS[(number + number // 6) % 6]
    text = f"{_name(number)} works as a {job}. {_name(number)} was born in {_town(number)}, and keeps a {pet} there."
    return {"passage_id": f"p{number}", "text": text, "is_selected": None, "role": role}


def small_fit() -> dict[str, str]:
    """A hash by stage: weights of a reader, its losses, weights of an encoder, of a trained one, and answers."""
    fitting, train, validation = rows(96, first=400), rows(96), rows(32, first=200)
    reader = _reader(fitting)
    found = {"reader": digest(reader.model.state_dict().values())}
    labels = {id(split): _labels(reader, split) for split in (train, validation)}
    found["labels"] = digest(row["nll_sum"] for split in labels.values() for row in split)
    encoder = fit_encoder(fitting, Usage("mean", "", "", 48), ENCODER, _no)
    found["encoder"] = digest(encoder.state_dict().values())
    _train(encoder, [(split, labels[id(split)]) for split in (train, validation)])
    found["trained"] = digest(encoder.state_dict().values())
    return {**found, "answers": digest(_answers(reader, encoder, validation))}


def _no(*_: Any) -> None:
    """Nothing is told of steps."""


def _reader(fitting: list[Row]) -> Reader:
    model, tokenizer = fit_reader(fitting, PROMPT, 192, READER, _no)
    return Reader("small", model.requires_grad_(False), tokenizer, PROMPT, 192, 6, "small")


def _labels(reader: Reader, split: list[Row]) -> list[Row]:
    pairs = [(row, p["passage_id"], p["text"]) for row in split for p in [*row["passages"], NOTHING]]
    scores = Scorer(reader, BUDGET).score([Triple(row["query"], text, row["answers"][0]) for row, _, text in pairs])
    return [
        {
            "query_id": row["query_id"],
            "passage_id": passage_id,
            "answer_index": 0,
            "nll_sum": score.nll_sum,
            "n_tokens": score.n_tokens,
        }
        for (row, passage_id, _), score in zip(pairs, scores, strict=True)
    ]


def _train(encoder: Encoder, splits: list[tuple[list[Row], list[Row]]]) -> None:
    (train, targets), (validation, held_out) = (
        (split, soft_targets(split, labels, "small", "mean", "first", None)) for split, labels in splits
    )
    sets = training_set(train, targets, encoder), training_set(validation, held_out, encoder)
    train_encoder(encoder, *sets, RUN, TRAIN, 0, _no)


def _answers(reader: Reader, encoder: Encoder, split: list[Row]) -> list[Any]:
    """What is retrieved first, its similarity, and the answer."""
    texts = list(passage_texts(split).values())
    queries = [row["query"] for row in split]
    similarity = (
        torch.from_numpy(encoder.embed(queries, "query", BUDGET))
        @ torch.from_numpy(encoder.embed(texts, "passage", BUDGET)).T
    )
    best, places = similarity.max(1)
    shown = [(query, texts[place]) for query, place in zip(queries, places.tolist(), strict=True)]
    return [best, *(answer.text for answer in generate_answers(reader, shown, BUDGET))]


def digest(parts: Iterable[Any]) -> str:
    """16 hex digits of the SHA-256 of tensors, numbers and texts."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else np.asarray(part).tobytes())
    return found.hexdigest()[:16]


def record(found: dict[str, str]) -> dict[str, Any]:
    """The recorded hashes with this processor; without the others if the hashes are new."""
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    seen = known.get("seen", []) if known.get("hashes") == found else []
    return {"torch": version(), "hashes": found, "seen": sorted({*seen, processor_name()})}


def version() -> str:
    """Of torch, without the name of its build."""
    return torch.__version__.partition("+")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Print hashes of a small fit, by stage.")
    parser.add_argument("--record", action="store_true", help=f"write them to {RECORD.name}, with this processor")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as stages that fit an encoder do
    found = small_fit()
    if options.record:
        RECORD.write_text(json.dumps(record(found), indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""Every layout that people have goes from prepare to compare: the same questions, the same report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from commands import run

import compare
import control
import encoder
import evaluate
import judge
import label
import prepare
import reader
import train
import use_profile
from bitter_retrieval.records import Row

REPOSITORY = Path(__file__).parents[2]
TRAIN, VALIDATION, TEST = range(40), range(40, 50), range(50, 64)
READER = 16  # of train


def person(number: int) -> tuple[str, str]:
    return f"{tiny.NAMES[number % 12]} {'Abcdef'[number // 12]}orn", tiny.TOWNS[5 * number % 12]


def passage(number: int) -> str:
    return "{} was born in {}.".format(*person(number))


def question(number: int) -> Row:
    name, town = person(number)
    other = [passage((number + step) % 64) for step in (1, 5)]
    return {
        "id": f"q{number}",
        "query": f"Where was {name} born?",
        "answer": town,
        "positive": passage(number),
        "negative": other,
    }


def fid(row: Row) -> Row:
    """Ids are places, flags booleans, and a passage has no score."""
    passages = [
        {"id": place, "title": "", "text": text, "isgold": place == 0, "hasanswer": True}
        | ({"score": "1.5"} if place else {})
        for place, text in enumerate([row["positive"], *row["negative"]])
    ]
    return {"question": row["query"], "answers": [row["answer"]], "ctxs": passages}


def dpr(row: Row) -> Row:
    """No random negatives."""
    positive = [{"title": "", "text": row["positive"], "score": 1000}]
    negative = [{"title": "", "text": text, "passage_id": str(place)} for place, text in enumerate(row["negative"])]
    asked = {"question": row["query"], "answers": [row["answer"]]}
    return asked | {"positive_ctxs": positive, "negative_ctxs": [], "hard_negative_ctxs": negative}


def tevatron(row: Row) -> Row:
    """Texts are the ids."""
    positive, negative = (
        [{"docid": text, "text": text} for text in own] for own in ([row["positive"]], row["negative"])
    )
    asked = {"query_id": row["id"], "query": row["query"], "answers": [row["answer"]]}
    return asked | {"positive_passages": positive, "negative_passages": negative}


def flag_embedding(row: Row) -> Row:
    """With a teacher's scores of positives alone."""
    asked = {"query": row["query"], "answers": [row["answer"]], "prompt": "Represent this"}
    return asked | {"pos": [row["positive"]], "neg": row["negative"], "pos_scores": [2.0], "neg_scores": None}


def triplet(row: Row) -> Row:
    """Several negatives, and an answer that is no list."""
    first, second = row["negative"]
    asked = {"anchor": row["query"], "answers": row["answer"], "positive": row["positive"]}
    return asked | {"negative": first, "negative_2": second}


def files_of(convert: Callable[[Row], Row]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for split, numbers in SPLITS.items():
            write_lines(folder / f"{split}.jsonl", [convert(question(number)) for number in numbers])

    return write


def beir(folder: Path) -> None:
    """Numbers as ids, answers in the queries' metadata, and no negatives: BM25 finds them."""
    corpus = [{"_id": str(number), "title": "", "text": passage(number)} for number in range(64)]
    asked = [question(number) for number in range(64)]
    write_lines(folder / "corpus.jsonl", corpus)
    queries = [{"_id": q["id"], "text": q["query"], "metadata": {"answers": [q["answer"]]}} for q in asked]
    write_lines(folder / "queries.jsonl", queries)
    (folder / "qrels").mkdir()
    for split, numbers in SPLITS.items():
        judged = "".join(f"q{number}\t{number}\t1\n" for number in numbers)
        (folder / f"qrels/{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)


def write_lines(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


SPLITS = {"train": TRAIN, "dev": VALIDATION, "test": TEST}
LAYOUTS = {
    "fid": files_of(fid),
    "dpr": files_of(dpr),
    "tevatron": files_of(tevatron),
    "flagembedding": files_of(flag_embedding),
    "sentence-transformers": files_of(triplet),
    "beir": beir,
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_goes_from_prepare_to_compare(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    tree = yaml.safe_load(use_profile.render("smoke"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    tree["data"] = {"source": "jsonl", "path": "data/raw", "seed": 0, "candidates": 3, "negatives": "bm25"}
    tree["data"]["limits"] = {"reader": READER, "train": None, "validation": None, "test": None}
    tree |= {"beyond": None, "readers": {"reader_a": tree["readers"]["reader_a"]}}
    tree["readers"]["reader_a"]["fit"] |= {"steps": 8, "batch": 8}
    tree["labels"]["human"] = {"kind": "selected", "needs": "data/prepared/train.parquet"}
    tree["tracking"]["mlflow"] = False
    tree["encoders"]["mini"]["fit"]["steps"] = 1
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    Path("data/raw").mkdir(parents=True)
    LAYOUTS[layout](Path("data/raw"))

    def stage(script: Any, *name: str) -> None:
        if hasattr(script, "keep_freed_memory"):
            monkeypatch.setattr(script, "keep_freed_memory", lambda: None)
        run(script, *name, monkeypatch=monkeypatch)

    stage(prepare)
    stage(reader, "reader_a")
    stage(encoder, "mini")
    for source in ("human", "reader_a"):
        stage(label, source)
    for one in ("infonce_human", "kl_a"):
        stage(train, one)
        stage(evaluate, one)
    for script in (control, judge, compare):
        stage(script)
    report = json.loads(Path("metrics/report.json").read_text(encoding="utf-8"))
    searched = 64 if layout == "beir" else len(TEST) + 5  # without a corpus, the passages of the test questions
    assert (report["about"]["questions"], report["about"]["corpus"]) == (len(TEST), searched)

"""Export: each layout is read back to the same labels, and sentence-transformers learns from it what we do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
import yaml

import export
from bitter_retrieval.data.question_splits import question_splits, split_files
from bitter_retrieval.data.settings import QuestionData
from bitter_retrieval.files.tables import data_files
from bitter_retrieval.labels.published import published_labels, published_records
from bitter_retrieval.labels.soft import passage_losses
from bitter_retrieval.labels.targets import soft_targets
from bitter_retrieval.publishing.exchange import LAYOUTS, scored
from bitter_retrieval.records import (
    BINARY_LABELS,
    NO_PASSAGE,
    PREPARED,
    SOFT_LABELS,
    Row,
    relevant_passages,
    write_rows,
)
from bitter_retrieval.training.objective import Objective
from bitter_retrieval.training.sets import training_set
from bitter_retrieval.training.settings import Run, Temperature


def asked(count: int, first: int = 0) -> list[Row]:
    """Rows of the tiny world, no two of them with the same question."""
    return [row | {"query": f"{row['query']} {row['query_id']}"} for row in tiny.world(count, first)]


SPLITS = {"train": asked(20), "validation": asked(8, first=24), "test": asked(4, first=36)}


def losses_of(rows: list[Row]) -> list[Row]:
    """Soft labels of two references, all different, so that no two passages tie."""
    rng = np.random.default_rng(0)
    return [
        {
            "query_id": row["query_id"],
            "passage_id": passage_id,
            "answer_index": index,
            "nll_sum": float(np.float32(rng.uniform(0.1, 9))),  # as the file holds it
            "n_tokens": 3,
        }
        for row in rows
        for passage_id in [*(p["passage_id"] for p in row["passages"]), NO_PASSAGE]
        for index in range(2)
    ]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(yaml.safe_load(tiny.PROFILE.read_text())))
    for split, rows in SPLITS.items():
        write_rows(f"data/prepared/{split}.parquet", rows, PREPARED)
        write_rows(f"data/labels/human/{split}.parquet", tiny.truth(rows), BINARY_LABELS)
        write_rows(f"data/labels/reader_a/{split}.parquet", losses_of(rows), SOFT_LABELS)
    return tmp_path


Exported = Callable[[str, str], Path]


@pytest.fixture
def exported(project: Path) -> Exported:
    def run(source: str, to: str) -> Path:
        export.main([source, "--to", to])
        return Path(f"exports/{source}-{to}")

    return run


# -- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["flagembedding", "sentence-transformers"])
def test_scores_come_back_as_the_losses_that_they_were(to: str, exported: Exported) -> None:
    folder = exported("reader_a", to)
    records = (record for file in data_files(folder) for record in published_records(file))
    labels, unmatched, unused = published_labels(records, SPLITS, "here")
    for split, rows in SPLITS.items():
        found, given = passage_losses(labels[split]), passage_losses(losses_of(rows))
        for query, losses in given.items():
            candidates = {name: loss for name, loss in losses.items() if name != NO_PASSAGE}
            assert {name: found[query][name] for name in candidates} == pytest.approx(candidates, abs=1e-12)
            assert found[query][NO_PASSAGE] == max(candidates.values()), "the worst stands for no passage"
    assert not any(count for counts in unmatched.values() for count in counts.values())
    assert unused == dict.fromkeys(unused, 0) | {"rows": 32}


@pytest.mark.parametrize("source", ["reader_a", "human"])
@pytest.mark.parametrize("to", ["flagembedding", "sentence-transformers", "tevatron", "beir"])
def test_prepare_reads_the_positives_back(to: str, source: str, exported: Exported) -> None:
    folder = exported(source, to)
    if to == "sentence-transformers":  # which has no place for answers
        for file in folder.glob("*.parquet"):
            rows = [row | {"answers": ["x"]} for row in pq.read_table(file).to_pylist()]
            (folder / f"{file.stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            file.unlink()
    data = QuestionData(source="jsonl", path=str(folder), seed=0, candidates=3)
    parts, corpus = split_files(folder)
    found, _, _ = question_splits(parts, str(folder), data, corpus)
    for split, rows in SPLITS.items():
        wanted = best(rows) if source == "reader_a" else relevant_passages(tiny.truth(rows))
        texts = {row["query"]: {p["passage_id"]: p["text"] for p in row["passages"]} for row in rows}
        given = {row["query"]: {texts[row["query"]][one] for one in wanted[row["query_id"]]} for row in rows}
        read = {row["query"]: {p["text"] for p in row["passages"] if p["is_selected"]} for row in found[split]}
        assert read == given
        assert {row["query"]: {p["text"] for p in row["passages"]} for row in found[split]} == {
            query: set(of.values()) for query, of in texts.items()
        }


def best(rows: list[Row]) -> dict[str, frozenset[str]]:
    losses = passage_losses(losses_of(rows))
    own = {query: {name: loss for name, loss in of.items() if name != NO_PASSAGE} for query, of in losses.items()}
    return {query: frozenset([min(of, key=of.__getitem__)]) for query, of in own.items()}


def test_pylate_has_scores_beside_two_tables_of_texts(exported: Exported) -> None:
    from datasets import load_dataset

    folder = exported("reader_a", "pylate")
    tables = {
        name: load_dataset("parquet", data_files=str(folder / f"{name}.parquet"), split="train")
        for name in ("train", "validation", "test", "queries", "documents")
    }
    texts = dict(zip(tables["documents"]["document_id"], tables["documents"]["text"], strict=True))
    queries = dict(zip(tables["queries"]["query_id"], tables["queries"]["text"], strict=True))
    for split, rows in SPLITS.items():
        losses = passage_losses(losses_of(rows))
        for row, found in zip(rows, tables[split], strict=True):
            assert (found["query_id"], queries[found["query_id"]]) == (row["query_id"], row["query"])
            assert [texts[one] for one in found["document_ids"]] == [p["text"] for p in row["passages"]]
            scores = [-losses[row["query_id"]][p["passage_id"]] for p in row["passages"]]
            assert found["scores"] == pytest.approx(scores, abs=1e-12)


# -- training --------------------------------------------------------------------------------------------------------

STUDENT, TEACHER = 0.5, 0.8


def test_sentence_transformers_learns_from_it_what_we_do(exported: Exported, project: Path) -> None:
    """Three steps of its trainer with DistillKLDivLoss, whose first loss is our kl over the candidates alone."""
    datasets, library = pytest.importorskip("datasets"), pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss

    encoder = tiny.tiny_encoder()
    encoder.save(project / "mini")
    model = library.SentenceTransformer(str(project / "mini"), device="cpu")
    for part in model.modules():
        if hasattr(part, "p"):
            part.p = 0.0  # no dropout: two runs of it would differ
    folder = exported("reader_a", "sentence-transformers")
    trainer = library.SentenceTransformerTrainer(
        model=model,
        args=library.SentenceTransformerTrainingArguments(
            output_dir=str(project / "out"),
            max_steps=3,
            per_device_train_batch_size=20,
            logging_steps=1,
            report_to="none",
            use_cpu=True,
            save_strategy="no",
        ),
        train_dataset=datasets.load_dataset("parquet", data_files=str(folder / "train.parquet"), split="train"),
        loss=DistillKLDivLoss(model, student_temperature=STUDENT, teacher_temperature=TEACHER),
    )
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    rows = SPLITS["train"]
    run = Run("reader_a", "mini", {"kl": 1.0}, Temperature(STUDENT, TEACHER), 0.2, in_batch="none")
    data = training_set(rows, soft_targets(rows, losses_of(rows), "reader_a"), tiny.tiny_encoder())
    ours = Objective(run, 10_000)(tiny.tiny_encoder().eval(), data, np.arange(20)).total.item()
    assert len(logged) == 3 and logged[0] == pytest.approx(STUDENT**2 * ours, rel=1e-3)  # it is logged to 4 digits


# -- what is left out ------------------------------------------------------------------------------------------------


def test_what_cannot_be_said_is_left_out_and_counted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, labels = SPLITS["train"], tiny.truth(SPLITS["train"])
    nothing = [label | {"relevant": 0} if label["query_id"] == "q0" else label for label in labels]
    assert scored(rows, nothing, False, "human")[1] == {"questions": 1, "passages": 0}
    negative = next(place for place, label in enumerate(labels) if not label["relevant"])
    fewer = labels[:negative] + labels[negative + 1 :]
    assert scored(rows, fewer, False, "human")[1] == {"questions": 0, "passages": 1}
    write_rows("data/labels/human/train.parquet", fewer, BINARY_LABELS)
    export.main(["human", "--to", "sentence-transformers"])
    assert "left out: 1 passages, 1 questions with another number of negatives\n" in capsys.readouterr().out
    assert pq.read_table("exports/human-sentence-transformers/train.parquet").num_rows == 19


def test_any_character_of_a_text_comes_through_beir(project: Path) -> None:
    odd = 'a\u2028b\u0085c "d" \\ e'
    for split, rows in SPLITS.items():
        changed = [row | {"query_id": f'{row["query_id"]}"', "query": f"{row['query']} {odd}"} for row in rows]
        write_rows(f"data/prepared/{split}.parquet", changed, PREPARED)
        write_rows(f"data/labels/human/{split}.parquet", tiny.truth(changed), BINARY_LABELS)
    export.main(["human", "--to", "beir"])
    parts, corpus = split_files(Path("exports/human-beir"))
    data = QuestionData(source="jsonl", path="exports/human-beir", seed=0, candidates=3)
    found, _, _ = question_splits(parts, "here", data, corpus)
    assert {row["query"] for row in found["test"]} == {f"{row['query']} {odd}" for row in SPLITS["test"]}
    assert {row["query_id"] for row in found["test"]} == {f'{row["query_id"]}"' for row in SPLITS["test"]}


@pytest.mark.parametrize("odd", ["\t", "\n", "\r"])
def test_a_failed_export_leaves_nothing_behind(odd: str, project: Path) -> None:
    rows = [row | {"query_id": f"{row['query_id']}{odd}x"} for row in SPLITS["test"]]
    write_rows("data/prepared/test.parquet", rows, PREPARED)
    write_rows("data/labels/human/test.parquet", tiny.truth(rows), BINARY_LABELS)
    with pytest.raises(ValueError, match="qrels hold no tab"):
        export.main(["human", "--to", "beir"])
    assert list(Path("exports").iterdir()) == []


@pytest.mark.parametrize("to", LAYOUTS)
def test_a_folder_that_is_there_is_not_written_to(to: str, exported: Exported, capsys: Any) -> None:
    folder = exported("human", to)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match="is there already"):
        exported("human", to)
    assert before == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} and before


def test_an_unknown_source_is_told_with_the_nearest(project: Path) -> None:
    with pytest.raises(ValueError, match="Did you mean 'human'"):
        export.main(["humn", "--to", "beir"])
    with pytest.raises(ValueError, match="no labels here"):
        export.main(["truth", "--to", "beir"])

"""The stage label by a reader: every split with its account, and the same bytes again."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from commands import refused, run
from saved_reader import ASKED, TOO_LONG, losses, save_reader

import label
from bitter_retrieval.labels.scored import NOTHING
from bitter_retrieval.labels.targets import scored_rows
from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.language_model import ReaderSettings, load_reader, save_settings
from bitter_retrieval.records import BINARY_LABELS, PREPARED, SCORES, SOFT_LABELS, read_rows, write_rows


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prepared splits, one with an answer that no reader here can take, and models/readers/reader_a."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    tree = yaml.safe_load(tiny.PROFILE.read_text())
    tree["tracking"]["mlflow"] = False
    tree["label"] |= {"unscorable": "skip", "batch_tokens": 300}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    for place, split in enumerate(label.SPLITS):
        rows = tiny.world(3, 3 * place)
        if split == "test":
            rows[1] = {**rows[1], "answers": [rows[1]["answers"][0], TOO_LONG]}
        write_rows(label.PREPARED_FOLDER / f"{split}.parquet", rows, PREPARED)
    folder = save_reader(tmp_path / "models/readers/reader_a")
    save_settings(folder, ReaderSettings(**{**ASKED, "max_length": 96}))
    return tmp_path


def test_stage_labels_every_split_and_accounts_for_it(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(label, "reader_a", monkeypatch=monkeypatch)
    accounts = json.loads((label.FIGURES / "reader_a.json").read_text())
    assert list(accounts) == list(label.SPLITS)
    assert [accounts[split]["unscorable"] for split in label.SPLITS] == [0, 0, 4]
    assert not any("second" in name for account in accounts.values() for name in account)  # no times in a DVC output
    for place, split in enumerate(label.SPLITS):
        rows = read_rows(label.LABELS / "reader_a" / f"{split}.parquet", SOFT_LABELS)
        found = [row["nll_sum"] for row in rows if row["answer_index"] == 0]
        assert found == pytest.approx(losses(stage / "models/readers/reader_a", tiny.world(3, 3 * place)), abs=1e-4)


ALTERED = {
    "permuted": {"kind": "permuted", "needs": "data/labels/reader_a", "seed": 0},
    "flat": {"kind": "flat", "needs": "data/labels/reader_a"},
    "noisy": {"kind": "noisy", "needs": "data/labels/reader_a", "noise": 0.5, "seed": 0},
}


@pytest.mark.parametrize("kind", ALTERED)
def test_an_altered_source_has_the_same_rows_and_an_account(
    kind: str, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["labels"] |= ALTERED
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    for place, split in enumerate(label.SPLITS):
        write_rows(label.LABELS / "reader_a" / f"{split}.parquet", tiny.soft(tiny.world(3, 3 * place)), SOFT_LABELS)
    run(label, kind, monkeypatch=monkeypatch)
    accounts = json.loads((label.FIGURES / f"{kind}.json").read_text())
    for split in label.SPLITS:
        given, found = (read_rows(label.LABELS / name / f"{split}.parquet", SOFT_LABELS) for name in ("reader_a", kind))
        keys = [sorted((row["query_id"], row["passage_id"]) for row in rows) for rows in (given, found)]
        assert keys[0] == keys[1] and found != given
        assert accounts[split]["unscorable"] == 0 and accounts[split]["queries"] == 3
    assert (accounts["train"]["auc"]["within_query"] == 0.5) == (kind == "flat")  # every pair ties


@pytest.mark.parametrize(("supports", "relevant"), [("all", 9), ("one", 3)])
def test_stage_labels_all_true_supports_or_one(
    supports: str, relevant: int, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["labels"]["truth"] = {"kind": "truth", "needs": "data/prepared/train.parquet", "supports": supports}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    rows = [{**row, "passages": [{**p, "role": "hard"} for p in row["passages"]]} for row in tiny.world(3)]
    write_rows(label.PREPARED_FOLDER / "train.parquet", rows, PREPARED)
    run(label, "truth", monkeypatch=monkeypatch)
    assert sum(row["relevant"] for row in read_rows(label.LABELS / "truth/train.parquet", BINARY_LABELS)) == relevant


def test_utility_is_the_likelihood_of_yes_and_needs_no_answer(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = "Question: {query}\nContext: {passage}\nHelps:"
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["labels"]["helps"] = {"kind": "utility", "needs": "models/readers/reader_a", "prompt": prompt}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    rows = [row | {"answers": []} for row in tiny.world(3)]
    write_rows(label.PREPARED_FOLDER / "train.parquet", rows, PREPARED)
    run(label, "helps", monkeypatch=monkeypatch)
    scorer = Scorer(load_reader(stage / "models/readers/reader_a", prompt=prompt), 4096)
    for found in read_rows(label.LABELS / "helps/train.parquet", SOFT_LABELS):
        (row,) = (row for row in rows if row["query_id"] == found["query_id"])
        (text,) = (p["text"] for p in [*row["passages"], NOTHING] if p["passage_id"] == found["passage_id"])
        yes, no = (scorer.score([Triple(row["query"], text, word)])[0].nll_sum for word in ("YES", "NO"))
        assert found["nll_sum"] == pytest.approx(-math.log(math.exp(-yes) / (math.exp(-yes) + math.exp(-no))), abs=1e-4)
        assert found["n_tokens"] == 1 and found["answer_index"] == 0
    account = json.loads((label.FIGURES / "helps.json").read_text())
    assert account["train"]["rows"] == 12 and account["train"]["unscorable"] == 0


def test_the_losses_of_a_question_without_answers_are_left_out_and_counted(
    stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row | {"answers": [] if place == 1 else row["answers"]} for place, row in enumerate(tiny.world(3))]
    write_rows(label.PREPARED_FOLDER / "train.parquet", rows, PREPARED)
    run(label, "reader_a", monkeypatch=monkeypatch)
    found = read_rows(label.LABELS / "reader_a/train.parquet", SOFT_LABELS)
    assert {row["query_id"] for row in found if row["nll_sum"] is None} == {rows[1]["query_id"]}
    assert json.loads((label.FIGURES / "reader_a.json").read_text())["train"]["unscorable"] == 4
    assert scored_rows(rows, found) == ([rows[0], rows[2]], 1, 3)


def test_a_binary_source_is_made_wrong_and_says_how_often(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = yaml.safe_load(Path("params.yaml").read_text())
    kind = {"kind": "corrupted", "needs": "data/labels/truth", "share": 1.0, "towards": "random", "seed": 0}
    tree["labels"]["wrong"] = kind
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    for place, split in enumerate(label.SPLITS):
        write_rows(label.LABELS / "truth" / f"{split}.parquet", tiny.truth(tiny.world(3, 3 * place)), BINARY_LABELS)
    run(label, "wrong", monkeypatch=monkeypatch)
    account = json.loads((label.FIGURES / "wrong.json").read_text())
    assert account["made_wrong"] == {"train": 3, "validation": 3, "test": 3}
    given, found = (read_rows(label.LABELS / name / "train.parquet", BINARY_LABELS) for name in ("truth", "wrong"))
    assert sum(row["relevant"] for row in found) == 3
    assert not any(was["relevant"] and now["relevant"] for was, now in zip(given, found, strict=True))


def test_stage_that_is_run_again_writes_the_same_bytes(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [label.FIGURES / "reader_a.json", *(label.LABELS / f"reader_a/{split}.parquet" for split in label.SPLITS)]
    written = []
    for _ in range(2):
        run(label, "reader_a", monkeypatch=monkeypatch)
        written.append([file.read_bytes() for file in files])
        for file in files:
            file.unlink()
    assert written[0] == written[1]


def test_scores_that_were_pulled_are_not_computed_again(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `dvc pull`: labels are there, the journal is not. Another reader's prompt makes other scores."""
    passes: list[int] = []
    forward = Scorer._forward
    monkeypatch.setattr(Scorer, "_forward", lambda self, items: passes.append(len(items)) or forward(self, items))

    def labelled(**changes: Any) -> bytes:
        tree = yaml.safe_load(Path("params.yaml").read_text())
        tree["label"] |= changes
        Path("params.yaml").write_text(yaml.safe_dump(tree))
        run(label, "reader_a", monkeypatch=monkeypatch)
        return (label.LABELS / "reader_a/train.parquet").read_bytes()

    def ask(prompt: str) -> None:
        asked = {**ASKED, "max_length": 96, "prompt": prompt}
        save_settings(stage / "models/readers/reader_a", ReaderSettings(**asked))

    first, needed = labelled(), len(passes)
    shutil.rmtree(".journal")
    passes.clear()
    assert labelled(batch_tokens=200) == first and not passes
    shutil.rmtree(".journal")
    ask("{passage} {query}")
    assert labelled() != first and len(passes) >= needed
    passes.clear()
    ask(ASKED["prompt"])
    assert labelled() == first and not passes, "what was pulled is lost when other scores take its place"


def test_a_source_leaves_no_file_of_a_former_one_of_its_name(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for former in (label.SCORES, "human-train.parquet"):
        write_rows(label.LABELS / "human" / former, [], SCORES)
    run(label, "human", monkeypatch=monkeypatch)
    found = {file.stem for file in (label.LABELS / "human").iterdir()}
    assert found == set(label.SPLITS)


def test_source_that_params_do_not_have_is_named(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "reader_x" in (message := refused(label, "reader_x", monkeypatch=monkeypatch)) and "reader_a" in message
    assert not label.LABELS.exists()

"""Every source of questions from its files to the report: all stages in turn, with models of a few weights."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from source_files import MARCO, hidden, published, squad, write_marco, write_rows

import compare
import control
import encoder
import evaluate
import judge
import label
import prepare
import reader
import train
from bitter_retrieval.records import PREDICTIONS, PREPARED, Row, read_rows
from bitter_retrieval.typed_yaml import ParamsError

RAW = Path("data/raw")
RUN = {"encoder": "mini", "temperature": {"student": 0.05, "teacher": 0.2}, "margin": 0.2}
NEEDS = "data/prepared/train.parquet"
HUMAN = {"kind": "selected", "needs": NEEDS}
LABELS = {"has_answer": {"kind": "has_answer", "needs": NEEDS}}
LABELS |= {"tiny": {"kind": "reader", "needs": "models/readers/tiny"}}
KL = {"labels": "tiny", "losses": {"kl": 1.0}}
RUNS = {"infonce": {"labels": "has_answer", "losses": {"infonce": 1.0}}, "kl": KL}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a reader and an encoder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for module in (reader, encoder, label, train, evaluate, control):
        monkeypatch.setattr(module, "keep_freed_memory", lambda: None)
    tokenizer = tiny.tokenizer_of("bpe")
    for part in (tiny.tiny_model("qwen3", len(tokenizer)), tokenizer):
        part.save_pretrained("tiny_reader")
    tiny.tiny_encoder(max_length=64).save(Path("tiny_encoder"))
    return tmp_path


def set_params(data: dict[str, Any], labels: dict[str, Any], runs: dict[str, Any], **sections: Any) -> None:
    """The default profile, with these and one model of each kind from the folder."""
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text()))
    prompt = tree["readers"]["reader_a"]["prompt"]
    tree["data"] |= {"path": str(RAW)} | data
    tree["readers"] = {"tiny": {"model": "./tiny_reader", "revision": None, "prompt": prompt, "dtype": "float32"}}
    tree["readers"]["tiny"] |= {"max_length": 192, "max_new_tokens": 3}
    tree["encoders"] = {"mini": {"model": "./tiny_encoder", "revision": None, "pooling": "mean", "max_length": 64}}
    tree["encoders"]["mini"] |= {"query_prefix": "", "passage_prefix": ""}
    tree["labels"], tree["runs"] = labels, {name: RUN | run for name, run in runs.items()}
    tree["tracking"]["mlflow"] = False
    tree["train"] |= {"seeds": [0], "epochs": 1, "queries_per_batch": 8}
    tree["evaluate"]["shown"] = [1]
    tree["control"] |= {"random_draws": 1, "human_source": next(iter(labels))}
    tree["compare"] |= {"reader": "tiny", "label_source": "tiny", "human_source": next(iter(labels)), "draws": 50}
    for name, section in sections.items():
        tree[name] |= section
    Path("params.yaml").write_text(yaml.safe_dump(tree))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a stage's script."""

    def run(module: Any, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", [f"{module.__name__}.py", *arguments])
        module.main()

    return run


def everything(stage: Callable[..., None]) -> dict[str, Any]:
    """All stages in the order of the DAG; the report."""
    tree = yaml.safe_load(Path("params.yaml").read_text())
    stage(prepare)
    for module, section in {reader: "readers", encoder: "encoders", label: "labels", train: "runs"}.items():
        for name in tree[section]:
            stage(module, name)
    for name in tree["runs"]:
        stage(evaluate, name)
    for module in (control, judge):
        stage(module)
    stage(compare)
    return json.loads(Path("metrics/report.json").read_text())


def account() -> dict[str, Any]:
    return json.loads(Path("data/figures/prepare.json").read_text())


def unlabelled(rows: list[Row]) -> list[Row]:
    """Your own questions, without any label."""
    return [
        {"query": row["query"], "answers": row["answers"], "passages": row["passages"]["passage_text"]} for row in rows
    ]


def test_marco_goes_through_with_published_labels_alone(
    project: Path, stage: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    write_marco(RAW, MARCO)
    (RAW / "older").mkdir()
    rows = [row for rows in MARCO.values() for row in rows]
    labelled = published(rows[5:], lambda row, text: len(text) / 50 if text else 3.0)
    write_rows(Path("data/published/train-00000-of-00001.parquet"), labelled)
    labels = {"human": HUMAN, "theirs": {"kind": "published", "needs": "data/published", "reader": "tiny"}}
    runs = {"infonce": {"labels": "human", "losses": {"infonce": 1.0}}, "kl": KL | {"labels": "theirs"}}
    set_params({"source": "msmarco"}, labels, runs, compare={"label_source": "theirs"})
    report = everything(stage)
    assert report["about"]["questions"] == 8 and report["about"]["without_human_label"] == 0
    assert report["about"]["origin"] == "data/raw: test-00000-of-00001.parquet (8)"
    assert report["systems"]["annotated"]["scores"]["tiny"]["retrieval"]["mean"] == 1.0
    assert report["systems"]["oracle"]["scores"]["tiny"]["em"] and report["systems"]["kl"]["scores"]["tiny"]["regret"]
    assert report["about"]["corpus"] == 35
    assert "The test questions are from data/raw: test-00000-of-00001.parquet (8)." in capsys.readouterr().out
    assert account()["source"]["read"]["train"]["left_out"]["unanswerable"] == 2
    assert account()["source"]["read"]["train"]["left_out_fields"]["query_type"] == 33
    assert account()["source"]["folders_left_alone"] == ["older"]
    assert json.loads(Path("data/figures/reader/tiny.json").read_text())["questions"] == 0
    counted = json.loads(Path("data/figures/label/theirs.json").read_text())
    assert counted["unmatched"]["train"] == {"questions": 5, "passages": 0, "empty_passages": 0}
    assert counted["test"]["unscorable"] == 0 and counted["test"]["answer_tokens"] is None
    assert counted["train"]["queries_without_baseline"] == 5


def test_marco_without_labels_of_its_test_split_goes_through(project: Path, stage: Callable[..., None]) -> None:
    write_marco(RAW, MARCO | {"test": hidden(MARCO["test"])}, ".jsonl")
    theirs = published(MARCO["validation"] + MARCO["train"], lambda row, text: len(text))
    write_rows(Path("data/published.jsonl"), theirs)
    labels = {"human": HUMAN, **LABELS, "theirs": {"kind": "published", "needs": "data/published.jsonl"}}
    limits = {"train": 12, "validation": 4}
    set_params({"source": "msmarco", "limits": limits}, labels, RUNS, compare={"label_source": "theirs"})
    report = everything(stage)
    assert report["about"]["origin"] == "data/raw: validation-00000-of-00001.jsonl (9)"
    splits = account()["splits"]
    assert [splits[name]["questions"] for name in ("reader", "train", "validation", "test")] == [0, 12, 4, 9]
    assert report["about"]["without_human_label"] == 1
    scores = report["systems"]["kl"]["scores"]["tiny"]
    assert scores["regret"] and scores["regret_labeller"], "of a labeller that is no reader here, by its labels"


def test_squad_goes_through(project: Path, stage: Callable[..., None]) -> None:
    write_rows(RAW / "train.parquet", squad())
    shares = {"reader": 0, "train": 0.5, "validation": 0.25, "test": 0.25}
    data = {"source": "squad", "candidates": 4, "num_titles": 6, "questions_per_title": 5, "articles": shares}
    set_params(data, {"human": HUMAN, **LABELS}, RUNS)
    report = everything(stage)
    assert report["about"]["groups"] == 1 and report["about"]["corpus"] == 3
    assert report["about"]["origin"] == f"data/raw: train.parquet ({report['about']['questions']})"
    source = account()["source"]
    assert source["unanswerable"] == 1 and source["other_titles"] in (11, 12)
    assert [account()["splits"][split]["groups"] for split in ("reader", "train", "validation")] == [0, 3, 2]


def test_ones_own_questions_without_human_labels_go_through(
    project: Path, stage: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = unlabelled([row for rows in MARCO.values() for row in rows])
    rows = [row | {"group_id": f"group {number // 2}"} for number, row in enumerate(rows)]
    write_rows(RAW / "questions.jsonl", rows)
    shares = {"reader": 0.1, "train": 0.5, "validation": 0.2, "test": 0.2}
    set_params({"source": "jsonl", "articles": shares}, {"human": HUMAN, **LABELS}, RUNS)
    report = everything(stage)
    told = " ".join("".join(capsys.readouterr()).split())
    assert "control annotated: left out, as no passage of these questions is selected" in told
    assert "Control annotated: no answers of tiny." in told
    assert report["systems"]["annotated"]["scores"] == {} and report["systems"]["kl"]["scores"]["tiny"]["em"]
    assert report["systems"]["kl"]["scores"]["tiny"]["retrieval"] is None
    assert report["about"]["without_human_label"] == report["about"]["questions"] > 0
    assert report["disagreement"]["test"]["disagreement"] is None
    assert not read_rows("data/predictions/controls/annotated.parquet", PREDICTIONS)


@pytest.mark.parametrize("labels", [HUMAN, {"kind": "mined"}])
def test_a_run_on_human_labels_that_nobody_gave_is_refused_before_anything_is_written(
    project: Path, stage: Callable[..., None], labels: dict[str, Any]
) -> None:
    write_rows(RAW / "train.jsonl", unlabelled(MARCO["train"]))
    write_rows(RAW / "validation.jsonl", unlabelled(MARCO["validation"]))
    mined = {"encoder": "models/encoders/mini", "needs": "data/labels/human", "per_query": 1, "depth": 5, "below": 0.9}
    named = "human" if labels == HUMAN else "hard"
    set_params(
        {"source": "jsonl"},
        {"human": HUMAN, **LABELS},
        RUNS | {"asked": {"labels": named, "losses": {"infonce": 1.0}}},
        derived_labels={} if labels == HUMAN else {"hard": labels | mined},
    )
    with pytest.raises(ParamsError, match="runs: asked would learn from .* people selected, but none of train's"):
        stage(prepare)
    assert not Path("data/prepared").exists()


def test_candidates_that_no_word_chose_are_counted_and_told(
    project: Path, stage: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = squad()
    write_rows(RAW / "train.parquet", [rows[0] | {"question": "zzz?"}, *rows[1:]])
    shares = {"reader": 0, "train": 0.5, "validation": 0.25, "test": 0.25}
    set_params({"source": "squad", "articles": shares}, LABELS, RUNS)
    stage(prepare)
    assert account()["source"]["questions_without_matching_word"] == 1
    assert "data: no passage has a word of 1 questions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("splits", "data", "said"),
    [
        ({"train": []}, {}, "has no question for train"),
        ({"validation": MARCO["validation"][:1], "test": []}, {}, "has no question for validation"),
    ],
)
def test_a_split_without_questions_is_refused(
    project: Path, stage: Callable[..., None], splits: dict[str, list[Row]], data: dict[str, Any], said: str
) -> None:
    write_marco(RAW, MARCO | splits)
    set_params({"source": "msmarco"} | data, {"human": HUMAN, **LABELS}, RUNS)
    with pytest.raises(ParamsError, match=said):
        stage(prepare)


def test_what_is_fitted_needs_questions_of_its_own(project: Path, stage: Callable[..., None]) -> None:
    write_marco(RAW, MARCO)
    fit = yaml.safe_load(tiny.PROFILE.read_text())["encoders"]["mini"]
    set_params({"source": "msmarco"}, {"human": HUMAN, **LABELS}, RUNS, encoders={"mini": fit})
    with pytest.raises(ParamsError, match="has no question for reader, on which readers and encoders are fitted"):
        stage(prepare)
    set_params({"source": "msmarco", "limits": {"reader": 3}}, {"human": HUMAN, **LABELS}, RUNS, encoders={"mini": fit})
    stage(prepare)
    assert len(read_rows("data/prepared/reader.parquet", PREPARED)) == 3
    limits = {"reader": 99}
    set_params({"source": "msmarco", "limits": limits}, {"human": HUMAN, **LABELS}, RUNS, encoders={"mini": fit})
    with pytest.raises(ParamsError, match="no question for train .*or lower data.limits.reader, which took all"):
        stage(prepare)


@pytest.mark.parametrize(("section", "name"), [("readers", "tiny"), ("encoders", "mini"), ("labels", "human")])
def test_what_later_stages_take_from_a_hub_is_asked_for_before_any_data(
    project: Path, stage: Callable[..., None], monkeypatch: pytest.MonkeyPatch, section: str, name: str
) -> None:
    """The data are absent too."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    set_params({"source": "msmarco"}, {"human": HUMAN, **LABELS}, RUNS)
    tree = yaml.safe_load(Path("params.yaml").read_text())
    if section == "labels":
        tree["labels"]["theirs"] = {"kind": "published", "needs": NEEDS, "hub": {"id": "me/soft", "revision": None}}
    else:
        tree[section][name] |= {"model": "me/large", "revision": "a" * 40}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    said = r"labels.theirs.hub.revision: null. `git ls-remote" if section == "labels" else "'me/large': .* be reached"
    with pytest.raises(ValueError, match=said):
        stage(prepare)

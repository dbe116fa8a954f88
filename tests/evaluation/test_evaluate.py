"""The stages evaluate and control in a small project: who reads what how often, and from which corpus.

And `python src/evaluate.py` as a user runs it outside DVC: with any encoder and reader, on a file of their own.
"""

import json
import shutil
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import yaml

import control
import evaluate
from bitter_retrieval.evaluation import embeddings
from bitter_retrieval.evaluation.corpus import CorpusError
from bitter_retrieval.readers.language_model import ReaderSettings, save_settings
from bitter_retrieval.records import (
    BINARY_LABELS,
    CORPUS,
    PREDICTIONS,
    PREPARED,
    SOFT_LABELS,
    Row,
    parted,
    passage_texts,
    read_rows,
    write_rows,
)
from bitter_retrieval.stage import run_stage
from bitter_retrieval.statistics.statistics import Design

ROWS = tiny.world(6)
PASSAGES = {p["passage_id"]: p["text"] for row in tiny.world(12) for p in row["passages"]}  # six rows' own, and others
NOT_RETRIEVED = {"no_passage", "annotated", "oracle", "random"}


LONG = "Ashby " * 99


def selected(row: Row) -> Row:
    return row | {"passages": [p | {"is_selected": int(p["role"] == "plain")} for p in row["passages"]]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    set_params(shown=[1, 3])
    write_rows("data/prepared/test.parquet", ROWS, PREPARED)
    write_rows("data/prepared/corpus.parquet", [{"passage_id": p, "text": t} for p, t in PASSAGES.items()], CORPUS)
    set_beyond([])
    write_rows("data/labels/human/test.parquet", tiny.truth(ROWS), BINARY_LABELS)
    write_rows("data/labels/reader_a/test.parquet", tiny.soft(ROWS), SOFT_LABELS)
    for folder, seed in {"encoders/mini": 0, "runs/kl/seed0": 0, "runs/kl/seed7": 7}.items():
        tiny.tiny_encoder(seed).save(tmp_path / "models" / folder)
    for module in (evaluate, control):
        monkeypatch.setattr(module, "keep_freed_memory", lambda: None)
        monkeypatch.setattr(module, "load_reader", lambda folder: reader(folder.name))
    return tmp_path


def set_params(**changes: Any) -> None:
    tree = yaml.safe_load(tiny.PROFILE.read_text())
    tree["evaluate"] |= changes
    del tree["labels"]["reader_b"]  # which then has no oracle
    tree["control"]["random_draws"], tree["train"]["seeds"] = 2, [0, 7]
    Path("params.yaml").write_text(yaml.safe_dump(tree))


def set_beyond(rows: list[Row], **more: str) -> None:
    """Questions from another domain, and a corpus of their passages and `more`."""
    corpus = passage_texts(rows) | more
    write_rows("data/prepared/beyond.parquet", rows, PREPARED)
    write_rows("data/prepared/beyond_corpus.parquet", [{"passage_id": p, "text": t} for p, t in corpus.items()], CORPUS)


def reader(name: str) -> Any:
    seed = {"reader_a": 0, "reader_b": 1}[name]
    return replace(tiny.tiny_reader(seed=seed), name=name, identity=name)


@pytest.fixture
def predict(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Row]]:
    """Run evaluate on the run kl."""

    def run() -> list[Row]:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", "kl"])
        evaluate.main()
        return read_rows("data/predictions/runs/kl.parquet", PREDICTIONS)

    return run


def test_every_seed_reader_and_number_of_passages_is_read(predict: Callable[[], list[Row]]) -> None:
    rows = predict()
    calls = [(row["seed"], row["reader"], row["shown"]) for row in rows]
    wanted = [(seed, name, shown) for seed in (0, 7) for name in ("reader_a", "reader_b") for shown in (1, 3)]
    assert calls == [call for call in wanted for _ in ROWS]
    for row in rows:
        assert row["shown_ids"] == row["ranked_ids"][: row["shown"]] and len(row["ranked_ids"]) == 10
        assert len(row["candidate_ranks"]) == 3
    assert {row["query_id"] for row in rows} == {row["query_id"] for row in ROWS}


def test_the_first_number_reads_the_same_whatever_follows(predict: Callable[[], list[Row]]) -> None:
    both = predict()
    set_params(shown=[1])
    assert predict() == [row for row in both if row["shown"] == 1]


def test_what_was_done_once_asks_neither_encoder_nor_reader(
    predict: Callable[[], list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = predict()
    monkeypatch.setattr(embeddings, "load_encoder", None)
    monkeypatch.setattr(evaluate, "load_reader", lambda folder: replace(reader(folder.name), model=None))
    assert predict() == first


def test_readers_are_loaded_one_at_a_time(predict: Callable[[], list[Row]], monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[weakref.ref] = []

    def load(folder: Path) -> Any:
        assert not [model for model in models if model()]
        loaded = reader(folder.name)
        models.append(weakref.ref(loaded.model))
        return loaded

    for module in (evaluate, control):
        monkeypatch.setattr(module, "load_reader", load)
    predict()
    control.main()
    assert len(models) == 4


def test_references_that_no_reader_can_score_are_told(
    predict: Callable[[], list[Row]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("data/prepared/test.parquet", [*ROWS[:5], ROWS[5] | {"answers": [LONG]}], PREPARED)
    for rows in (predict(), control.main() or controlled("bm25")):
        assert {row["query_id"] for row in rows if row["answer_nll"] is None} == {"q5"}
    told = capsys.readouterr().err
    assert "evaluate kl: 8 of 48 answers have no answer loss, the first of them of reader_a to query 'q5'" in told
    assert "control bm25: 4 of 24 answers have no answer loss" in told


def test_only_the_corpus_of_the_size_is_searched(predict: Callable[[], list[Row]]) -> None:
    own = {p["passage_id"] for row in ROWS for p in row["passages"]}
    assert len(own) == 11 and len(PASSAGES) > 12
    set_params(shown=[1], corpus_size=11)
    assert {passage for row in predict() for passage in row["ranked_ids"]} <= own
    set_params(shown=[1], corpus_size=10)
    with pytest.raises(CorpusError, match="got 10"):
        predict()


def test_the_empty_passage_can_be_retrieved_and_shown(predict: Callable[[], list[Row]]) -> None:
    set_params(shown=[12], empty_passage=True, top_k=18)
    rows = predict()
    assert len(rows[0]["ranked_ids"]) == len(PASSAGES) + 1 and "" in rows[0]["ranked_ids"]
    assert any("" in row["shown_ids"] for row in rows)
    assert "" not in rows[0]["candidate_ids"]


FAR = [selected(row) | {"query_id": f"beyond:{row['query_id']}"} for row in tiny.world(4, first=20)]


def test_questions_from_another_domain_are_read_once_from_a_corpus_of_their_own(
    predict: Callable[[], list[Row]],
) -> None:
    before = predict()
    set_beyond(FAR, extra="Nobody asks for it.")
    set_params(shown=[1, 3], corpus_size=len(PASSAGES))  # a size is of the split's own corpus
    rows = predict()
    here, far = parted(rows)
    assert here == before
    calls = [(row["seed"], row["reader"], row["shown"]) for row in far]
    assert calls == [(seed, name, 1) for seed in (0, 7) for name in ("reader_a", "reader_b") for _ in FAR]
    assert {row["query_id"] for row in far} == {row["query_id"] for row in FAR}
    searched = {passage for row in far for passage in row["ranked_ids"]}
    assert searched == {*passage_texts(FAR), "extra"}


def test_controls_answer_questions_from_another_domain_save_the_oracle(project: Path) -> None:
    set_params(shown=[1, 3])
    control.main()
    before = {name: controlled(name) for name in (*NOT_RETRIEVED, "bm25", "untrained")}
    set_beyond([*FAR[1:], FAR[0] | {"passages": [p | {"is_selected": None} for p in FAR[0]["passages"]]}])
    control.main()
    for name, rows in before.items():
        here, far = parted(controlled(name))
        assert here == rows
        draws, asked = (2 if name == "random" else 1), {"annotated": 3, "oracle": 0}.get(name, 4)
        assert len(far) == 2 * draws * asked and {row["shown"] for row in far} <= {1}, name
    chosen = {row["query_id"]: row["shown_ids"] for row in parted(controlled("annotated"))[1]}
    assert chosen == {
        row["query_id"]: [p["passage_id"] for p in row["passages"] if p["is_selected"]] for row in FAR[1:]
    }


def test_every_encoder_is_a_control_before_training(project: Path) -> None:
    set_params(shown=[1])
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["encoders"]["other"] = tree["encoders"]["mini"]
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    tiny.tiny_encoder(3).save(project / "models/encoders/other")
    (project / "models/encoders/gone").mkdir()
    control.main()
    assert not (project / "models/encoders/gone").exists()
    own, other = controlled("untrained"), controlled("untrained_other")
    assert [row["query_id"] for row in own] == [row["query_id"] for row in other] and {
        row["system"] for row in other
    } == {"untrained_other"}
    assert [row["ranked_scores"] for row in own] != [row["ranked_scores"] for row in other]


def controlled(name: str) -> list[Row]:
    return read_rows(f"data/predictions/controls/{name}.parquet", PREDICTIONS)


def test_controls_that_rank_are_read_for_every_number_and_the_others_once(project: Path) -> None:
    control.main()
    for name in [*NOT_RETRIEVED, "bm25", "untrained"]:
        rows = read_rows(f"data/predictions/controls/{name}.parquet", PREDICTIONS)
        readings = Counter((row["reader"], row["seed"], row["shown"]) for row in rows)
        readers = ["reader_a"] if name == "oracle" else ["reader_a", "reader_b"]
        draws = [0, 1] if name == "random" else [0]
        numbers = [1] if name in NOT_RETRIEVED else [1, 3]
        wanted = {(one, draw, shown): len(ROWS) for one in readers for draw in draws for shown in numbers}
        assert readings == wanted, name
        shown = {len(row["shown_ids"]) for row in rows}
        assert shown == ({0} if name == "no_passage" else set(numbers))


def test_controls_search_the_corpus_that_runs_search(project: Path) -> None:
    set_params(shown=[1], corpus_size=11, empty_passage=True)
    control.main()
    own = {p["passage_id"] for row in ROWS for p in row["passages"]}
    for name in ("bm25", "untrained"):
        rows = read_rows(f"data/predictions/controls/{name}.parquet", PREDICTIONS)
        assert {passage for row in rows for passage in row["ranked_ids"]} <= {*own, ""}


def test_run_that_params_do_not_have_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'k1' is none of" in refused("k1", monkeypatch=monkeypatch)


# -- outside DVC -----------------------------------------------------------------------------------------------------

SHORT = ("--max-new-tokens", 2)
PREFIXES = ("query_prefix", "passage_prefix")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder and a reader as their libraries save them."""
    folder = tmp_path_factory.mktemp("models")
    tiny.tiny_encoder().save(folder / "bert")
    given = tiny.tiny_reader(tokenizer="bpe")
    given.model.save_pretrained(folder / "qwen")
    given.tokenizer.save_pretrained(folder / "qwen")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs: questions.jsonl, of which the last has no selected passage."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(evaluate, "keep_freed_memory", lambda: None)
    write_lines("questions.jsonl", [selected(row) for row in ROWS[:-1]] + [ROWS[-1]])
    return tmp_path


def write_lines(path: str, rows: list[Row]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(*arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
    run_stage(evaluate.main)


def refused(*arguments: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The line that the command ends with; it has written nothing."""
    with pytest.raises(SystemExit) as caught:
        run(*arguments, monkeypatch=monkeypatch)
    message = caught.value.code
    assert isinstance(message, str) and message.startswith("error: ") and "\n" not in message
    assert not Path("out").exists()
    return message


Found = tuple[dict[str, Any], list[Row], str]  # summary, predictions, what the terminal shows
Evaluated = Callable[..., Found]


@pytest.fixture
def evaluated(
    folder: Path, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Evaluated:
    def found(*arguments: Any, encoder: Any = models / "bert", reader: Any = models / "qwen") -> Found:
        given = () if "--input" in arguments else ("--input", "questions.jsonl")
        run("--encoder", encoder, "--reader", reader, "--output", "out", *given, *arguments, monkeypatch=monkeypatch)
        summary = json.loads(Path("out/summary.json").read_text())
        return summary, read_rows("out/predictions.parquet", PREDICTIONS), capsys.readouterr().out

    return found


def test_a_file_is_evaluated(folder: Path, evaluated: Evaluated) -> None:
    summary, rows, told = evaluated("--shown", 1, 3, 1, *SHORT)
    assert sorted(path.name for path in folder.iterdir()) == [".journal", "out", "questions.jsonl"]
    assert [row["shown"] for row in rows] == [1] * 6 + [3] * 6
    passages = {p["passage_id"]: p["text"] for row in ROWS for p in row["passages"]}
    encoder = tiny.tiny_encoder()
    vectors = encoder.embed(list(passages.values()), "passage", 999)
    asked = encoder.embed([row["query"] for row in ROWS], "query", 999)
    best = [list(passages)[place] for place in (asked @ vectors.T).argmax(1)]
    assert [row["ranked_ids"][0] for row in rows] == best * 2
    assert all(row["shown_ids"] == row["ranked_ids"][: row["shown"]] for row in rows)

    groups = [row["group_id"] for row in ROWS]
    for shown in (1, 3):
        for metric in ("em", "f1", "answer_nll"):
            wanted = Design(groups, 1, 20, 0).estimate([[row[metric] for row in rows if row["shown"] == shown]])
            told_of = summary["answers"][str(shown)][metric]
            assert told_of.pop("questions") == 6
            assert told_of == pytest.approx({name: getattr(wanted, name) for name in ("mean", "low", "high")})
    truth = [{p["passage_id"] for p in row["passages"] if p["role"] == "plain"} for row in ROWS[:-1]]
    hits = [one in own for one, own in zip(best[:-1], truth, strict=True)]
    assert summary["retrieval"]["retrieval"]["mean"] == pytest.approx(np.mean(hits))
    places = [row["ranked_ids"].index(next(iter(own))) for row, own in zip(rows, truth, strict=False)]
    assert summary["retrieval"]["ndcg_10"]["mean"] == pytest.approx(np.mean(1 / np.log2(2 + np.array(places))))
    assert summary["retrieval"]["mrr_10"]["questions"] == 5
    counts = summary["counts"]
    assert (counts["questions"], counts["groups"], counts["passages"]) == (6, 3, len(passages))
    assert counts["without_human_label"] == 1 and counts["truncated"] == counts["unscorable"] == {"1": 0, "3": 0}
    assert "Answers from 3 passages" in told and f"{summary['retrieval']['mrr_10']['mean']:.3f}" in told
    assert "No passage is selected for 1 questions" in told and "Left out of the input: nothing." in told


def test_what_was_done_once_is_not_done_again_outside_dvc_either(
    evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluated(*SHORT)
    monkeypatch.setattr(embeddings, "load_encoder", None)
    for work in ("generation._generate", "answer_loss.Scorer.score"):
        monkeypatch.setattr(f"bitter_retrieval.{work}", lambda *given, **settings: pytest.fail("is done again"))
    assert evaluated(*SHORT) == first


def test_squad_is_read_and_its_unanswerable_questions_counted(folder: Path, evaluated: Evaluated) -> None:
    paragraphs = [
        {
            "context": row["passages"][0]["text"],
            "qas": [
                {
                    "id": f"{place}",
                    "question": row["query"],
                    "answers": [{"text": row["answers"][0], "answer_start": 0}],
                }
            ],
        }
        for place, row in enumerate(ROWS)
    ]
    odd = {"id": "x", "question": "Who?", "is_impossible": True, "answers": []}
    paragraphs[0]["qas"].append(odd)
    articles = [{"title": f"t{half}", "paragraphs": paragraphs[3 * half : 3 * half + 3]} for half in (0, 1)]
    Path("dev-v2.0.json").write_text(json.dumps({"version": "v2.0", "data": articles}, indent=1))
    summary, rows, told = evaluated("--input", "dev-v2.0.json", "--shown", 1, *SHORT)
    assert summary["counts"]["left_out"]["unanswerable"] == 1 and "unanswerable 1" in told
    assert [row["query_id"] for row in rows] == list("012345") and {row["group_id"] for row in rows} == {"t0", "t1"}
    assert summary["retrieval"]["ndcg_10"]["questions"] == 6

    summary, rows, told = evaluated("--input", "dev-v2.0.json", "--shown", 1, "--examples", 2, *SHORT)
    assert len(rows) == 2 and summary["counts"]["passages"] == len({p["context"] for p in paragraphs})
    assert "The first 2 of 6 questions" in told and "All questions are of one group" in told
    assert {one[end] for one in summary["retrieval"].values() for end in ("low", "high")} == {None}


def test_without_selected_passages_nothing_is_said_of_retrieval(folder: Path, evaluated: Evaluated) -> None:
    write_rows("mine.parquet", ROWS, PREPARED)
    summary, rows, told = evaluated("--input", "mine.parquet", "--shown", 1, *SHORT, encoder="bm25")
    nothing = {"mean": None, "low": None, "high": None, "questions": 0}
    assert all(found == nothing for found in summary["retrieval"].values())
    assert "No passage is selected for 6 questions" in told and len(rows) == 6
    assert summary["encoder"] == {"model": "bm25"} and rows[0]["ranked_scores"][0] > 0


def test_references_that_the_reader_cannot_score_are_counted(folder: Path, evaluated: Evaluated) -> None:
    write_lines("long.jsonl", [*ROWS[:5], ROWS[5] | {"answers": [LONG]}])
    given = ("--input", "long.jsonl", "--shown", 1, 3, "--max-length", 90)
    summary, rows, told = evaluated(*given, *SHORT, encoder="bm25")
    assert [row["query_id"] for row in rows if row["answer_nll"] is None] == ["q5", "q5"]
    assert summary["counts"]["unscorable"] == {"1": 1, "3": 1}
    answers = summary["answers"]["1"]
    assert answers["answer_nll"]["questions"] == 5 and answers["em"]["questions"] == 6
    assert "cannot be asked (then they are empty, and wrong): 1 with 1 shown, 1 with 3 shown." in told


def test_an_encoder_of_the_presets_is_used_as_they_say(folder: Path, models: Path, evaluated: Evaluated) -> None:
    known = Path("intfloat/e5-base-v2")
    shutil.copytree(models / "bert", known)
    (known / "config_sentence_transformers.json").unlink()
    known.with_name("own").symlink_to(known.resolve())
    summary, found, _ = evaluated("--shown", 1, *SHORT, encoder=known)
    assert [summary["encoder"][name] for name in PREFIXES] == ["query: ", "passage: "]
    summary, other, _ = evaluated("--shown", 1, *SHORT, encoder=known.with_name("own"))
    assert [summary["encoder"][name] for name in PREFIXES] == ["", ""]
    assert [row["ranked_scores"] for row in found] != [row["ranked_scores"] for row in other]


def test_an_encoder_of_which_nothing_says_its_prefixes_is_told(
    folder: Path, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models / "bert", "mine")
    (Path("mine") / "config_sentence_transformers.json").unlink()
    monkeypatch.setattr(evaluate, "PRESETS", Path("absent.yaml"))
    given = ("--reader", models / "qwen", "--input", "questions.jsonl", "--output", "out", "--shown", 1, *SHORT)
    for stated, times in (((), 1), (("--query-prefix", "a", "--passage-prefix", ""), 0)):
        run("--encoder", "mine", *stated, *given, monkeypatch=monkeypatch)
        told = capsys.readouterr().err
        assert told.count("encoder 'mine': nothing says which prefixes its authors use") == times
        assert told.count("Say --query-prefix and --passage-prefix.\n") == times


def test_a_corpus_adds_passages(folder: Path, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = ROWS[0]["passages"][0]
    more = [{"passage_id": "more", "text": f"{ROWS[0]['query']} {ROWS[0]['query']}"}, {"passage_id": 7, "text": " "}]
    write_lines("more.jsonl", [*more, {"passage_id": "again", "text": taken["text"]}])
    summary, rows, _ = evaluated("--corpus", "more.jsonl", "--shown", 1, *SHORT, encoder="bm25")
    assert rows[0]["ranked_ids"][0] == "more" and not any("again" in row["ranked_ids"] for row in rows)
    assert summary["counts"]["passages"] == 12 and summary["counts"]["left_out"]["empty_corpus_passages"] == 1


def test_a_corpus_that_does_not_fit_is_refused(folder: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("--encoder", "bm25", "--reader", models / "qwen", "--input", "questions.jsonl", "--output", "out")
    for row, says in [
        ({"passage_id": ROWS[0]["passages"][0]["passage_id"], "text": "Another."}, "is of two texts, 'Another.' and"),
        ({"id": 3, "text": "Another."}, "unknown layout, found keys ['id', 'text']. Known: passage_id and text"),
        ({"passage_id": None, "text": "Another."}, "passage_id should be text or a whole number, is None"),
    ]:
        write_lines("more.jsonl", [row])
        message = refused(*asked, "--corpus", "more.jsonl", monkeypatch=monkeypatch)
        assert message.startswith("error: more.jsonl, line 1: ") and says in message


def test_reader_of_the_project_is_asked_as_it_says_unless_told(
    folder: Path, models: Path, evaluated: Evaluated
) -> None:
    own = Path("models/readers/mine")
    own.mkdir(parents=True)
    for file in (models / "qwen").iterdir():
        (own / file.name).symlink_to(file)
    save_settings(own, ReaderSettings("{passage} {query}", "float32", 60, 2, stop=["goat"]))
    summary, first, _ = evaluated("--shown", 1, reader="mine")
    asked = summary["reader"]
    assert (asked["model"], asked["prompt"], asked["max_length"]) == ("mine", "{passage} {query}", 60)
    summary, then, _ = evaluated("--shown", 1, "--prompt", "{query} {passage}", reader="mine")
    asked = summary["reader"]
    assert (asked["prompt"], asked["max_length"], asked["stop"]) == ("{query} {passage}", 60, ["goat"])
    assert [row["answer_nll"] for row in first] != [row["answer_nll"] for row in then]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--encoder": "absent"}, "is not reached, and the cache does not hold it. Connect; or `hf download absent`"),
        ({"--encoder": "./absent"}, "model './absent': no such folder"),
        ({"--encoder": "qwen"}, "encoder 'qwen': does not carry 1_Pooling/config.json. Say --pooling"),
        ({"--encoder": "qwen", "--pooling": "mean"}, "qwen is a decoder"),
        ({"--encoder-max-length": 9999}, "max_length is 9999. Say --encoder-max-length"),
        ({"--reader": "absent"}, "is not reached, and the cache does not hold it. Connect; or `hf download absent`"),
        ({"--input": "absent.jsonl"}, "absent.jsonl: no such file or folder"),
        ({"--range": "9:12"}, "no question is left of rows 9 to 12"),
        ({"--max-length": 40, "--max-new-tokens": 35}, "Raise readers.qwen.max_length"),
    ],
)
def test_input_that_cannot_be_used_is_named(
    change: dict[str, Any], says: str, folder: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in ("bert", "qwen"):
        Path(model).symlink_to(models / model)
    given = {"--encoder": "bert", "--reader": "qwen", "--input": "questions.jsonl", "--output": "out"} | change
    assert says in refused(*(part for pair in given.items() for part in pair), monkeypatch=monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give a run of params.yaml, or --encoder, --reader, --input, --output"),
        (["--encoder", "x", "--input", "x", "--output", "x"], "or --reader"),
        (["kl", "--shown", "0"], "must be 1 or more"),
        (["kl", "--prompt", "Answer:"], "{passage}"),
        (["kl", "--range", "7"], "FIRST:LAST"),
    ],
)
def test_options_that_cannot_be_meant_are_usage_errors(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*arguments, monkeypatch=monkeypatch)
    assert caught.value.code == 2 and says in capsys.readouterr().err


def test_help_tells_every_option(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--help", monkeypatch=monkeypatch)
    told = capsys.readouterr().out
    assert caught.value.code == 0 and "--encoder-revision" in told and "with 95% intervals" in " ".join(told.split())
    assert [path.name for path in folder.iterdir()] == ["questions.jsonl"]

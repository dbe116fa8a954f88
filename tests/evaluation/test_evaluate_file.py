"""`python src/evaluate_file.py` as a user runs it: any encoder and reader, on a file of their own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import pytrec_eval
import tiny
from saved_reader import save_reader

import evaluate_file
from bitter_retrieval.evaluation import embeddings
from bitter_retrieval.readers.language_model import ReaderSettings, save_settings
from bitter_retrieval.records import PREDICTIONS, PREPARED, Row, read_rows, write_rows
from bitter_retrieval.statistics.statistics import Design

ROWS = tiny.world(6)
LONG = "Ashby " * 99


def selected(row: Row) -> Row:
    return row | {"passages": [p | {"is_selected": int(p["role"] == "plain")} for p in row["passages"]]}


SHORT = ("--max-new-tokens", 2)
PREFIXES = ("query_prefix", "passage_prefix")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder and a reader as their libraries save them."""
    folder = tmp_path_factory.mktemp("models")
    tiny.tiny_encoder().save(folder / "bert")
    save_reader(folder / "qwen")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command's folder, with questions.jsonl, of which the last has no selected passage."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(evaluate_file, "keep_freed_memory", lambda: None)
    write_lines("questions.jsonl", [selected(row) for row in ROWS[:-1]] + [ROWS[-1]])
    return tmp_path


def write_lines(path: str, rows: list[Row]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(*arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    commands.run(evaluate_file, *arguments, monkeypatch=monkeypatch)


def refused(*arguments: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The last line of a command that writes nothing."""
    message = commands.refused(evaluate_file, *arguments, monkeypatch=monkeypatch)
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


def test_texts_that_lose_their_tail_are_told_with_the_name_that_was_given(
    evaluated: Evaluated, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluated("--encoder-max-length", 4, *SHORT)
    said = [record.getMessage() for record in caplog.records if "lost their tail" in record.getMessage()]
    assert said and all(line.startswith(f"{models / 'bert'}: ") for line in said)


def test_no_right_answer_is_not_certainty(evaluated: Evaluated) -> None:
    summary, rows, told = evaluated(*SHORT)
    assert not any(row["em"] for row in rows)
    found = summary["answers"]["1"]["em"]
    assert (found["mean"], found["low"]) == (0, 0) and found["high"] == pytest.approx(1 - 0.025 ** (1 / 3))
    assert "0.000 to 0.708" in told


def test_what_was_done_once_is_not_done_again_outside_dvc_either(
    evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluated(*SHORT)
    monkeypatch.setattr(embeddings, "load_encoder", None)
    for work in ("generation._generate", "answer_loss.Scorer.score"):
        monkeypatch.setattr(f"bitter_retrieval.readers.{work}", lambda *given, **settings: pytest.fail("is done again"))
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


def test_questions_without_a_matching_word_and_fields_that_are_not_read_are_told(
    folder: Path, evaluated: Evaluated
) -> None:
    write_lines("odd.jsonl", [*(row | {"note": "x"} for row in ROWS[:5]), ROWS[5] | {"query": "zzz?"}])
    write_lines("more.jsonl", [{"passage_id": "more", "text": "More.", "url": "u"}])
    given = ("--input", "odd.jsonl", "--corpus", "more.jsonl", "--shown", 1)
    summary, _, told = evaluated(*given, *SHORT, encoder="bm25")
    assert summary["counts"]["without_matching_word"] == 1 and "No passage has a word of 1 questions: BM25" in told
    assert summary["counts"]["left_out_fields"] == {"note": 5, "corpus.url": 1}
    assert "Fields that are not read: note 5, corpus.url 1." in told


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
    monkeypatch.setattr(evaluate_file, "PRESETS", Path("absent.yaml"))
    given = ("--reader", models / "qwen", "--input", "questions.jsonl", "--output", "out", "--shown", 1, *SHORT)
    for stated, times in (((), 1), (("--query-prefix", "a", "--passage-prefix", ""), 0)):
        run("--encoder", "mine", *stated, *given, monkeypatch=monkeypatch)
        told = capsys.readouterr().err
        assert told.count("encoder 'mine': nothing says which prefixes its authors use") == times
        assert told.count("Pass --query-prefix and --passage-prefix.\n") == times


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
        ({"passage_id": ROWS[0]["passages"][0]["passage_id"], "text": "Another."}, "has two texts, 'Another.' and"),
        ({"name": 3, "text": "Another."}, "unknown layout, found keys ['name', 'text']. Known: passage_id (or _id,"),
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
        (
            {"--encoder": "absent"},
            "cannot be reached, and the cache does not hold it. Connect; or run `hf download absent`",
        ),
        ({"--encoder": "./absent"}, "model './absent': no such folder"),
        ({"--encoder": "qwen"}, "encoder 'qwen': has no 1_Pooling/config.json. Pass --pooling"),
        ({"--encoder": "qwen", "--pooling": "mean"}, "qwen is a decoder"),
        ({"--encoder-max-length": 9999}, "max_length is 9999. Pass --encoder-max-length"),
        (
            {"--reader": "absent"},
            "cannot be reached, and the cache does not hold it. Connect; or run `hf download absent`",
        ),
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
        ([], "arguments are required: --encoder, --input, --output"),
        (["--encoder", "x", "--input", "x"], "arguments are required: --output"),
        (["--shown", "0"], "must be 1 or more"),
        (["--prompt", "Answer:"], "{passage}"),
        (["--range", "7"], "FIRST:LAST"),
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


def test_without_a_reader_retrieval_alone_is_measured(
    folder: Path, evaluated: Evaluated, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Its figures are those that a reader's evaluation has; nothing is said of answers."""
    whole, predictions, _ = evaluated(*SHORT, "--shown", 1)
    given = ("--encoder", models / "bert", "--input", "questions.jsonl")
    run(*given, "--output", "alone", monkeypatch=monkeypatch)
    alone = json.loads(Path("alone/summary.json").read_text())
    assert alone["retrieval"] == whole["retrieval"] and alone["reader"] is None and alone["answers"] == {}
    assert sorted(path.name for path in Path("alone").iterdir()) == ["rankings.parquet", "summary.json"]
    ranked = read_rows("alone/rankings.parquet", evaluate_file.RANKINGS)
    assert ranked == [{name: row[name] for name in evaluate_file.RANKED} for row in predictions]
    told = capsys.readouterr()
    assert "Retrieval" in told.out and "Answers from" not in told.out
    assert "evaluate_file: 6 of 6 questions in alone. " in told.err


# -- BEIR ------------------------------------------------------------------------------------------------------------

JUDGED = {"goat": {"0": 1, "3": 2, "2": 0, "9": -1}, "hen": {"7": 1}, "odd": {"19": 2}}  # query, passage, score


@pytest.fixture
def beir(folder: Path) -> Path:
    """Twenty passages, and three questions of test without answers: graded, plain, and without a word of theirs."""
    (folder / "set/qrels").mkdir(parents=True)
    tale = ["Ada owns a goat", "A goat", "Goat and goat", "No animal", "Goats", "A cow", "The goat that Ada owns"]
    texts = [*tale, "A hen", "A hen, a hen", *(f"Nothing of number {number}" for number in range(9, 20))]
    passages = [{"_id": str(place), "title": "", "text": text, "metadata": {}} for place, text in enumerate(texts)]
    write_lines("set/corpus.jsonl", passages)
    asked = {"goat": "owns a goat", "hen": "hen", "odd": "zzz", "other": "cow"}
    write_lines("set/queries.jsonl", [{"_id": name, "text": text} for name, text in asked.items()])
    head = "query-id\tcorpus-id\tscore\n"
    lines = [f"{query}\t{passage}\t{score}\n" for query, of in JUDGED.items() for passage, score in of.items()]
    Path("set/qrels/test.tsv").write_text(head + "".join(lines))
    Path("set/qrels/dev.tsv").write_text(f"{head}other\t5\t1\n")
    return Path("set")


def ranked(*arguments: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Summary and rankings of retrieval alone."""
    run("--input", "set", "--output", "out", *arguments, monkeypatch=monkeypatch)
    rows = read_rows("out/rankings.parquet", evaluate_file.RANKINGS)
    return json.loads(Path("out/summary.json").read_text()), {row["query_id"]: row["ranked_ids"] for row in rows}


@pytest.mark.parametrize("encoder", ["bm25", "bert"])
def test_figures_of_a_folder_of_beir_are_those_of_trec_eval(
    encoder: str, beir: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BEIR's own measures: its library gives pytrec_eval the qrels and the scores."""
    chosen = encoder if encoder == "bm25" else models / encoder
    summary, rankings = ranked("--encoder", chosen, monkeypatch=monkeypatch)
    names = {"ndcg_10": "ndcg_cut_10", "mrr_10": "recip_rank"} | {f"recall_{k}": f"recall_{k}" for k in (1, 5, 10)}
    scored = {query: {passage: -float(at) for at, passage in enumerate(of)} for query, of in rankings.items()}
    measures = {"ndcg_cut.10", "recall.1,5,10", "recip_rank"}
    wanted = pytrec_eval.RelevanceEvaluator(JUDGED, measures).evaluate(scored)
    assert list(rankings) == list(wanted) == ["goat", "hen", "odd"] and all(len(of) == 10 for of in rankings.values())
    for name, theirs in names.items():
        told = summary["retrieval"][name]
        assert told["mean"] == pytest.approx(np.mean([of[theirs] for of in wanted.values()])) and told["questions"] == 3
    counts = summary["counts"]
    assert (counts["questions"], counts["passages"], counts["without_human_label"]) == (3, 20, 0)


def test_grades_of_beir_count_and_equal_scores_rank_as_the_corpus_does(
    beir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: nothing but equal scores is below the passages with a word of the question, and 19 is the last of 20."""
    summary, rankings = ranked("--encoder", "bm25", monkeypatch=monkeypatch)
    at = [rankings["goat"].index(passage) + 1 for passage in ("0", "3")]
    best = 2 / np.log2(2) + 1 / np.log2(3)
    gained = (1 / np.log2(at[0] + 1) + 2 / np.log2(at[1] + 1)) / best
    hen = 1 / np.log2(rankings["hen"].index("7") + 2)
    assert at[0] < at[1] and rankings["odd"] == [str(place) for place in range(10)]
    assert summary["retrieval"]["ndcg_10"]["mean"] == pytest.approx((gained + hen + 0) / 3)
    assert summary["counts"]["without_matching_word"] == 1


def test_splits_and_further_passages_of_beir(beir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines("more.jsonl", [{"_id": "more", "text": "cow cow cow"}])
    asked = "--encoder", "bm25", "--corpus", "more.jsonl"
    summary, rankings = ranked(*asked, "--split", "dev", monkeypatch=monkeypatch)
    assert list(rankings) == ["other"] and set(rankings["other"][:2]) == {"5", "more"}
    assert summary["counts"]["passages"] == 21
    shutil.rmtree("out")
    message = refused(*asked, "--input", "set", "--output", "out", "--split", "train", monkeypatch=monkeypatch)
    assert message.endswith("qrels: no train.tsv. Ask for one of the splits ['dev', 'test'].")


def test_a_reader_needs_answers_that_beir_may_not_have(
    beir: Path, models: Path, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--encoder", "bm25", "--reader", models / "qwen", "--input", "set", "--output", "out")
    assert "no question is left of rows 0 to the end" in refused(*asked, monkeypatch=monkeypatch)
    rows = [json.loads(line) for line in Path("set/queries.jsonl").read_text().splitlines()]
    write_lines("set/queries.jsonl", [rows[0] | {"metadata": {"answers": ["goat"]}}, *rows[1:]])
    summary, found, _ = evaluated("--input", "set", "--shown", 1, *SHORT, encoder="bm25")
    assert [row["query_id"] for row in found] == ["goat"] and summary["counts"]["left_out"]["unanswerable"] == 2
    assert summary["answers"]["1"]["em"]["questions"] == 1 and summary["counts"]["passages"] == 20

"""`python src/label.py` as a user runs it: on a file of their own, in any folder, with any model; and as a stage."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tiny
import yaml

import label
from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.language_model import ReaderSettings, open_reader, save_settings
from bitter_retrieval.records import NO_PASSAGE, PREPARED, SOFT_LABELS, Row, read_rows, write_rows
from bitter_retrieval.stage import run_stage

SCRIPT = Path(label.__file__)
ROWS = tiny.world(6)
TOO_LONG = "goat " * 99  # for --max-length 96


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 checkpoint: config, weights and tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "qwen"
    reader = tiny.tiny_reader(tokenizer="bpe")
    reader.model.save_pretrained(folder)
    reader.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs: questions.jsonl in the simple layout, and splits, one of them in MS MARCO's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    simple = [{"query": r["query"], "answers": r["answers"], "passages": texts(r)} for r in ROWS]
    marco = [
        {
            "query_id": place,
            "query": row["query"],
            "query_type": "entity",
            "wellFormedAnswers": [],
            "answers": [*row["answers"], "No Answer Present."],
            "passages": {"is_selected": [1, 0, 0], "passage_text": texts(row), "url": ["", "", ""]},
        }
        for place, row in enumerate(ROWS)
    ]
    (tmp_path / "data").mkdir()
    write_lines(tmp_path / "questions.jsonl", simple)
    write_lines(tmp_path / "data" / "train-00000-of-00001.jsonl", simple)
    write_lines(tmp_path / "data" / "validation-00000-of-00001.jsonl", marco)
    return tmp_path


def texts(row: Row) -> list[str]:
    return [passage["text"] for passage in row["passages"]]


def write_lines(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(*arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["label.py", *map(str, arguments)])
    run_stage(label.main)


def refused(*arguments: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The line that the command ends with; it has written nothing."""
    with pytest.raises(SystemExit) as caught:
        run(*arguments, monkeypatch=monkeypatch)
    message = caught.value.code  # a text: printed to stderr, exit status 1
    assert isinstance(message, str) and message.startswith("error: ") and "\n" not in message
    assert not list(Path().glob("labels*"))
    return message


def losses(model: Path, rows: list[Row], **settings: Any) -> list[float]:
    """Of each row's passages, and no passage, with its first answer."""
    reader = open_reader("x", str(model), None, ReaderSettings(**{**ASKED, **settings}))
    asked = [Triple(row["query"], text, row["answers"][0]) for row in rows for text in [*texts(row), ""]]
    return [score.nll_sum for score in Scorer(reader, 10**6).score(asked)]


ASKED = {"prompt": label.PROMPT, "dtype": "float32", "max_length": 1024, "max_new_tokens": 0}


# -- a file of one's own ---------------------------------------------------------------------------------------------


def command(*arguments: Any, folder: Path) -> subprocess.CompletedProcess[str]:
    asked = [sys.executable, str(SCRIPT), *map(str, arguments)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(asked, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_help_tells_every_option_and_its_default(folder: Path) -> None:
    told = command("--help", folder=folder)
    assert told.returncode == 0 and told.stderr == ""
    assert "--input" in told.stdout and "default: 8192" in told.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["data", "questions.jsonl"]


def test_command_labels_a_file(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--model", model, "--input", "questions.jsonl", "--output", "out/labels.parquet")
    done = command(*arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1 and "24 triples, 0 of them from the journal" in done.stderr
    assert pq.read_schema(folder / "out/labels.parquet").names == SOFT_LABELS.names
    rows = read_rows(folder / "out/labels.parquet", SOFT_LABELS)
    assert [row["nll_sum"] for row in rows] == pytest.approx(losses(model, ROWS), abs=1e-4)
    assert [row["query_id"] for row in rows[::4]] == [f"questions-{line}" for line in range(1, 7)]
    assert all(row["passage_id"] == NO_PASSAGE for row in rows[3::4]) and {row["answer_index"] for row in rows} == {0}
    account = json.loads(done.stdout)
    assert (account["queries"], account["rows"], account["unscorable"]) == (6, 24, 0)
    assert account in [json.loads(path.read_text()) for path in (folder / "out").glob("labels*.json")]

    before = (folder / "out/labels.parquet").read_bytes()
    (folder / "out/labels.parquet").unlink()
    monkeypatch.setattr(Scorer, "_forward", None)  # nothing is computed
    run(*arguments, monkeypatch=monkeypatch)
    assert (folder / "out/labels.parquet").read_bytes() == before


def test_second_run_takes_everything_from_the_journal_and_says_so(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--model", model, "--input", "questions.jsonl", "--output", "labels.parquet")
    run(*arguments, "--range", "1:3", monkeypatch=monkeypatch)
    assert "8 triples, 0 of them from the journal" in capsys.readouterr().err
    run(*arguments, monkeypatch=monkeypatch)
    assert "24 triples, 8 of them from the journal" in capsys.readouterr().err
    run(*arguments, monkeypatch=monkeypatch)
    assert "24 triples, 24 of them from the journal" in capsys.readouterr().err
    run(*arguments, "--dtype", "bfloat16", monkeypatch=monkeypatch)
    assert "24 triples, 0 of them from the journal" in capsys.readouterr().err


@pytest.mark.parametrize(("split", "ids"), [("train", "train-00000-of-00001-{}"), ("validation", "{}")])
def test_split_of_a_folder_and_a_range_of_it(
    split: str, ids: str, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows in MS MARCO's layout have ids, counted from 0; the others are named by their lines, from 1."""
    chosen = ("--model", model, "--input", "data", "--split", split, "--range", "2:5", "--output", "labels.parquet")
    run(*chosen, monkeypatch=monkeypatch)
    rows = read_rows("labels.parquet", SOFT_LABELS)
    first = 3 if split == "train" else 2
    assert [row["query_id"] for row in rows[::4]] == [ids.format(first + n) for n in range(3)]
    assert [row["nll_sum"] for row in rows] == pytest.approx(losses(model, ROWS[2:5]), abs=1e-4)


def test_how_the_reader_is_asked(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"prompt": "{passage}\n{query}", "answer_end": ".", "dtype": "bfloat16", "max_length": 30}
    options = [part for name, value in asked.items() for part in (f"--{name.replace('_', '-')}", value)]
    run(
        *("--model", model, "--input", "questions.jsonl", "--output", "labels.parquet", *options),
        monkeypatch=monkeypatch,
    )
    rows = read_rows("labels.parquet", SOFT_LABELS)
    assert [row["nll_sum"] for row in rows] == pytest.approx(losses(model, ROWS, **asked), abs=0.02)
    assert rows[0]["nll_sum"] != pytest.approx(losses(model, ROWS)[0], abs=0.1)


def test_answer_that_cannot_be_scored_stops_or_is_counted(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"query": r["query"], "answers": r["answers"], "passages": texts(r)} for r in ROWS]
    write_lines(Path("questions.jsonl"), [*rows[:2], {**rows[2], "answers": ["Ashby", TOO_LONG]}, *rows[3:]])
    limit = ("--model", model, "--input", "questions.jsonl", "--output", "labels.parquet", "--max-length", 96)
    assert repr(rows[2]["query"]) in refused(*limit, monkeypatch=monkeypatch)
    capsys.readouterr()
    run(*limit, "--unscorable", "skip", monkeypatch=monkeypatch)
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if "left without a label" in line]
    assert len(lines) == 4 and all(repr(rows[2]["query"]) in line and line.endswith(".") for line in lines)
    account = json.loads(told.out)
    assert (account["queries"], account["rows"], account["unscorable"]) == (6, 24, 4)
    found = read_rows("labels.parquet", SOFT_LABELS)
    empty = [row for row in found if row["nll_sum"] is None]
    assert len(found) == 28 and all(row["n_tokens"] is None and row["answer_index"] == 1 for row in empty)
    assert {row["query_id"] for row in empty} == {"questions-3"} and len(empty) == 4


# -- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ([], ["--model", "--input", "--output"]),
        (["--model", "x"], ["--input", "--output"]),
        (["--model", "x", "--output", "o.parquet"], ["--input"]),
    ],
)
def test_what_is_missing_is_named(
    given: list[str], missing: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*given, monkeypatch=monkeypatch)
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: give a source of params.yaml, or {', '.join(missing)}\n")


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--range", "7", "FIRST:LAST"),
        ("--range", "a:b", "--range"),
        ("--batch-tokens", "0", "must be 1 or more"),
        ("--dtype", "float8", "bfloat16"),
        ("--prompt", "Answer:", "{passage}"),
        ("--prompt", "{query} {passage}: ", "no space at its end"),
    ],
)
def test_option_that_cannot_be_meant_is_a_usage_error(
    option: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--model", "x", "--input", "x", "--output", "x", option, value, monkeypatch=monkeypatch)
    assert caught.value.code == 2 and says in capsys.readouterr().err.splitlines()[-1]


def test_input_that_is_not_there_is_named(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--model", model, "--input", "question.jsonl", "--output", "labels.parquet")
    assert refused(*arguments, monkeypatch=monkeypatch).startswith("error: question.jsonl: no such file or folder.")


@pytest.mark.parametrize("absent", ["./models/absent", "absent", "somebody/absent", "./data"])
def test_model_that_is_not_there_is_named(absent: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--model", absent, "--input", "questions.jsonl", "--output", "labels.parquet")
    assert repr(absent) in refused(*arguments, monkeypatch=monkeypatch)


def test_chat_without_a_template_is_named(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--model", model, "--input", "questions.jsonl", "--output", "labels.parquet", "--chat")
    assert "chat" in refused(*arguments, monkeypatch=monkeypatch)


def test_input_is_never_written_over(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"query": r["query"], "answers": r["answers"], "passages": texts(r)} for r in ROWS]
    Path("mine.json").write_text(json.dumps(rows))
    run("--model", model, "--input", "mine.json", "--output", "mine.parquet", monkeypatch=monkeypatch)
    assert json.loads(Path("mine.json").read_text()) == rows


# -- a stage ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def stage(folder: Path, model: Path) -> Path:
    """Prepared splits, one with an answer that no reader here can take, and models/readers/reader_a."""
    tree = yaml.safe_load(tiny.PROFILE.read_text())
    tree["label"] |= {"mlflow": False, "unscorable": "skip", "batch_tokens": 300}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    for place, split in enumerate(label.SPLITS):
        rows = tiny.world(3, 3 * place)
        if split == "test":
            rows[1] = {**rows[1], "answers": [rows[1]["answers"][0], TOO_LONG]}
        write_rows(label.PREPARED_FOLDER / f"{split}.parquet", rows, PREPARED)
    reader = folder / "models/readers/reader_a"
    reader.parent.mkdir(parents=True)
    reader.symlink_to(model)
    save_settings(reader, ReaderSettings(**{**ASKED, "max_length": 96}))
    return folder


def test_stage_labels_every_split_and_accounts_for_it(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("reader_a", monkeypatch=monkeypatch)
    accounts = json.loads((label.METRICS / "reader_a.json").read_text())
    assert list(accounts) == list(label.SPLITS)
    assert [accounts[split]["unscorable"] for split in label.SPLITS] == [0, 0, 4]
    assert not any("second" in name for account in accounts.values() for name in account)  # no times in a DVC output
    for place, split in enumerate(label.SPLITS):
        rows = read_rows(label.LABELS / "reader_a" / f"{split}.parquet", SOFT_LABELS)
        found = [row["nll_sum"] for row in rows if row["answer_index"] == 0]
        assert found == pytest.approx(losses(stage / "models/readers/reader_a", tiny.world(3, 3 * place)), abs=1e-4)


def test_stage_that_is_run_again_writes_the_same_bytes(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [label.METRICS / "reader_a.json", *(label.LABELS / f"reader_a/{split}.parquet" for split in label.SPLITS)]
    written = []
    for _ in range(2):
        run("reader_a", monkeypatch=monkeypatch)
        written.append([file.read_bytes() for file in files])
        for file in files:
            file.unlink()
    assert written[0] == written[1]


def test_source_that_params_do_not_have_is_named(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "reader_x" in (message := refused("reader_x", monkeypatch=monkeypatch)) and "reader_a" in message

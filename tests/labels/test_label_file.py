"""`python src/label_file.py` as a user runs it: on their own file, in any folder, with any model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import commands
import pyarrow.parquet as pq
import pytest
import tiny
from saved_reader import TOO_LONG, losses, save_reader, texts

import label_file
from bitter_retrieval.readers.answer_loss import Scorer
from bitter_retrieval.records import NO_PASSAGE, SOFT_LABELS, Row, read_rows

SCRIPT = Path(label_file.__file__)
ROWS = tiny.world(6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_reader(tmp_path_factory.mktemp("models") / "qwen")


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


def write_lines(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(*arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    commands.run(label_file, *arguments, monkeypatch=monkeypatch)


def refused(*arguments: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The last line of a command that has written nothing."""
    message = commands.refused(label_file, *arguments, monkeypatch=monkeypatch)
    assert not list(Path().glob("labels*"))
    return message


# -- your own file ---------------------------------------------------------------------------------------------------


def command(*arguments: Any, folder: Path) -> subprocess.CompletedProcess[str]:
    asked = [sys.executable, str(SCRIPT), *map(str, arguments)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(asked, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_help_tells_every_option_and_its_default(folder: Path) -> None:
    told = command("--help", folder=folder)
    assert told.returncode == 0 and told.stderr == ""
    shown = " ".join(told.stdout.split())  # lines are broken by their length
    assert "--input" in shown and "default: 8192" in shown
    assert sorted(path.name for path in folder.iterdir()) == ["data", "questions.jsonl"]


def test_command_labels_a_file(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--model", model, "--input", "questions.jsonl", "--output", "out/labels.parquet")
    done = command(*arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 2 and "24 triples, 0 of them from the journal" in done.stderr
    assert pq.read_schema(folder / "out/labels.parquet").names == SOFT_LABELS.names
    rows = read_rows(folder / "out/labels.parquet", SOFT_LABELS)
    assert [row["nll_sum"] for row in rows] == pytest.approx(losses(model, ROWS), abs=1e-4)
    assert [row["query_id"] for row in rows[::4]] == [f"questions-{line}" for line in range(1, 7)]
    assert all(row["passage_id"] == NO_PASSAGE for row in rows[3::4]) and {row["answer_index"] for row in rows} == {0}
    account = json.loads((folder / "out/labels.account.json").read_text())
    assert (account["queries"], account["rows"], account["unscorable"]) == (6, 24, 0)
    shown = [line.strip().rsplit(None, 1) for line in done.stdout.splitlines() if line.strip()]
    shown = [[words.strip(), value] for words, value in shown if value.strip("─")]
    assert [" ".join(line) for line in shown[:3]] == [
        "questions 6",
        "labels: every candidate and no passage, by every reference 24",
        "of them without a loss 0",
    ]
    assert ["gain of a passage over none, mean, nats a token", f"{account['gain']['mean']:+.3f}"] in shown
    assert re.search(r"^label_file: 24 of 24 losses in out/labels.parquet\. \d+ s, no warnings\.$", done.stderr, re.M)

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
    account = json.loads(Path("labels.account.json").read_text())
    assert (account["queries"], account["rows"], account["unscorable"]) == (6, 24, 4)
    assert re.search(r"of them without a loss +4 *$", told.out, re.M)
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
    assert capsys.readouterr().err.endswith(f"error: the following arguments are required: {', '.join(missing)}\n")


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

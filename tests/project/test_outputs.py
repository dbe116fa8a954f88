"""No command writes over what it reads, by whatever name or link; what cannot be written is told before the work.

No model is there: a command that began its work would say so instead.
"""

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import comparison_world as world
import pytest
import tiny
import yaml
from commands import refused

import choose_prompt
import derive
import evaluate_file
import label_file
import trec
from bitter_retrieval.command_line import OutputError, check_output
from bitter_retrieval.labels.settings import MinedNegatives
from bitter_retrieval.records import BINARY_LABELS, PREPARED, write_rows

LINKS: dict[str, Callable[[Path, Path], object]] = {
    "itself": lambda given, link: None,
    "a symbolic link": lambda given, link: link.symlink_to(given.absolute()),
    "a hard link": lambda given, link: os.link(given, link),
}
Command = tuple[ModuleType, str, list[str]]  # the script, the file that it would write over, its other arguments
COMMANDS: list[Command] = [
    (label_file, "mine.parquet", ["--input", "mine.parquet", "--model", "./none"]),
    (label_file, "splits/train.parquet", ["--input", "splits", "--split", "train", "--model", "./none"]),
    (label_file, "model/weights.gguf", ["--input", "mine.parquet", "--model", "model/weights.gguf"]),
    (choose_prompt, "params.yaml", ["reader_a"]),
    (choose_prompt, "data/prepared/validation.parquet", ["reader_a"]),
    (choose_prompt, "models/readers/reader_a/config.json", ["reader_a"]),
]
MINE = ["--input", "found/predictions.parquet", "--encoder", "bm25", "--reader", "./none"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("mine", "splits/train", "data/prepared/validation", "found/predictions"):
        write_rows(f"{name}.parquet", tiny.world(3), PREPARED)
    for name in ("model/weights.gguf", "models/readers/reader_a/config.json"):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_text("{}")
    tree = yaml.safe_load(tiny.PROFILE.read_text())
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize(("script", "given", "arguments"), COMMANDS)
def test_no_command_writes_over_its_input(
    folder: Path, monkeypatch: pytest.MonkeyPatch, script: ModuleType, given: str, arguments: list[str], link: str
) -> None:
    output = Path(given) if link == "itself" else Path("linked.parquet")
    LINKS[link](Path(given), output)
    before = contents(folder)
    for spelt in (output, Path("splits") / ".." / output, output.absolute()):
        said = refused(script, *arguments, "--output", spelt, monkeypatch=monkeypatch)
        assert said.startswith(f"error: {spelt}: ") and "Name another" in said, said
    assert contents(folder) == before


@pytest.mark.parametrize(("given", "option"), [("predictions.parquet", "--input"), ("summary.json", "--corpus")])
@pytest.mark.parametrize("link", LINKS)
def test_evaluate_file_writes_over_neither_questions_nor_corpus(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: str, option: str, link: str
) -> None:
    """Its output is a folder, whose files have fixed names."""
    written = Path("found") / given
    read = written
    if link != "itself":
        read = Path("mine.parquet")
        written.unlink(missing_ok=True)
        LINKS[link](read, written)
    elif not written.exists():
        written.write_text('{"passage_id": "a", "text": "b"}\n')
    before = contents(folder)
    arguments = ["--encoder", "bm25", "--reader", "./none", "--output", "found", option, read]
    arguments += [] if option == "--input" else ["--input", "splits/train.parquet"]
    said = refused(evaluate_file, *arguments, monkeypatch=monkeypatch)
    assert said == f"error: {written}: is an input ({read}), which is never written over. Name another --output."
    assert contents(folder) == before


def test_a_folder_of_splits_gets_no_file_that_would_be_read_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(
        label_file, "--input", "splits", "--model", "./none", "--output", "splits/new.parquet", monkeypatch=monkeypatch
    )
    assert said.startswith("error: splits/new.parquet: would lie in the input folder splits.")
    arguments = ["--input", "splits", "--encoder", "bm25", "--reader", "./none", "--output", "./splits/../splits"]
    assert "would lie in the input folder" in refused(evaluate_file, *arguments, monkeypatch=monkeypatch)


def test_trec_writes_through_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write_workspace(tmp_path)
    Path("trec").mkdir()
    labels = Path("data/labels/human/test.parquet")
    before = labels.read_bytes()
    Path("trec/human.qrels").symlink_to(labels.absolute())
    said = refused(trec, "infonce_a", "--output", "trec", monkeypatch=monkeypatch)
    assert said == (
        f"error: trec/human.qrels: is an input ({labels}), which is never written over. Name another --output."
    )
    assert labels.read_bytes() == before


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("splits", "splits: is a folder"),
        ("mine.parquet/x", "/mine.parquet: is no folder, so mine.parquet/x cannot be written"),
        ("mine.parquet/x/y", "/mine.parquet: is no folder"),
        (".", ".: is a folder"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, file: str, says: str
) -> None:
    given = ["--input", "mine.parquet", "--model", "./none", "--output", file]
    said = refused(label_file, *given, monkeypatch=monkeypatch)
    assert said.startswith("error: ") and says in said and "Name another --output" in said
    given = ["--encoder", "bm25", "--reader", "./none", "--input", "mine.parquet", "--output", "mine.parquet"]
    assert "is no folder" in refused(evaluate_file, *given, monkeypatch=monkeypatch)


def test_a_folder_that_may_not_be_written_to_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder)
    with pytest.raises(OutputError, match="may not be written to"):
        check_output([Path("new/deep/labels.parquet")], [])


def test_a_former_result_may_be_replaced_and_absent_inputs_do_not_matter() -> None:
    Path("labels.parquet").write_text("old")
    check_output([Path("labels.parquet"), Path("new/deep/x.json")], ["mine.parquet", "Qwen/none", None, "splits"])


def test_mined_labels_do_not_write_through_a_link_to_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """As DVC's cache links files, if it is told to."""
    labels = {split: tiny.truth(tiny.world(3)) for split in derive.SPLITS}
    for split, rows in labels.items():
        write_rows(f"data/labels/human/{split}.parquet", rows, BINARY_LABELS)
        Path("data/labels/hard").mkdir(exist_ok=True)
        os.link("mine.parquet", f"data/labels/hard/{split}.parquet")
    before = Path("mine.parquet").read_bytes()
    monkeypatch.setattr(derive, "first_checkpoint", lambda path: path)
    monkeypatch.setattr(derive, "load_encoder", lambda path: None)
    monkeypatch.setattr(derive, "mine", lambda *_: [])
    settings = MinedNegatives(kind="mined", needs="data/labels/human", encoder="x", per_query=2, depth=9, below=0.95)
    params = SimpleNamespace(label=SimpleNamespace(batch_tokens=1))
    derive.mined(Path("data/labels/hard"), dict.fromkeys(derive.SPLITS, tiny.world(3)), settings, params)
    assert Path("mine.parquet").read_bytes() == before
    same = [Path(f"data/labels/{name}/train.parquet").read_bytes() for name in ("human", "hard")]
    assert same[0] == same[1]

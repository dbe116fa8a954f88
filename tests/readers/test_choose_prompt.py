"""Choosing a prompt: every combination is tried on validation questions, and the figures are those of one alone."""

from pathlib import Path

import pytest
import tiny
import yaml
from saved_reader import ASKED, save_reader

import choose_prompt
from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.generation import generate_answers
from bitter_retrieval.readers.language_model import ReaderError, ReaderSettings, load_reader, save_settings
from bitter_retrieval.readers.prompts import Example
from bitter_retrieval.records import PREPARED, Row, write_rows
from bitter_retrieval.scoring import exact_match, f1

WORKED = [
    Example(f"{name} was born in {town}.", f"Where was {name} born?", town)
    for name, town in zip(tiny.NAMES[:4], tiny.TOWNS[4:8], strict=True)
]


def rows() -> list[Row]:
    """Validation questions, the last one without a passage that anybody selected."""
    found = tiny.world(6)
    for row in found[:5]:
        row["passages"] = [p | {"is_selected": int(p["role"] == "plain"), "role": None} for p in row["passages"]]
    found[5]["passages"] = [p | {"is_selected": 0, "role": None} for p in found[5]["passages"]]
    return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(choose_prompt, "keep_freed_memory", lambda: None)
    Path("params.yaml").write_text(yaml.safe_dump(yaml.safe_load(tiny.PROFILE.read_text())))
    write_rows(choose_prompt.ROWS, rows(), PREPARED)
    folder = save_reader(choose_prompt.READERS / "reader_a")
    save_settings(folder, ReaderSettings(**{**ASKED, "max_length": 200, "max_new_tokens": 4, "examples": WORKED}))
    return tmp_path


def test_every_combination_is_tried_on_the_questions_with_a_selection(project: Path) -> None:
    reader = load_reader(choose_prompt.READERS / "reader_a")
    questions = choose_prompt.shown(rows())
    assert [row["query_id"] for row, _ in questions] == [f"q{number}" for number in range(5)]
    assert all(text == next(p["text"] for p in row["passages"] if p["is_selected"]) for row, text in questions)
    found = list(choose_prompt.trials(reader, questions, 2048))
    assert [(trial.examples, trial.order, trial.chat) for trial in found] == [
        (count, order, False) for count in (0, 2, 4) for order in choose_prompt.ORDERS
    ]
    assert len({trial.nll for trial in found}) == len(found), "each is asked otherwise"


def test_figures_are_those_of_the_reader_asked_so(project: Path) -> None:
    order = "question first"
    stated = {**ASKED, "max_length": 200, "max_new_tokens": 4, "examples": WORKED[:2]}
    save_settings(
        choose_prompt.READERS / "reader_a", ReaderSettings(**stated | {"prompt": choose_prompt.ORDERS[order]})
    )
    reader = load_reader(choose_prompt.READERS / "reader_a")
    questions = choose_prompt.shown(rows())
    trial = choose_prompt.trial(reader, questions, 2048, 2, order)
    answers = [generate_answers(reader, [(row["query"], text)], 2048)[0].text for row, text in questions]
    losses = [Scorer(reader, 2048).score([Triple(r["query"], text, r["answers"][0])])[0] for r, text in questions]
    assert trial.em == sum(exact_match(a, r["answers"]) for a, (r, _) in zip(answers, questions, strict=True)) / 5
    assert trial.f1 == sum(f1(a, r["answers"]) for a, (r, _) in zip(answers, questions, strict=True)) / 5
    assert trial.nll == pytest.approx(sum(one.nll_sum / one.n_tokens for one in losses) / 5, abs=1e-5)


def test_the_table_is_printed_and_written_with_the_best_first(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choose_prompt.main(["reader_a", "--questions", "3", "--output", "prompts.md"])
    page = Path("prompts.md").read_text()
    assert page in capsys.readouterr().out and page.startswith("# Prompts of reader_a\n")
    table = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(table) == 6 and "--questions 3" in page
    assert [float(cells[3]) for cells in table] == sorted((float(cells[3]) for cells in table), reverse=True)


def test_without_a_selected_passage_nothing_is_tried(project: Path) -> None:
    write_rows(choose_prompt.ROWS, rows()[5:], PREPARED)
    with pytest.raises(ReaderError, match="no question has a passage that people selected"):
        choose_prompt.main(["reader_a"])

"""Texts are data: names, paths, answers and passages are shown as they stand, in terminals, on the page and cards."""

import io
import re
from pathlib import Path

import comparison_world as world
import pytest
from any_values import FEW, broken_texts
from hypothesis import given
from rich.table import Table

import compare
import judge
from bitter_retrieval.judging.judges import RuleJudge
from bitter_retrieval.plain_text import PlainConsole, plain
from bitter_retrieval.publishing.cards import Origin, page
from bitter_retrieval.records import PREDICTIONS, PREPARED, read_rows, write_rows
from bitter_retrieval.reporting import tables

NASTY = "[old]/[/x] \x1b[31mred\x1b]0;title\x07 :key: \x00\x9b1m\u202eabc \ud800 <script>alert(1)</script> | `x`"
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]")


def test_plain_text_keeps_what_people_write() -> None:
    written = "Ada\tBrenn\nzwölf 日本 שלום e\u0301 👩\u200d🔬 [b] <i> | :key:"
    assert plain(written) == written
    assert not STEERS.search(plain(NASTY)) and "<script>" in plain(NASTY)


@FEW
@given(broken_texts)
def test_any_text_becomes_plain(text: str) -> None:
    shown = plain(text)
    assert not STEERS.search(shown) and plain(shown) == shown and len(shown) <= len(text)
    assert shown == text or STEERS.search(text) or re.search("[\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    screen = PlainConsole(file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), force_terminal=True)
    screen.print(text)


def test_a_console_shows_markup_and_emoji_as_they_stand_and_no_control_characters() -> None:
    file = io.StringIO()
    screen = PlainConsole(file=file, force_terminal=True, color_system=None, width=300)
    table = Table(title=NASTY)
    table.add_column(NASTY)
    table.add_row(NASTY)
    screen.print(NASTY)
    screen.print(table)
    shown = file.getvalue()
    assert not STEERS.search(shown.replace("\n", "")) and shown.count("[old]/[/x]") == 4 and shown.count(":key:") == 4
    assert len({len(line) for line in shown.splitlines() if line.startswith("│")}) == 1, "columns stay aligned"


def test_styles_of_our_own_reach_a_terminal() -> None:
    file = io.StringIO()
    screen = tables.console(file=file, force_terminal=True, color_system="standard")
    screen.print(tables._verdict({"verdict": "better"}))
    assert file.getvalue() == "\x1b[32mbetter\x1b[0m\n"


def test_the_judge_ends_well_whatever_paths_and_names_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Odd(RuleJudge):
        name = about = "[old]/[/x] \x1b[31m"

    judge.report(Odd(), [{"verdict": "missing", "reason": "[old]/[/x] \x1b[31m"}])
    monkeypatch.setattr(judge, "RUNS", tmp_path / "[old]" / "[" / "x]")
    judge.RUNS.mkdir(parents=True)
    (judge.RUNS / "gone.parquet").write_text("")
    monkeypatch.setattr(judge, "asked", lambda params: [])
    monkeypatch.setattr(judge, "write_rows", lambda *_: None)
    monkeypatch.setattr(judge, "check_coverage", lambda *_: None)
    params = type("Params", (), {"runs": {}, "judge": type("Rule", (), {"min_coverage": None})})
    judge.judge_all(Odd(), params)
    said = capsys.readouterr().out
    assert "Judge [old]/[/x] [31m" in said and "[old]/[/x]/gone.parquet" in said and "\x1b" not in said


def test_the_page_and_the_tables_hold_no_control_character_and_no_foreign_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    nasty = NASTY.replace("\ud800", "")  # parquet holds no half character
    for file in Path("data/prepared").glob("*.parquet"):
        if not file.stem.endswith("corpus"):
            rows = read_rows(file, PREPARED)
            for row in rows:
                row["query"] += nasty
                row["passages"] = [one | {"text": one["text"] + nasty} for one in row["passages"]]
            write_rows(file, rows, PREPARED)
    for file in Path("data/predictions").rglob("*.parquet"):
        rows = [row | {"answer": row["answer"] + nasty} for row in read_rows(file, PREDICTIONS)]
        write_rows(file, rows, PREDICTIONS)
    monkeypatch.setattr("sys.argv", ["compare.py"])
    compare.main()
    html = Path("metrics/report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in html and "<script" not in html
    assert not STEERS.search(html.replace("\n", "")) and not STEERS.search(capsys.readouterr().out.replace("\n", ""))


def test_cells_of_markdown_are_cells_and_cards_hold_no_control_character() -> None:
    found = tables.markdown_table(["a"], [[NASTY + "\x0b\u2028new\r\nline"], ["<.001"]])
    lines = found.splitlines()
    assert (
        len(lines) == 4
        and "<script" not in found
        and "&lt;script>" in found
        and "\\| `x`" in found
        and "<.001" in found
    )
    origin = Origin("c0ffee", {"data": {"prompt": f"{NASTY}\n````\n<b>"}}, {NASTY: "d41d"}, [NASTY], "mit")

    class Data:
        def to_yaml(self) -> str:
            return "license: mit"

    card = page(Data(), "me/kl", [NASTY], origin)
    assert not STEERS.search(card.replace("\n", "")) and "`````yaml\n" in card

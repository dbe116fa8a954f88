"""The report of experiments with few or degenerate figures, and the page in a browser if one is installed.

Every case goes through the stage: undefined figures are explained in words, and nothing is divided by zero.
"""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comparison_world as world
import pytest
import yaml

import compare as stage
from bitter_retrieval.judging.judges import judgement_key, make_judge
from bitter_retrieval.params import load_params
from bitter_retrieval.records import (
    JUDGEMENTS,
    PREDICTIONS,
    PREPARED,
    SOFT_LABELS,
    RecordError,
    Row,
    read_rows,
    write_rows,
)
from bitter_retrieval.reporting import report as report_page
from bitter_retrieval.reporting import wording
from bitter_retrieval.statistics.outcomes import ComparisonError

pytestmark = pytest.mark.filterwarnings("error")

CHROMIUM = shutil.which("chromium")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    world.write_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compared() -> tuple[dict[str, Any], str]:
    """report.json, whose numbers must be finite, and the page's text without its pictures."""
    stage.main()
    made = json.loads(Path("metrics/report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    page = re.sub(r"data:image/png;base64,[^\"]*", "", Path("metrics/report.html").read_text())
    assert not re.search(r"\b(nan|inf|None)\b", page)
    return made, page


def change(path: Path | str, rows: Callable[[list[Row]], list[Row]]) -> None:
    write_rows(path, rows(read_rows(path, PREDICTIONS)), PREDICTIONS)


def runs() -> list[Path]:
    return [Path(f"data/predictions/runs/{name}.parquet") for name in world.RUNS]


def everything() -> list[Path]:
    return [*runs(), *(Path(f"data/predictions/controls/{name}.parquet") for name in world.CONTROLS)]


# -- what cannot be said ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["data/predictions/runs/infonce_a.parquet", "data/labels/truth/test.parquet"])
def test_a_file_that_is_cut_off_is_named_with_its_remedy(path: str) -> None:
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordError, match=rf"{path}: not a readable parquet file .*Delete it and run `dvc repro`"):
        stage.main()
    assert not list(Path("metrics").iterdir())


@pytest.mark.parametrize("kept", [lambda row: row["reader"] == "reader_a", lambda row: False])
def test_a_run_without_answers_of_a_reader_is_refused(kept: Callable[[Row], bool]) -> None:
    change("data/predictions/runs/infonce_a.parquet", lambda rows: [row for row in rows if kept(row)])
    with pytest.raises(
        ComparisonError, match=r"infonce_a.parquet has no answers of reader .*dvc repro evaluate@infonce_a"
    ):
        stage.main()


def test_a_control_without_answers_of_a_reader_is_told() -> None:
    for name, reader in {"oracle": "reader_b", "no_passage": "reader_a"}.items():
        path = f"data/predictions/controls/{name}.parquet"
        change(path, lambda rows, reader=reader: [row for row in rows if row["reader"] != reader])
    made, page = compared()
    assert "Control oracle: no answers of reader_b." in page and "Control no_passage: no answers of reader_a." in page
    assert (
        made["systems"]["infonce_a"]["scores"]["reader_a"]["harm"] is None
    )  # its answers without a passage are unknown
    assert made["systems"]["infonce_a"]["scores"]["reader_b"]["harm"]["mean"] == 1 / 8


def test_questions_that_bm25_cannot_rank_are_told_before_the_tables() -> None:
    """Each counts once, however many readers answer it."""
    made, page = compared()
    assert "without_matching_word" not in made["about"] and "No passage has a word" not in page
    nothing = {"ranked_scores": [0.0, 0.0]}
    path = Path("data/predictions/controls/bm25.parquet")
    change(path, lambda rows: [row | (nothing if row["query_id"] in ("q1", "q3") else {}) for row in rows])
    made, page = compared()
    assert made["about"]["without_matching_word"] == 2
    assert any(said.startswith("No passage has a word of 2 questions: BM25") for said in wording.warnings(made))
    assert "No passage has a word of 2 questions" in page


def test_answers_without_a_loss_are_told() -> None:
    assert "Answers without an NLL" not in compared()[1]

    def lost(row: Row) -> bool:
        return row["shown"] == 1 and (row["reader"] == "reader_b" or row["query_id"] == "q0")

    nothing = {"answer_nll": None}
    change(
        "data/predictions/runs/infonce_a.parquet", lambda rows: [row | (nothing if lost(row) else {}) for row in rows]
    )
    made, page = compared()
    told = (
        "(then they are empty, and wrong): infonce_a × reader_a with 1 shown 2, infonce_a × reader_b with 1 shown all."
    )
    assert told in page and made["systems"]["infonce_a"]["scores"]["reader_a"]["em"]["n_missing"] == 0


def test_one_question_has_means_and_no_interval() -> None:
    for split in ("train", "test"):
        write_rows(f"data/prepared/{split}.parquet", world.prepared()[:1], PREPARED)
    for path in everything():
        change(path, lambda rows: [row for row in rows if row["query_id"] == "q0"])
    made, page = compared()
    estimate = made["systems"]["infonce_a"]["scores"]["reader_a"]["em"]
    assert (estimate["mean"], estimate["low"], estimate["high"]) == (1, None, None)
    difference = made["differences"]["reader_a"]["em"]["kl_flat"]
    assert difference["mean"] == -1 and difference["verdict"] == "inconclusive"
    assert {difference[name] for name in ("low", "high", "p", "mde", "seed_sd")} == {None, 0}  # 0: both seeds
    assert "and other training seeds" in page  # there are two
    assert "1 test questions in 1 groups" in page and "±" not in re.sub(r"within ±2", "", page)


def test_the_stage_knows_what_controls_score_by_definition() -> None:
    scores = {name: system["scores"]["reader_a"] for name, system in compared()[0]["systems"].items()}
    certain = scores["annotated"]["retrieval"]
    assert certain["low"] == certain["high"] == 1
    assert scores["no_passage"]["harm"]["high"] == 0 < scores["untrained"]["em"]["high"]


def test_equal_runs_differ_on_no_question_which_is_not_shown_of_others() -> None:
    rows = read_rows("data/predictions/runs/infonce_human.parquet", PREDICTIONS)
    for path in runs():
        write_rows(path, [row | {"system": path.stem} for row in rows], PREDICTIONS)
    made, page = compared()
    for found in made["differences"]["reader_a"].values():
        assert {one["verdict"] for one in found.values()} == {"inconclusive"}
        ends = {(one["mean"], one["low"], one["high"], one["mde"]) for one in found.values()}
        assert ends == {(0, -0.841886, 0.841886, None)}  # of two groups
    assert "infonce_a and infonce_human differ on no\nquestion" in page and "answers any question exactly" not in page


def test_where_no_system_answers_anything_the_report_says_that_it_says_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = {"answer": "<b>Oskal</b>", "em": 0.0, "f1": 0.0}
    for path in everything():
        change(path, lambda rows: [row | (wrong if row["reader"] == "reader_a" else {}) for row in rows])
    made, page = compared()
    said = "With reader_a with 1 shown, reader_a with 5 shown, no run and no control answers over 2 points more"
    assert made["differences"]["reader_a"]["em"]["infonce_a"]["verdict"] == "inconclusive"  # of two groups
    assert said in page and said in " ".join(capsys.readouterr().out.split())


def informed(report: Any) -> Any:
    """The report, changed so that the order of labels is shown to matter."""
    for found in wording.readings(report).values():
        found["negative_controls"]["kl_flat"]["primary"]["verdict"] = "better"
    return report


def test_a_reader_that_passages_hardly_help_shows_nothing() -> None:
    made = informed(compared()[0])
    for name, system in made["systems"].items():
        system["scores"]["reader_a"]["em"] = {"mean": 0.05 if name == "no_passage" else 0.06}
    assert wording.warnings(made) and wording.warnings(made)[0].startswith("With reader_a with 1 shown, no run")
    made["systems"]["oracle"]["scores"]["reader_a"]["em"] = {"mean": 0.08}  # more than the margin of two points
    assert wording.warnings(made) == []
    for system in made["systems"].values():
        system["scores"]["reader_a"]["em"] = None
    assert wording.warnings(made) == []  # nothing was measured


def test_where_the_order_of_labels_is_not_shown_to_matter_it_is_said_before_the_tables() -> None:
    made = informed(compared()[0])
    assert wording.warnings(made) == []
    made["further"]["5"]["negative_controls"]["kl_flat"]["primary"]["verdict"] = "inconclusive"
    (said,) = wording.warnings(made)
    assert said.startswith("Not as expected: negative control kl_flat (its") and ", 5 shown: infonce_a is not" in said
    made["further"]["5"]["negative_controls"]["kl_flat"]["primary"] = None  # the primary run is the control itself
    assert wording.warnings(made) == []


def test_without_judgements_no_accuracy_is_said() -> None:
    write_rows("data/judgements.parquet", [], JUDGEMENTS)
    made, page = compared()
    assert made["differences"]["reader_a"]["accuracy"] == {} and made["missing"]["missing"] == 166
    assert "Answer accuracy: nothing to compare (not judged)." in page and "166 of 166 answers" in page


@pytest.mark.parametrize("metric", ["em", "answer_nll", "f1"])
def test_a_metric_that_a_run_lacks_everywhere_is_null_for_it_alone(metric: str) -> None:
    change("data/predictions/runs/infonce_a.parquet", lambda rows: [row | {metric: None} for row in rows])
    made, page = compared()
    assert made["systems"]["infonce_a"]["scores"]["reader_a"][metric] is None
    assert made["systems"]["infonce_human"]["scores"]["reader_a"][metric]["mean"] > 0
    if metric == "em":
        assert list(made["differences"]["reader_a"]["em"]) == ["kl_flat"]
        assert "infonce_a and infonce_human cannot be compared" in page and "kl_vs_infonce" not in Path(
            "metrics/summary.json"
        ).read_text(encoding="utf-8")
        assert "infonce_a and infonce_human differ on no\nquestion" in page  # whatever other runs answer


def test_a_baseline_that_lacks_the_metric_leaves_nothing_to_compare() -> None:
    change("data/predictions/runs/infonce_human.parquet", lambda rows: [row | {"em": None} for row in rows])
    made, page = compared()
    assert made["differences"]["reader_a"]["em"] == {} and "Exact match: nothing to compare." in page


# -- what the page shows ------------------------------------------------------------------------------------------


def test_label_sources_are_compared_in_both_splits() -> None:
    made, page = compared()
    assert made["label_agreement"]["train"] == made["label_agreement"]["test"]  # the made-up splits are one
    found = {(one["first"], one["second"]): one for one in made["label_agreement"]["test"]}
    assert len(found) == 10
    same = found["reader_a", "reader_b"]  # a quarter of a nat apart: one order, a tie on q2
    assert same["tau"]["mean"] == 1 and same["disagreement"]["mean"] == 0 and same["questions"] == 4
    humans = found["reader_a", "human"]
    assert humans["tau"] is None and humans["tied"] == 1 and humans["disagreement"]["mean"] == 0.5
    assert '<th scope="row">reader_a</th><td class="left">reader_b</td>\n<td>1.00' in page


def test_label_sources_that_can_nowhere_be_compared_get_dashes() -> None:
    level = [row | {"nll_sum": 1.0, "n_tokens": 1} for row in world.soft()]
    write_rows("data/labels/flat/test.parquet", level, SOFT_LABELS)
    made, page = compared()
    found = {(one["first"], one["second"]): one for one in made["label_agreement"]["test"]}["reader_a", "flat"]
    assert (found["questions"], found["tied"], found["chance"]) == (0, 4, None)
    assert found["tau"]["mean"] is None and found["disagreement"]["low"] is None
    assert "<td>-</td><td>-</td><td>-</td>\n<td>0</td><td>0 + 4</td>" in page


def test_every_source_encoder_and_loss_meets_every_reader_at_every_number_shown() -> None:
    made, page = compared()
    assert made["systems"]["infonce_a"]["encoder"] == made["systems"]["untrained"]["encoder"] == "mini"
    tables = re.findall(r"<caption>(\d) shown: exact match by the reader.*?</table>", page, re.DOTALL)
    assert tables == ["1", "5"]
    (five,) = re.findall(r"<caption>5 shown: exact match.*?</table>", page, re.DOTALL)
    row = re.search(r'<th scope="row">infonce_a</th>.*?</tr>', five, re.DOTALL)
    assert row and '<td class="left">mini</td>\n<td class="left losses">infonce_soft 1</td>' in row[0]
    assert row[0].count("87.5<small>") == 2 and row[0].count("<td>+12.5 [") == 2
    assert "bm25" in five and "oracle" not in five


def test_which_metrics_are_primary_and_how_many_passages_were_read_is_said() -> None:
    made, page = compared()
    assert made["about"]["primary_metrics"] == ["em"] and "is primary too" not in page
    assert re.findall(r"points\n\((\w+)\)", page) == ["primary"] + ["secondary"] * 2
    assert "answering from the top\n1 of" in page and "reader_a answered from the top 1." in page
    params = yaml.safe_load(Path("params.yaml").read_text())
    scoring = {"revision": None, "dtype": "float32", "chat": False, "max_length": 9, "batch_tokens": 9}
    params["judge"] = {"kind": "llm", "model": "reader_b", "min_coverage": 0.5, "scoring": scoring}
    params["evaluate"]["shown"] = [5, 1]
    Path("params.yaml").write_text(yaml.safe_dump(params))
    who = make_judge(load_params().judge)
    keys = [judgement_key(row["query"], ["Calder"], "the Calder", who.name, who.model) for row in world.prepared()]
    said = {"verdict": "correct", "reason": None, "judge": who.name, "model": who.model}
    write_rows("data/judgements.parquet", [said | {"key": key} for key in keys], JUDGEMENTS)
    made, page = compared()
    assert re.findall(r"points\n\((\w+)\)", page) == ["primary"] * 2 + ["secondary"] * 2
    assert made["about"]["primary_metrics"] == ["em", "accuracy"]
    assert "The same difference in answer accuracy is primary too." in page
    assert "reader_a answered from the top 5." in page and "ranked first, from which" not in page


@pytest.mark.parametrize("judged", [True, False])
def test_accuracy_that_repeats_exact_match_has_no_column(judged: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """It does under the rule judge; a judgement that is missing is a difference, and stays to be seen."""
    if not judged:
        write_rows("data/judgements.parquet", read_rows("data/judgements.parquet", JUDGEMENTS)[1:], JUDGEMENTS)
    made, page = compared()
    scores = made["systems"]["infonce_a"]["scores"]["reader_a"]
    assert scores["accuracy"]["mean"] is not None and (scores["accuracy"] == scores["em"]) == judged
    assert ("<th>Answer accuracy</th>" not in page) == ("Answer accuracy with" not in page) == judged
    assert ("left out" in re.search("Answer accuracy is judged by.*?</p>", page, re.DOTALL)[0]) == judged
    assert bool(re.search(r"^ system .* accuracy ", capsys.readouterr().out, re.MULTILINE)) != judged


def test_an_interval_beyond_what_shares_can_differ_by_does_not_squeeze_the_others() -> None:
    made, page = compared()
    infonce_a = made["differences"]["reader_a"]["em"]["infonce_a"]
    assert infonce_a["mean"] == 0.5 and infonce_a["high"] > 1
    assert '<circle cx="115.0"' in page  # half of the way from the middle, 80, to the margin of 10


def test_an_interval_outside_the_picture_has_its_dot_and_a_mark_at_the_edge() -> None:
    made, _ = compared()
    found = made["differences"]["reader_a"]["em"]
    exact = dict.fromkeys(("low", "mean", "high"))
    found["infonce_a"] |= {"low": -0.01, "mean": 0.01, "high": 0.04}  # sets the scale
    found["kl_flat"] |= {"low": -0.3, "mean": -0.2, "high": -0.01}
    bars = report_page._bars(made, "em")["runs"]
    assert bars["kl_flat"] == {"low": 10.0, "mean": 10.0, "high": 62.5, "beyond": [-1], "outside": True}
    assert bars["infonce_a"] == {"low": 62.5, "mean": 97.5, "high": 150.0, "beyond": [], "outside": False}
    found["kl_flat"] |= {"low": -0.05, "mean": 0.0, "high": 0.05}
    assert report_page._bars(made, "em")["runs"]["kl_flat"]["beyond"] == [-1, 1]
    found["kl_flat"] |= exact
    assert report_page._bars(made, "em")["runs"]["kl_flat"] == exact | {"beyond": [], "outside": False}
    found["infonce_a"] |= {"low": -1.02, "mean": 0.5, "high": 1.3}  # impossible, not outside
    assert report_page._bars(made, "em")["runs"]["infonce_a"]["beyond"] == []


def test_the_page_marks_what_its_pictures_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = report_page._bars

    def narrow(made: Any, metric: str) -> Any:
        for found in made["differences"]["reader_a"].values():
            found["infonce_a"] |= {"low": -0.001, "mean": 0.0, "high": 0.001}  # the primary run sets the scale
        return drawn(made, metric)

    monkeypatch.setattr(report_page, "_bars", narrow)
    _, page = compared()
    bars = set(re.findall(r"<svg(?:(?!</svg>).)*?<path.*?</svg>", page, re.DOTALL))
    outside = [one for one in bars if '<circle cx="10.0" cy="9" r="3.5" fill="#fff"' in one]
    assert outside and all('<path d="M1 9' in one for one in outside)


def test_parameters_that_are_not_set_are_not_listed_and_files_have_their_md5() -> None:
    _, page = compared()
    assert '<th scope="row">runs.infonce_a.losses.infonce_soft</th><td>1.0</td>' in page and ">null<" not in page
    digest = hashlib.md5(Path("data/predictions/runs/infonce_a.parquet").read_bytes()).hexdigest()
    assert f'<th scope="row">data/predictions/runs/infonce_a.parquet</th><td>{digest}</td>' in page
    assert "runs.infonce_a.seeds" not in page and yaml.safe_load(Path("params.yaml").read_text())["runs"]["infonce_a"]


PROBE = """<script>addEventListener("load", () => {
  const wide = [...document.querySelectorAll(".wide")].filter(one => one.scrollWidth > one.clientWidth);
  const images = [...document.images];
  parent.postMessage(JSON.stringify({
    window: innerWidth, page: document.documentElement.scrollWidth, boxes: wide.length,
    captions: Math.max(...[...document.querySelectorAll("caption")].map(one => one.offsetWidth)),
    scrolls: wide.every(one => getComputedStyle(one).overflowX == "auto"),
    drawn: images.filter(one => one.complete && one.naturalWidth > 100 && one.width <= innerWidth).length}), "*");
});</script>"""
FRAME = """<title></title><script>onmessage = said => document.title = said.data</script>
<iframe src="probe.html" width="{}" height="900" style="border: 0">"""  # a window is never narrower than 500


@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_shows_every_picture_and_no_line_is_wider_than_the_window(width: int, workspace: Path) -> None:
    stage.main()
    page = Path("metrics/report.html").read_text().replace("<details", "<details open")
    (workspace / "probe.html").write_text(page + PROBE)
    (workspace / "frame.html").write_text(FRAME.format(width))
    done = browse(workspace, (workspace / "frame.html").as_uri())
    found = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    assert found["window"] == width and found["page"] <= width and found["captions"] <= width
    assert found["drawn"] == 4 and found["scrolls"] and (found["boxes"] > 0) == (width == 400)
    assert "CONSOLE" not in done.stderr, done.stderr


@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
def test_the_browser_would_tell_of_an_error(workspace: Path) -> None:
    (workspace / "wrong.html").write_text("<script>undefined_name</script>")
    assert "CONSOLE" in browse(workspace, (workspace / "wrong.html").as_uri()).stderr


def browse(folder: Path, address: str) -> subprocess.CompletedProcess[str]:
    """Chromium without a network: the page after its scripts on stdout, its console on stderr."""
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars"]
    patient = ["--dump-dom", "--virtual-time-budget=2000"]  # milliseconds
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", "--disable-sync"]
    command = [str(CHROMIUM), *quiet, *offline, *patient, f"--user-data-dir={folder / 'profile'}", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

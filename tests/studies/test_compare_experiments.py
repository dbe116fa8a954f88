"""compare_experiments on a repository in which DVC ran, failed to run, and has yet to run experiments."""

import json
import os
import subprocess
import sys
from pathlib import Path

import comparison_world as world
import numpy as np
import pytest
from commands import refused, run

import compare_experiments
from bitter_retrieval.records import PREPARED, write_rows
from bitter_retrieval.reporting import wording
from bitter_retrieval.statistics.comparison import plain
from bitter_retrieval.statistics.statistics import Design
from bitter_retrieval.studies import parameter_plot, revisions
from bitter_retrieval.typed_yaml import read_yaml, write_yaml

REPOSITORY = Path(__file__).parents[2]
MORE = ["aaab+++-", "aaaa+++-"]  # of infonce_a with 5 epochs: first passages and answers, as in comparison_world
MAKE = f"""\
import sys
sys.path[:0] = {[str(REPOSITORY / "src"), str(REPOSITORY / "tests"), str(Path(__file__).parent)]}
import test_compare_experiments
test_compare_experiments.make()
"""
STAGE = """\
stages:
  compare:
    cmd: python make.py
    params:
    - params.yaml:
    outs:
    - data
    - metrics/report.json: {cache: false}
    metrics:
    - metrics/summary.json: {cache: false}
"""
GIT = {f"GIT_{who}_{what}": "n@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def make() -> None:
    """All that the stages of the experiment write, in a few lines."""
    from bitter_retrieval.judging.judges import Case, RuleJudge, judgements
    from bitter_retrieval.records import (
        BINARY_LABELS,
        CORPUS,
        JUDGEMENTS,
        PREDICTIONS,
        PREPARED,
        write_json,
        write_rows,
    )

    params = read_yaml("params.yaml")
    epochs, rows = params["train"]["epochs"], world.prepared()
    if epochs == 13:
        sys.exit("no thirteenth epoch")
    runs = world.RUNS | ({"infonce_a": MORE} if epochs == 5 else {})
    write_rows("data/prepared/test.parquet", rows, PREPARED)
    write_rows("data/prepared/corpus.parquet", [], CORPUS)
    write_rows("data/labels/human/test.parquet", world.human(), BINARY_LABELS)
    for name, told in runs.items():
        write_rows(f"data/predictions/runs/{name}.parquet", world.predictions(name, told), PREDICTIONS)
    cases = [Case(row["query"], ("Calder",), answer) for row in rows for answer in ("the Calder", "<b>Oskal</b>")]
    write_rows("data/judgements.parquet", judgements(RuleJudge(), cases), JUDGEMENTS)
    design, scores = Design(world.GROUPS, 2, 200, 0), {name: em(told) for name, told in runs.items()}
    about = {"baseline": "infonce_human", "primary": "infonce_a", "reader": "reader_a", "split": "test", "shown": [1]}
    about |= {"human_source": "human", "draws": 200, "seed": 0, "equivalence": 0.02}
    difference = design.difference(scores["infonce_a"], scores["infonce_human"])
    report = {
        "about": about,
        "systems": {
            name: {"kind": "run", "scores": {"reader_a": {"em": design.estimate(cells)}}}
            for name, cells in scores.items()
        },
        "differences": {"reader_a": {"em": {"infonce_a": difference}}},
    }
    write_json("metrics/report.json", plain(report))
    write_json("metrics/summary.json", {"em": {name: cells.mean() for name, cells in scores.items()}})


def em(told: list[str]) -> np.ndarray:
    """Exact match [seeds, questions]."""
    return np.array([[float(mark == "+") for mark in one[4:]] for one in told])


def dvc(*arguments: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        env=os.environ | GIT | {"PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One commit, and experiments: more-1 (5 epochs), more-2 (13, which fails), and next, queued."""
    folder, before = tmp_path_factory.mktemp("repository"), Path.cwd()
    os.chdir(folder)
    try:
        subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], check=True)
        dvc("init", "--quiet")
        Path("params.yaml").write_text(write_yaml(world.params()), encoding="utf-8")
        Path("dvc.yaml").write_text(STAGE, encoding="utf-8")
        Path("make.py").write_text(MAKE, encoding="utf-8")
        dvc("repro", "--quiet")
        subprocess.run(["git", "add", "."], check=True)
        subprocess.run(["git", "commit", "--quiet", "--message", "one"], check=True, env=os.environ | GIT)
        dvc("exp", "run", "--queue", "--name", "more", "-S", "train.epochs=5,13")
        dvc("exp", "run", "--run-all")  # exit status 0 although one fails
        dvc("exp", "run", "--queue", "--name", "next", "-S", "train.epochs=6")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def printed(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What the command prints in the repository, in lines."""
    monkeypatch.chdir(repository)

    def call(*arguments: str) -> list[str]:
        run(compare_experiments, *arguments, monkeypatch=monkeypatch)
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return call


def row(lines: list[str], name: str) -> str:
    (found,) = (line for line in lines if line.split()[:1] == [name] and not line.startswith(f"{name}:"))
    return " ".join(found.split())


def pairs(lines: list[str]) -> list[str]:
    (start,) = (at for at, line in enumerate(lines) if " minus that in " in line)
    return lines[start:]


@pytest.mark.slow
def test_what_did_not_run_has_no_figures(printed, repository: Path) -> None:
    lines = printed()
    commit = revisions.git("rev-parse", "HEAD")[:7]
    design, human = Design(world.GROUPS, 2, 200, 0), em(world.RUNS["infonce_human"])

    def figures(told: list[str]) -> str:
        cells = design.estimate(em(told)), design.estimate(human), design.difference(em(told), human)
        soft, baseline, difference = map(plain, cells)
        shares = [f"{100 * one['mean']:.1f} {wording.interval(one)}" for one in (baseline, soft)]
        return " ".join([*shares, wording.points(difference)])

    usual = figures(world.RUNS["infonce_a"])
    assert row(lines, commit) == f"{commit} main done {usual}"
    assert row(lines, "workspace") == f"workspace done {usual}"
    assert row(lines, "more-1") == f"more-1 done train.epochs=5 {figures(MORE)}" and figures(MORE) != usual
    assert row(lines, "more-2") == "more-2 failed train.epochs=13 - - -"
    assert row(lines, "next") == "next queued train.epochs=6 - - -"
    assert max(map(len, lines)) <= compare_experiments.WIDTH
    changed = (repository / "params.yaml").read_text()
    try:
        tree = world.params()
        tree["train"]["epochs"] = 9
        (repository / "params.yaml").write_text(write_yaml(tree))
        assert row(printed("main", "workspace"), "workspace") == "workspace not run train.epochs=9 - - -"
    finally:
        (repository / "params.yaml").write_text(changed)


@pytest.mark.slow
def test_pairs_have_the_intervals_of_the_statistics(printed) -> None:
    difference = Design(world.GROUPS, 2, 200, 0).difference(em(MORE), em(world.RUNS["infonce_a"]))
    one = plain(difference)
    wanted = (
        f"more-1 4 {wording.points(one)} {wording.probability(one['p'])} {one['verdict']} {wording.size(one['mde'])}"
    )
    for metric in ("em", "accuracy"):
        lines = printed("--pair", "main", "more-1", "--metric", metric)
        assert row(pairs(lines), "more-1") == wanted, metric
    lines = printed("--pair", "workspace", "more-1", "--metric", "retrieval")
    assert " ".join(row(pairs(lines), "more-1").split()[:3]) == "more-1 4 +0.0", "q3 has no human label"
    assert "more-1: 2 pairs (question and seed) lack a score in one of them: left out." in lines


@pytest.mark.slow
def test_without_names_what_cannot_be_paired_is_left_out(
    printed, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the workspace question 0 is another one; questions of one of the two alone are counted."""
    questions = repository / "data/prepared/test.parquet"
    before, rows = questions.read_bytes(), world.prepared()
    questions.unlink()  # a link to DVC's cache
    try:
        write_rows(questions, [rows[0] | {"query": "Who?"}, *rows[1:]], PREPARED)
        lines = printed("--pair")
        said = refused(compare_experiments, "main", "workspace", "--pair", monkeypatch=monkeypatch)
    finally:
        questions.unlink(missing_ok=True)
        questions.write_bytes(before)
    assert said.startswith("error: main and workspace: query of question 'q0' is ") and "cannot be paired" in said
    (left_out,) = [line for line in lines if line.startswith("workspace is left out: ")]
    assert [line.split()[0] for line in lines[-2:] if line.strip()] == ["more-1"]


@pytest.mark.slow
def test_what_cannot_be_compared_says_why(printed, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*arguments: str) -> str:
        return refused(compare_experiments, *arguments, monkeypatch=monkeypatch)

    assert "more-2: failed, so it has no figures. `dvc queue logs" in told("main", "more-2", "--pair")
    assert "next: queued, so it has no figures. `dvc exp run --run-all`" in told("next", "main", "--pair")
    assert "nowhere: no commit and no experiment here (experiments: " in told("nowhere")
    assert "more-1: has no run 'kl'; it has infonce_human, infonce_a, kl_flat" in told(
        "--pair", "more-1", "main", "--run", "kl"
    )
    assert "has the parameter 'train.epoch'. Did you mean 'train.epochs'?" in told(
        "--plot", "em", "train.epoch", "main"
    )
    assert "params.yaml: compare.seed is 0 in all revisions" in told("--plot", "em", "compare.seed", "main", "more-1")
    cache = repository / ".dvc/cache"
    cache.rename(repository / "away")
    try:
        said = told("--pair", "more-1", "main")
    finally:
        (repository / "away").rename(cache)
    assert said.startswith("error: more-1: data/prepared/test.parquet is neither in DVC's cache nor in the remote")
    assert "`dvc exp pull <remote> more-1`" in said and "`dvc pull`" in said


@pytest.mark.slow
def test_a_metric_is_drawn_by_a_parameter(printed, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}
    monkeypatch.setattr(
        compare_experiments.parameter_plot, "points", lambda *given: drawn.setdefault("", points(*given))
    )
    assert printed("--plot", "em", "train.epochs")[-1] == "plots/em_by_train.epochs.png: 3 of 5 revisions"
    assert (repository / "plots/em_by_train.epochs.png").read_bytes().startswith(b"\x89PNG")
    usual, soft = world.params()["train"]["epochs"], em(MORE).mean()
    assert sorted({(value, one["mean"]) for value, one in drawn[""]["infonce_a"]}) == sorted(
        [(usual, em(world.RUNS["infonce_a"]).mean()), (5, soft)]
    )
    assert len(drawn[""]["infonce_human"]) == 3


points = parameter_plot.points


def test_changes_are_values_and_entries() -> None:
    def revision(params: dict, profile: str = "default") -> revisions.Revision:
        return revisions.Revision("x", None, "done", params, profile, None)

    old = {"train": {"epochs": 1, "seeds": [0]}, "runs": {"kl": {"margin": 1}}, "gone": 1}
    new = {"train": {"epochs": 2, "seeds": [0, 1]}, "runs": {"kl": {"margin": 1, "dial": None}, "mse": {"margin": 1}}}
    wanted = ["profile losses", "train.epochs=2", "train.seeds=[0, 1]", "runs.kl.dial=null", "+runs.mse", "−gone"]
    assert revisions.changes(revision(new, "losses"), revision(old)) == wanted
    assert revisions.changes(revision(old), revision(old)) == []


@pytest.mark.slow
def test_a_report_of_another_layout_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    report = Path("metrics/report.json")
    before = report.read_text()
    try:
        report.write_text(json.dumps({"about": {"baseline": "kl"}}))
        assert "workspace: its metrics/report.json is of another version" in refused(
            compare_experiments, "workspace", monkeypatch=monkeypatch
        )
    finally:
        report.write_text(before)

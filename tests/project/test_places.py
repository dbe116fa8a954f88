"""Scripts outside the root of the repo, outside the environment and without git: a sentence says what to do."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workspace import Workspace

import compare
import unlock

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted((REPOSITORY / "src").glob("*.py"))
ARGUMENTS = {  # that a script needs; those of the scripts that work on files anywhere are in ANYWHERE
    "agreement": ["judgements.parquet"],
    "choose_prompt": ["reader_a"],
    "derive": ["hard"],
    "encoder": ["mini"],
    "evaluate": ["kl_a"],
    "export": ["human", "--to", "beir"],
    "label": ["human"],
    "label_strata": ["reader_a", "human"],
    "mix": ["pair"],
    "plan": ["default"],
    "publish": ["list"],
    "reader": ["reader_a"],
    "study": ["tune", "queue"],
    "train": ["kl_a"],
    "trec": ["kl_a", "--output", "trec"],
}
ANYWHERE = ("evaluate_file", "label_file", "licences")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_outside_the_environment_a_script_names_make_and_the_environment(script: Path, tmp_path: Path) -> None:
    found = subprocess.run([sys.executable, "-S", script], cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 1 and len(found.stderr.splitlines()) == 1, found.stderr
    assert "make .venv/installed" in found.stderr and "source .venv/bin/activate" in found.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", [one for one in SCRIPTS if one.stem not in ANYWHERE], ids=lambda script: script.stem)
def test_from_another_folder_a_script_names_the_root(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script.name, *ARGUMENTS.get(script.stem, [])])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(script), run_name="__main__")
    told = f"{caught.value.code} {capsys.readouterr().err}"
    assert f"in {tmp_path}. Scripts run in the root of the repo: `cd {REPOSITORY}`." in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--show", "--repeat"])
def test_so_do_the_options_of_compare(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match="Scripts run in the root of the repo"):
        compare.command([option])


def test_in_the_root_a_missing_params_file_is_told_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").touch()
    found = subprocess.run([sys.executable, SCRIPTS[0].with_name("check.py")], capture_output=True, text=True)
    assert found.stderr == "error: params.yaml: no such file. `python src/use_profile.py default` writes params.yaml.\n"


@pytest.mark.parametrize("lacking", ["git", "a repository"])
def test_without_git_the_comparison_with_the_committed_figures_says_so(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("dvc.yaml", "metrics/report.json"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_text("{}")
    if lacking == "git":
        monkeypatch.setenv("PATH", str(tmp_path))
    compare.command(["--repeat"])
    said = "git is not installed" if lacking == "git" else f"{tmp_path} is in no git repository"
    assert capsys.readouterr().out.startswith(f"{said}: ")


@pytest.mark.slow
def test_without_git_dvc_goes_on_after_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    shutil.copy(REPOSITORY / ".dvc/config", ".dvc/config")  # as in a ZIP of the repo
    process = workspace.start("status", "check")
    assert "not a git repository" in process.communicate()[0]
    unlock.main([])
    said = capsys.readouterr().err
    assert said.startswith(f"{tmp_path}: no git repository. DVC goes on without") and len(said.splitlines()) == 1
    assert "check" in workspace.dvc("status", "check")
    unlock.main([])
    assert capsys.readouterr().err == ""


def test_in_a_repository_dvc_is_told_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    os.makedirs(".dvc")
    unlock.main([])
    assert not list(Path(".dvc").iterdir())

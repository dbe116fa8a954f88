"""Every script tells its use and does nothing else; a misspelt option is refused, and nothing is done either."""

import runpy
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
SCRIPTS = sorted(file.stem for file in SOURCE.glob("*.py"))
PARTS = {"publish": ("model", "dataset", "list"), "study": ("tune", "spread", "confirm")}
ALL = [(script, part) for script in SCRIPTS for part in ("", *PARTS.get(script, ()))]


def ended(script: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """Exit status of a script called in an empty folder, which stays empty."""
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *filter(None, arguments)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(SOURCE / f"{script}.py"), run_name="__main__")
    assert list(Path.cwd().iterdir()) == []
    return caught.value.code


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("script", "part"), ALL)
def test_help_has_an_example_and_does_nothing(
    script: str, part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(script, part, "--help", monkeypatch=monkeypatch) == 0
    assert f"python src/{script}.py" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--shwo", "--hel"])
@pytest.mark.parametrize(("script", "part"), ALL)
def test_a_misspelt_option_is_refused(
    script: str, part: str, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(script, part, option, monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err.startswith("usage: ")

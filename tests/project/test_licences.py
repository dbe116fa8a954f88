"""One command lists what the project needs to run, each package with its licence."""

import re
from importlib.metadata import distribution
from pathlib import Path

import pytest

import licences

REPOSITORY = Path(__file__).parents[2]


def test_every_package_that_is_needed_stands_once_with_its_licence(capsys: pytest.CaptureFixture[str]) -> None:
    licences.main([])
    lines = capsys.readouterr().out.splitlines()
    found = {line.split()[0].lower().replace("_", "-"): line for line in lines}
    assert len(found) == len(lines) > 100 and all(len(line.split(maxsplit=2)) == 3 for line in lines)
    named = re.findall(r"^([\w.-]+)==", (REPOSITORY / "requirements.txt").read_text(encoding="utf-8"), re.M)
    assert {name.lower().replace("_", "-") for name in named} <= set(found)
    assert {"s3fs", "aiohttp", "pydantic-core"} <= set(found), "what they bring in, by extras too"
    assert found["rich"].endswith(" MIT") and "pytest" not in found
    assert sum(licences.UNKNOWN in line for line in lines) < 5


def test_a_whole_text_is_not_a_name() -> None:
    assert licences.licence(distribution("matplotlib")) == "Python Software Foundation License"

"""The benchmark of generation in its smallest size: every way runs, gives the same answers, and is reported."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/generate.py"
WAYS = ("one by one", "padded", "ours, as many at once", "ours")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Table and JSON of a run on a tiny model, and on a missing reader."""
    out = tmp_path_factory.mktemp("report")
    asked = ["--smoke", "--models", "reader", "tiny", "--batch", "3", "--reader", str(out / "absent")]
    subprocess.run([sys.executable, str(SCRIPT), *asked, "--out", str(out)], check=True, timeout=300)
    return (out / "generate-cpu.md").read_text(), json.loads((out / "generate-cpu.json").read_text())


def test_every_way_gives_the_same_answers_and_is_timed(report: tuple[str, dict[str, Any]]) -> None:
    tiny = report[1]["models"]["tiny"]
    assert tiny["differing"] == dict.fromkeys(WAYS[1:], 0)
    assert set(tiny["seconds"]) == set(WAYS) and all(times[0] > 0 for times in tiny["seconds"].values())
    assert set(tiny["seconds_with_our_allocator"]) == set(WAYS[:2])
    assert tiny["questions"] < tiny["answer_tokens"] < 64 * tiny["questions"]  # they do not all go on to the limit


def test_table_tells_every_way_and_what_was_not_run(report: tuple[str, dict[str, Any]]) -> None:
    for way in WAYS:
        assert report[0].count(f"\n| {way} ") == 1
    assert "not run: absent is missing; `dvc repro` makes it" in report[0]


def test_answer_that_differs_without_a_close_call_ends_the_run() -> None:
    """In its own process: a stage has the same name as the benchmark that this one imports."""
    told = """
import generate
case = generate.load_case("tiny", generate.parse(["--smoke"]))
alone = generate.answer_padded(case, 1)
assert generate.differing(case, "padded", alone, alone) == 0
generate.differing(case, "padded", ["no", *alone[1:]], alone)
"""
    ended = subprocess.run([sys.executable, "-c", told], cwd=SCRIPT.parent, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1 and "one by one and 'no' by the way 'padded'." in ended.stderr

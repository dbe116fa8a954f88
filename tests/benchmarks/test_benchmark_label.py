"""The benchmark of scoring in its smallest size: every way runs, gives the same values, and is reported."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/label.py"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Table and JSON of a run on a tiny model, and on a missing reader."""
    out = tmp_path_factory.mktemp("report")
    asked = ["--smoke", "--models", "reader", "tiny", "--reader", str(out / "absent"), "--out", str(out)]
    subprocess.run([sys.executable, str(SCRIPT), *asked], check=True, timeout=300)
    return (out / "label-cpu.md").read_text(), json.loads((out / "label-cpu.json").read_text())


def test_original_and_ours_agree_and_are_timed(report: tuple[str, dict[str, Any]]) -> None:
    tiny = report[1]["models"]["tiny"]
    assert tiny["largest_difference"]["original"] <= 1e-4
    for way in ("original", "ours"):
        assert len(tiny["seconds"][way]) == 1 and tiny["seconds"][way][0] > 0


def test_harness_agrees_and_is_timed(report: tuple[str, dict[str, Any]]) -> None:
    pytest.importorskip("lm_eval")
    tiny = report[1]["models"]["tiny"]
    assert tiny["largest_difference"]["lm-eval"] <= 1e-4
    assert tiny["seconds"]["lm-eval"][0] > 0 and tiny["batches"]["lm-eval"] in (1, 4, 8, 16, 32)


def test_ours_computes_hardly_more_than_is_necessary(report: tuple[str, dict[str, Any]]) -> None:
    tiny = report[1]["models"]["tiny"]
    assert tiny["flops"]["tokens"] <= tiny["work"]["computed"] < tiny["tokens"]
    spent = tiny["profile"]["groups"]
    assert spent["linear layers"] > 0 and spent["attention"] > 0 and spent["log-softmax and cross-entropy"] > 0


def test_table_tells_every_way_and_what_was_not_run(report: tuple[str, dict[str, Any]]) -> None:
    text = report[0]
    for way in ("original", "lm-eval", "ours"):
        assert f"\n| {way} " in text
    assert "not run: absent is missing; `dvc repro` makes it" in text


def test_distinct_prefixes_are_those_of_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from measuring import distinct_prefixes

    draw = random.Random(0)
    sequences = [[draw.randrange(2) for _ in range(draw.randrange(9))] for _ in range(40)]
    prefixes = {tuple(sequence[:end]) for sequence in sequences for end in range(1, len(sequence) + 1)}
    assert distinct_prefixes(sequences) == (len(prefixes), sum(map(len, prefixes)))

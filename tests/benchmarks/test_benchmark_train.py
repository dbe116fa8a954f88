"""The benchmark of training in its smallest size: every way runs, learns from the same gradients, and is reported."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/train.py"
LIBRARY = all(map(importlib.util.find_spec, ["sentence_transformers", "datasets"]))
OURS = ["ours", "ours, recompute"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Table and JSON of a step of four queries that share no passage, with the default encoder's size."""
    out = tmp_path_factory.mktemp("report")
    asked = ["--smoke", "--models", "default_apart", "--losses", "kl", "infonce", "--queries", "4", "--out", str(out)]
    subprocess.run([sys.executable, str(SCRIPT), *asked], check=True, timeout=300)
    return (out / "train-cpu.md").read_text(), json.loads((out / "train-cpu.json").read_text())["models"]


def test_gradients_agree_where_the_formula_is_the_same(report: tuple[str, dict[str, Any]]) -> None:
    compared = {loss: report[1]["default_apart"][loss]["largest_difference"] for loss in ("kl", "infonce")}
    library = {"sentence-transformers"} if LIBRARY else set()
    assert set(compared["kl"]) == {"original", "ours, recompute"} | library
    assert set(compared["infonce"]) == {"ours, recompute"} | library  # the original has no in-batch negatives
    for found in compared.values():
        assert found.pop("ours, recompute") == 0
        assert all(0 < difference <= 1e-4 for difference in found.values())


def test_every_way_is_timed_over_the_same_tokens(report: tuple[str, dict[str, Any]]) -> None:
    found = report[1]["default_apart"]["kl"]
    ways = {"original", *OURS} | ({"sentence-transformers"} if LIBRARY else set())
    assert set(found["seconds"]) == ways and all(times[0] > 0 for times in found["seconds"].values())
    assert set(found["seconds_with_our_allocator"]) == ways - set(OURS)
    assert found["passages"] == found["distinct_passages"] == 40 and 44 * 8 < found["tokens"] < 44 * 64


def test_table_tells_every_way(report: tuple[str, dict[str, Any]]) -> None:
    for way in ("original", "sentence-transformers", *OURS):
        assert report[0].count(f"\n| {way} ") == 2
    assert ("not run: sentence_transformers or datasets is not installed" in report[0]) != LIBRARY

"""The benchmark for a GPU without one: it says so, goes on where it was, and is no measured rate."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bitter_retrieval.planning import rates

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu.py"
NAME = "gpu-small-cpu"


def run(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Without CUDA, also where there is some."""
    code = f"import sys, torch; torch.cuda.is_available = lambda: False; sys.path.insert(0, {str(SCRIPT.parent)!r})\n"
    code += "import gpu; sys.exit(gpu.main(sys.argv[1:]))"
    asked = [sys.executable, "-c", code, *arguments, "--out", str(out)]
    return subprocess.run(asked, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose first call had no time left after the first measurement."""
    out = tmp_path_factory.mktemp("report")
    first = run(out, "ceilings", "encode", "--minutes", "0")
    assert first.returncode == 3 and "0 minutes are up: call again to go on with ceilings copy" in first.stderr
    assert run(out, "ceilings").returncode == 0
    return out


def test_it_says_that_it_was_not_run_on_a_gpu(out: Path) -> None:
    found, page = json.loads((out / f"{NAME}.json").read_text()), (out / f"{NAME}.md").read_text()
    assert found["small"] and "gpu" not in found["machine"] and found["date"] and found["versions"]["torch"]
    for said in (found["about"], page):
        assert "Not run on a GPU: torch sees no CUDA device." in said
    assert (
        "| not measured yet | label tiny, train tiny, encode tiny, generate tiny, search exact, check tests |" in page
    )
    assert found["parts"]["ceilings"]["products"]["flops"]["float32"] > 0
    assert rates.measured(out, {}) == []


def test_it_goes_on_where_it_was(out: Path) -> None:
    before = json.loads((out / f"{NAME}.json").read_text())["parts"]
    further = run(out, "ceilings", "encode", "search")
    assert further.returncode == 0 and "ceilings" not in further.stderr, further.stderr
    parts = json.loads((out / f"{NAME}.json").read_text())["parts"]
    assert parts["ceilings"] == before["ceilings"] and parts["search"]["exact"]["differing"] == 0
    tiny = parts["encode"]["tiny"]
    assert tiny["tokens"] > tiny["passages"] and tiny["weights"] == 4 * 32 * 32 + 2 * 32 * 48
    assert all(times[0] > 0 for times in tiny["seconds"].values())
    assert all(apart <= 1e-3 for apart in tiny["largest_difference"].values())


def test_other_lengths_begin_anew(out: Path) -> None:
    further = run(out, "search", "--lengths", "9", "70", "14")
    assert "has other parameters; measured anew" in further.stderr
    assert set(json.loads((out / f"{NAME}.json").read_text())["parts"]) == {"search"}


@pytest.mark.parametrize("wrong", [["sing"], ["label", "--models", "gpt2"]])
def test_what_does_not_exist_is_refused(wrong: list[str], tmp_path: Path) -> None:
    found = run(tmp_path, *wrong)
    assert found.returncode == 2 and "no such" in found.stderr and not list(tmp_path.iterdir())

"""For all tests: no network but the loopback, nothing sent by DVC, and any order.

python -m pytest --shuffle 1        files, and tests within a file, in an order that depends on the number alone;
                                    but for files that are marked in_order
"""

import os
import random
import runpy
from itertools import groupby
from pathlib import Path

import pytest

BLOCKING = Path(__file__).parent / "loopback_only"

runpy.run_path(str(BLOCKING / "sitecustomize.py"))  # here; processes that tests start import it, by PYTHONPATH
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(BLOCKING), os.environ.get("PYTHONPATH")]))
os.environ["DVC_NO_ANALYTICS"] = "1"
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(Path(__file__).parents[1] / ".hypothesis")  # wherever a test runs


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run files, and the tests in each, in random order")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seed = config.getoption("--shuffle")
    if seed is not None:
        dice = random.Random(seed)
        files = [list(tests) for _, tests in groupby(items, lambda item: item.path)]
        dice.shuffle(files)
        for tests in files:
            if not tests[0].get_closest_marker("in_order"):
                dice.shuffle(tests)
        items[:] = [item for tests in files for item in tests]

"""Scripts of src/ in this process, as a user runs them.

run(label_file, "--model", model, "--input", "questions.jsonl", …, monkeypatch=monkeypatch)
refused(evaluate, "k1", monkeypatch=monkeypatch)          "error: params.yaml: runs: 'k1' is none of …"
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bitter_retrieval.command_line import run_stage


def run(script: ModuleType, *arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [Path(str(script.__file__)).name, *map(str, arguments)])
    run_stage(script.main)


def refused(script: ModuleType, *arguments: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The line that the script ends with."""
    with pytest.raises(SystemExit) as caught:
        run(script, *arguments, monkeypatch=monkeypatch)
    message = caught.value.code  # a text: printed to stderr, exit status 1
    assert isinstance(message, str) and message.startswith("error: ") and "\n" not in message
    return message

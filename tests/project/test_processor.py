"""What the package pins before torch is loaded, and the processor's name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bitter_retrieval import processor

SOURCE = Path(__file__).parents[2] / "src"
PINS = {"MKL_CBWR": "AVX2,STRICT", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
CPU_INFO = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7763 64-Core Processor

processor\t: 1
vendor_id\t: AuthenticAMD
model name\t: another
"""
# Ends the script at its first import of torch, with the pins as torch would read them.
SPY = """
import os, runpy, sys

class Spy:
    def find_spec(self, name, *_):
        if name == "torch":
            print({{pin: os.environ.get(pin) for pin in {pins}}}, flush=True)
            os._exit(0)

sys.meta_path.insert(0, Spy())
runpy.run_path("{script}", run_name="__main__")
"""


def first_pins(script: str, **environment: str) -> str:
    """The pins as a script of src/ first imports torch."""
    kept = {name: value for name, value in os.environ.items() if name not in PINS} | environment
    command = [sys.executable, "-c", SPY.format(pins=list(PINS), script=SOURCE / script)]
    done = subprocess.run(command, env=kept | {"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("stage", ["reader", "encoder", "derive", "train", "evaluate", "control"])
def test_pins_are_set_before_torch_is_imported(stage: str) -> None:
    assert first_pins(f"{stage}.py") == str(PINS)


def test_a_pin_that_is_set_stays() -> None:
    assert first_pins("train.py", MKL_CBWR="COMPATIBLE") == str(PINS | {"MKL_CBWR": "COMPATIBLE"})


def test_the_name_is_of_the_first_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(CPU_INFO)
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")
    name, _, instructions = processor.processor_name().rpartition(", ")
    assert name == "AMD EPYC 7763 64-Core Processor" and instructions


def test_a_system_without_the_list_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "absent")
    monkeypatch.setattr("platform.processor", lambda: "")
    assert processor.processor_name().startswith("unknown processor, ")

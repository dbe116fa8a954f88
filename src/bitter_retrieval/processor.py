"""The processor that computes, as a report names it: figures of two processors may differ in their last digits.

processor_name()    "AMD EPYC 7763 64-Core Processor, AVX2"
"""

import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")  # on Linux


def processor_name() -> str:
    """Model of the processor, and the instructions that torch uses of it."""
    import torch

    model = model_name() or platform.processor() or "unknown processor"
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


def model_name() -> str | None:
    """The first model name in CPU_INFO."""
    if not CPU_INFO.is_file():
        return None
    lines = (line.partition(":") for line in CPU_INFO.read_text(encoding="utf-8").splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "model name"), None)

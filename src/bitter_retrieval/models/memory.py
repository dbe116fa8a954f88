"""Memory: reuse what was freed instead of returning it to the system, see how much is free, and tell when none is.

glibc returns every freed block over 128 KiB and faults it in again, page by page, at the next step. On small virtual
machines the first touch of a page is so slow that this takes a third of a training step.
"""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
KEEP = 1 << 30  # bytes
GROUP = Path("/sys/fs/cgroup")  # limits of a container or a batch system


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed memory up to a GiB; does nothing on other systems."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, KEEP)
        libc.mallopt(M_TRIM_THRESHOLD, KEEP)
        libc.mallopt(M_TOP_PAD, KEEP >> 2)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python could not get memory, on CUDA or on the CPU."""
    cuda = type(error).__name__ == "OutOfMemoryError"
    return cuda or isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def free_on_machine() -> int:
    """Bytes that this process may still take, within the limit of its container."""
    import psutil

    free = psutil.virtual_memory().available
    with suppress(OSError, ValueError, KeyError):  # not on Linux, or without a limit
        limit, used = (int((GROUP / f"memory.{name}").read_text(encoding="utf-8")) for name in ("max", "current"))
        held = dict(line.split() for line in (GROUP / "memory.stat").read_text(encoding="utf-8").splitlines())
        free = min(free, limit - used + int(held["inactive_file"]))  # cached files are dropped when needed
    return free


def free_on_gpu() -> int:
    """Free bytes of the GPU, with those that torch keeps for this process without using them."""
    import torch

    return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()

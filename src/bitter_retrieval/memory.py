"""Keep memory that was freed instead of giving it back to the system; tell when there is none left.

glibc returns every freed block over 128 KiB and faults it in again, page by page, at the next step. On small virtual
machines the first touch of a page is so slow that this takes a third of a training step.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
KEEP = 1 << 30  # bytes


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

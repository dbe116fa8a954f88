"""Random numbers that follow from a seed and names alone, not from other questions or from any order."""

import hashlib


def uniform(seed: int, *names: str) -> float:
    """A number above 0 and below 1."""
    digest = hashlib.sha256("\n".join((str(seed), *names)).encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48

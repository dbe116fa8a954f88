"""Which split a group of questions belongs to: drawn by a seed, whatever the order of the files.

divide(["Warsaw", "Otter", …], seed=0, shares={"train": 0.8, "test": 0.2}, where="data/raw")
    {"Otter": "train", …, "Warsaw": "test"}
"""

import hashlib
from collections.abc import Iterable
from itertools import accumulate, pairwise


class DivisionError(ValueError):
    """Shares that leave a split without questions: names where, the share and the remedy."""


def digest(*parts: object) -> str:
    """A hash by which things are put into an order that no file decides."""
    return hashlib.sha1("\x1f".join(map(str, parts)).encode()).hexdigest()


def drawn(names: Iterable[str], seed: int) -> list[str]:
    """The names, each once, in the order in which the seed draws them."""
    return sorted(set(names), key=lambda name: digest(seed, name))


def divide(groups: Iterable[str], seed: int, shares: dict[str, float], where: str, at: str = "data") -> dict[str, str]:
    """Split by group; groups beyond the sum of the shares are in none, and a share of 0 takes none.

    where: what errors call the data; at: where params describe it.
    """
    order = drawn(groups, seed)
    ends = [int(len(order) * share + 0.5 + 1e-9) for share in accumulate(shares.values())]
    if ends != sorted(ends) or ends[-1] > len(order):
        raise DivisionError(f"{at}.articles is {shares}: at least 0 each, at most 1 in sum. Lower the largest.")
    split_of: dict[str, str] = {}
    for (split, share), (start, end) in zip(shares.items(), pairwise([0, *ends]), strict=True):
        if share and start == end:
            cause = f"{split!r} is left without questions by its share {share} of {len(order)} articles or groups"
            raise DivisionError(f"{where}: {cause}. Raise {at}.articles.{split} to {1 / len(order):.4f} or more.")
        split_of |= dict.fromkeys(order[start:end], split)
    return split_of

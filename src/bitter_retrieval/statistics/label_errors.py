"""How often each label source is wrong: where true support is known, as in the generated world.

    label_errors(rows, {"human": (binary rows, False), "reader_a": (soft rows, True)})
        {"human": 0.1, "reader_a": 0.04}

A source is wrong about a question if the passage that it prefers does not truly support the answer: the marked one of a
binary source, the one of lowest loss of a soft source. Several count in fractions; questions without one are left out.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bitter_retrieval.labels.soft import best_passages, candidate_losses, passage_losses, share_outside
from bitter_retrieval.records import Row, relevant_passages, supporting_passages


def label_errors(rows: Sequence[Row], sources: Mapping[str, tuple[Sequence[Row], bool]]) -> dict[str, float | None]:
    """Share of the prepared rows about which each source is wrong; None if support is known of none that it labels.

    sources: label rows by name, and whether they are soft (as records.read_labels returns them).
    """
    supporting = {row["query_id"]: supporting_passages(row) for row in rows}
    found = {}
    for name, (labels, is_soft) in sources.items():
        preferred = _lowest(rows, labels, name) if is_soft else relevant_passages(labels)
        wrong = [
            share_outside(passages, truth)
            for query, truth in supporting.items()
            if truth is not None and (passages := preferred.get(query))
        ]
        found[name] = float(np.mean(wrong)) if wrong else None
    return found


def _lowest(rows: Sequence[Row], labels: Sequence[Row], source: str) -> dict[str, frozenset[str]]:
    losses = passage_losses(labels, source=source)
    return {row["query_id"]: best_passages(candidate_losses(row, losses)) for row in rows}

"""The account of a label source by hand, against slow loops over random labels, and with nothing to count."""

import json
from itertools import product
from statistics import mean, median

import numpy as np
import pytest

from bitter_retrieval.labels.account import GAIN_EDGES, account
from bitter_retrieval.labels.soft import LabelError, utility_scale
from bitter_retrieval.records import Row

pytestmark = pytest.mark.filterwarnings("error")

ROLES = ("plain", "hard", "lure", "mention")


def question(name: str, *candidates: tuple[int | None, str | None]) -> Row:
    """A prepared row with candidates of (is_selected, role)."""
    passages = [
        {"passage_id": f"{name}-p{place}", "text": "", "is_selected": selected, "role": role}
        for place, (selected, role) in enumerate(candidates)
    ]
    return {"query_id": name, "group_id": name, "query": "Where?", "answers": ["a", "b"], "passages": passages}


def label(query: str, passage: str, nll: float, n: int | None = 1, index: int = 0, exact: bool | None = False) -> Row:
    """A soft label row; exact None makes it one of a published source."""
    passage_id = f"{query}-{passage}" if passage else ""
    row = {"query_id": query, "passage_id": passage_id, "answer_index": index, "nll_sum": nll, "n_tokens": n}
    return row if exact is None else row | {"exact": exact, "truncated": passage == "p0"}


def one_query() -> tuple[list[Row], list[Row]]:
    rows = [question("q", (1, "plain"), (0, "lure"), (0, "mention"))]
    losses = [label("q", "p0", 0.2, exact=True), label("q", "p1", 0.5), label("q", "p2", 3.0), label("q", "", 2.0)]
    return rows, losses


def two_queries() -> tuple[list[Row], list[Row]]:
    """The second has two references, and p2 a loss of one alone; losses without a passage, p0, p1: 1, .5, 1.2."""
    rows, labels = one_query()
    second = [
        *(label("r", "", 4.0, 2, exact=True), label("r", "", 3.0, 3, 1)),
        *(label("r", "p0", 1.0, 2), label("r", "p0", 6.0, 3, 1, exact=True)),
        *(label("r", "p1", 5.0, 2), label("r", "p1", 3.6, 3, 1)),
        label("r", "p2", 0.3, 3, 1),
    ]
    return [*rows, question("r", (0, "lure"), (1, "hard"), (0, "lure"))], [*labels, *second]


def by_bin(*passages_exact: tuple[int, float | None]) -> list[dict]:
    ends = (None, *GAIN_EDGES, None)
    return [
        {"gain_from": ends[place], "gain_to": ends[place + 1], "passages": passages, "exact": exact}
        for place, (passages, exact) in enumerate(passages_exact)
    ]


def test_account_by_hand() -> None:
    assert account(*two_queries()) == {
        "queries": 2,
        "rows": 11,
        "answer_tokens": 22,
        "truncated_contexts": 3,
        "queries_without_baseline": 0,
        "candidates_without_label": 1,
        "human_label": {"questions": 2, "left_out": 0, "ties": 0, "disagreement": 0.5, "chance": 0.5833},
        "gain": {"mean": 0.52, "median": 0.5, "positive_p95": 1.77},  # gains 1.8, 1.5, -1, .5, -.2
        "worse_than_none": 0.4,
        "best_is_worse_than_none": 0.0,
        "auc": {"pooled": 0.6667, "within_query": 0.5, "queries": 2},
        "exact_without_passage": 0.5,
        "exact_match_by_gain": by_bin((0, None), (2, 0.0), (0, None), (1, 1.0), (2, 0.5), (0, None)),
    }


def test_account_as_the_module_shows_it() -> None:
    found = account(*one_query())
    assert found["human_label"] == {"questions": 1, "left_out": 0, "ties": 0, "disagreement": 0.0, "chance": 0.6667}
    assert found["gain"] == {"mean": 0.7667, "median": 1.5, "positive_p95": 1.785}
    assert found["auc"] == {"pooled": 1.0, "within_query": 1.0, "queries": 1}
    assert (found["worse_than_none"], found["exact_without_passage"]) == (0.3333, 0.0)
    assert found["exact_match_by_gain"][4] == {"gain_from": 1.0, "gain_to": 3.0, "passages": 2, "exact": 0.5}


def test_a_query_without_baseline_has_no_gain_but_counts_elsewhere() -> None:
    rows, labels = two_queries()
    found = account(rows, [row for row in labels if (row["query_id"], row["passage_id"]) != ("r", "")])
    assert found["queries_without_baseline"] == 1 and found["candidates_without_label"] == 1
    assert found["gain"] == account(*one_query())["gain"] and found["exact_without_passage"] == 0.0
    assert found["human_label"]["questions"] == 2 and found["auc"] == account(rows, labels)["auc"]


def test_a_passage_that_occurs_twice_in_a_query_counts_once() -> None:
    (row,), labels = one_query()
    assert account([row | {"passages": [*row["passages"], row["passages"][0]]}], labels) == account([row], labels)


def test_a_published_source_has_means_and_no_exact_match() -> None:
    rows, labels = one_query()
    published = [row | {"n_tokens": None} for row in labels]
    for row in published:
        del row["exact"], row["truncated"]
    found = account(rows, published)
    assert found["answer_tokens"] is found["truncated_contexts"] is found["exact_without_passage"] is None
    bins = by_bin((0, None), (1, None), (0, None), (0, None), (2, None), (0, None))
    assert found["exact_match_by_gain"] == bins and found["gain"] == account(rows, labels)["gain"]


@pytest.mark.parametrize(("selected", "human"), [(None, None), (0, {"questions": 0, "left_out": 1, "ties": 0})])
def test_nothing_selected_and_no_roles(selected: int | None, human: dict | None) -> None:
    _, labels = one_query()
    found = account([question("q", *[(selected, None)] * 3)], labels)
    assert found["human_label"] == (human and human | {"disagreement": None, "chance": None})
    assert found["auc"] == {"pooled": None, "within_query": None, "queries": 0}


@pytest.mark.parametrize("rows", [[], one_query()[0]])
def test_without_labels_all_but_the_counts_is_none(rows: list[Row]) -> None:
    n, found = len(rows), account(rows, [])
    assert {name: found.pop(name) for name in ("queries", "queries_without_baseline")} == {
        "queries": n,
        "queries_without_baseline": n,
    }
    assert found.pop("candidates_without_label") == 3 * n
    assert found.pop("exact_match_by_gain") == by_bin(*[(0, None)] * 6)
    assert (found.pop("human_label") or {}).get("left_out", 0) == n
    assert not any(flat(found).values())


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused(loss: float) -> None:
    rows, labels = one_query()
    with pytest.raises(LabelError, match="'q', passage 'q-p1', answer 1"):
        account(rows, [*labels, label("q", "p1", loss, index=1)])


# -- against slow loops ------------------------------------------------------------------------------------------------


def random_labels(seed: int) -> tuple[list[Row], list[Row]]:
    """Up to six candidates a query, losses on a coarse grid so that many tie (some but for 1e-8), labels missing.

    Seeds take turns in what is known: selections, roles of all queries or some, exact match.
    """
    generator = np.random.default_rng(seed)
    draw, chance = generator.integers, generator.random
    rows, labels = [], []
    for name in (f"q{number}" for number in range(40)):
        roles_known = chance() < (0.0, 0.6, 1.0)[seed % 3]
        selected = [int(draw(3) == 0) if chance() < (0.8, 0.0)[seed % 2] else None for _ in range(draw(1, 7))]
        rows.append(question(name, *[(one, ROLES[draw(4)] if roles_known else None) for one in selected]))
        for passage, index in product(["", *(f"p{place}" for place in range(len(selected)))], range(draw(1, 4))):
            loss, n = float(draw(0, 12) / 2 + draw(2) * 1e-8), int(draw(1, 3)) if seed % 4 else None
            if chance() < 0.85:
                labels.append(label(name, passage, loss, n, index, None if seed % 5 == 0 else bool(chance() < 0.3)))
    return rows, labels


def slow_account(rows: list[Row], labels: list[Row]) -> dict:
    """Without arrays or ranks; not rounded."""
    best, exact, scored = {}, {}, {}
    for row in labels:
        key = row["query_id"], row["passage_id"]
        scored.setdefault(key, {})[row["answer_index"]] = row["nll_sum"] / (row["n_tokens"] or 1)
        exact[key] = row.get("exact", False) or exact.get(key, False)
    for (query, passage), losses in scored.items():
        wanted = scored.get(
            (query, ""), {index for (other, _), own in scored.items() if other == query for index in own}
        )
        if all(index in losses for index in wanted):
            best[query, passage] = min(losses[index] for index in wanted)
    candidates = [(row["query_id"], passage) for row in rows for passage in row["passages"]]
    losses = [(query, p, best[query, p["passage_id"]]) for query, p in candidates if (query, p["passage_id"]) in best]
    gains = [(query, p, best[query, ""] - loss) for query, p, loss in losses if (query, "") in best]
    known = [gain for *_, gain in gains]
    most = [max(gain for other, _, gain in gains if other == query) for query in {query for query, *_ in gains}]
    queries = [row["query_id"] for row in rows]
    within = [slow_auc([one for one in losses if one[0] == query]) for query in queries]
    exact_known = "exact" in labels[0]
    return {
        "queries": len(rows),
        "rows": len(labels),
        "answer_tokens": sum(row["n_tokens"] for row in labels) if labels[0]["n_tokens"] else None,
        "truncated_contexts": sum(row["truncated"] for row in labels) if exact_known else None,
        "queries_without_baseline": sum((query, "") not in best for query in queries),
        "candidates_without_label": len(candidates) - len(losses),
        "human_label": slow_human_label(rows, losses),
        "gain": {"mean": mean(known), "median": median(known), "positive_p95": utility_scale(known)},
        "worse_than_none": mean(gain < -1e-6 for gain in known),
        "best_is_worse_than_none": mean(gain < -1e-6 for gain in most),
        "auc": {
            "pooled": slow_auc(losses),
            "within_query": average([one for one in within if one is not None]),
            "queries": sum(one is not None for one in within),
        },
        "exact_without_passage": average([exact[q, ""] for q in queries if (q, "") in best]) if exact_known else None,
        "exact_match_by_gain": by_bin(
            *(
                (len(inside), average(inside) if exact_known else None)
                for low, high in zip((-99, *GAIN_EDGES), (*GAIN_EDGES, 99), strict=True)
                for inside in [[exact[query, p["passage_id"]] for query, p, gain in gains if low <= gain < high]]
            )
        ),
    }


def average(values: list) -> float | None:
    return mean(map(float, values)) if values else None


def slow_human_label(rows: list[Row], losses: list[tuple]) -> dict | None:
    shares, chances, ties = [], [], 0
    for row in rows:
        marked = [(loss, p["is_selected"] == 1) for query, p, loss in losses if query == row["query_id"]]
        if any(mark for _, mark in marked):
            lowest = [mark for loss, mark in marked if loss <= min(marked)[0] + 1e-6]
            shares.append(1 - mean(lowest))
            chances.append(1 - mean(mark for _, mark in marked))
            ties += len(lowest) > 1
    if all(p["is_selected"] is None for row in rows for p in row["passages"]):
        return None
    counts = {"questions": len(shares), "left_out": len(rows) - len(shares), "ties": ties}
    return counts | {"disagreement": average(shares), "chance": average(chances)}


def slow_auc(losses: list[tuple]) -> float | None:
    supporting = [loss for _, p, loss in losses if p["role"] in ("plain", "hard")]
    others = [loss for _, p, loss in losses if p["role"] in ("lure", "mention")]
    return average([(a < b) + (a == b) / 2 for a in supporting for b in others])


def flat(figures: dict | list, prefix: str = "") -> dict:
    """{"gain.mean": .52, …}"""
    found: dict = {}
    for name, value in figures.items() if isinstance(figures, dict) else enumerate(figures):
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict | list) else {f"{prefix}{name}": value}
    return found


@pytest.mark.parametrize("seed", range(30))
def test_account_equals_the_slow_loops(seed: int) -> None:
    rows, labels = random_labels(seed)
    found = account(rows, labels)
    fast, slow = (
        {name: float("nan") if value is None else value for name, value in flat(figures).items()}
        for figures in (found, slow_account(rows, labels))
    )
    assert fast == pytest.approx(slow, rel=0, abs=0.50001e-4, nan_ok=True)
    assert json.loads(json.dumps(found, allow_nan=False)) == found

"""Quality of rankings by labels: trec_eval's measures for each question, computed by ir-measures.

    ranking_metrics({"q7": ["p31", "p7", "p2"]}, {"q7": {"p7", "p9"}})
    {"q7": {"ndcg_10": 0.387, "mrr_10": 0.5, "recall_1": 0.0, "recall_5": 0.5, "recall_10": 0.5}}

trec_eval orders passages by score and breaks ties by name, unlike our rankings. So it gets scores that fall by one
per rank, which keep our order, and numbers in place of ids, as it cuts them off at a NUL. The measures are listed in
metrics.py. Relevant passages may have grades, {"q7": {"p7": 2, "p9": 1}}: nDCG gains them, the others ask whether a
passage is relevant.
"""

from collections.abc import Collection, Mapping, Sequence

from bitter_retrieval.statistics.metrics import of_family


def ranking_metrics(
    rankings: Mapping[str, Sequence[str]], relevant: Mapping[str, Collection[str] | Mapping[str, int]]
) -> dict[str, dict[str, float]]:
    """Ranking metrics by query_id, for queries with a relevant passage. Rankings: best first, at least ten passages."""
    from ir_measures import iter_calc, parse_measure

    measures = {parse_measure(row.measure): row.name for row in of_family("ranking")}
    queries = [query for query in rankings if relevant.get(query)]
    labels, run = {}, {}
    for number, query in enumerate(queries):
        place = {passage: at for at, passage in enumerate(dict.fromkeys([*rankings[query], *relevant[query]]))}
        own = relevant[query]
        grades = own if isinstance(own, Mapping) else dict.fromkeys(own, 1)
        labels[str(number)] = {str(place[passage]): grade for passage, grade in grades.items()}
        run[str(number)] = {str(place[passage]): -float(at) for at, passage in enumerate(rankings[query])}
    found: dict[str, dict[str, float]] = {query: {} for query in queries}
    for one in iter_calc(list(measures), labels, run):
        found[queries[int(one.query_id)]][measures[one.measure]] = float(one.value)
    return found

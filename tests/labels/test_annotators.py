"""Modelled annotators: how often they err, where, and that the errors at two levels of noise are nested."""

from dataclasses import replace
from math import sqrt

import pytest
import tiny

from bitter_retrieval.data.world import World
from bitter_retrieval.labels.annotators import HARD_ONLY_ODDS, POSITION_COST, annotate, corrupt
from bitter_retrieval.records import SUPPORTING_ROLES, Row

BOTH = ["skim", "uniform"]
SEEDS = range(5)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return made(hard=0.4)


def made(hard: float) -> list[Row]:
    """Questions of which some have two supports in different words."""
    dials = replace(tiny.PARAMS.data.world, hard=hard, second_support=0.3)
    return World(0, dials).splits({"train": 100})["train"]


def question(*candidates: tuple[str, str], query: str = "Who is the mayor of Old Crowby?", name: str = "q") -> Row:
    """A row with candidates of (role, text)."""
    passages = [{"passage_id": f"p{i}", "role": role, "text": text} for i, (role, text) in enumerate(candidates)]
    return {"query_id": name, "query": query, "passages": passages}


def marked(labels: list[Row]) -> dict[str, str]:
    """The relevant passage's id, by query; fails unless there is exactly one."""
    relevant = [(label["query_id"], label["passage_id"]) for label in labels if label["relevant"]]
    assert len(relevant) == len(dict(relevant)) == len({label["query_id"] for label in labels})
    return dict(relevant)


def wrong(rows: list[Row], annotator: str, noise: float, seed: int = 0) -> dict[str, str]:
    """The marked passage, for the queries where it does not support the answer."""
    roles = {(row["query_id"], p["passage_id"]): p["role"] for row in rows for p in row["passages"]}
    chosen = marked(annotate(rows, annotator, noise, seed)).items()
    return {query: passage for query, passage in chosen if roles[query, passage] not in SUPPORTING_ROLES}


def hard_only(row: Row) -> bool:
    return all(passage["role"] != "plain" for passage in row["passages"])


@pytest.mark.parametrize("annotator", BOTH)
def test_every_candidate_has_a_label_and_one_is_relevant(rows: list[Row], annotator: str) -> None:
    labels = annotate(rows, annotator, 0.3, seed=0)
    wanted = [(row["query_id"], passage["passage_id"]) for row in rows for passage in row["passages"]]
    assert [(label["query_id"], label["passage_id"]) for label in labels] == wanted
    assert len(marked(labels)) == len(rows) and {label["relevant"] for label in labels} == {0, 1}


@pytest.mark.parametrize("annotator", BOTH)
def test_without_noise_plain_support_is_marked_before_hard(rows: list[Row], annotator: str) -> None:
    chosen = marked(annotate(rows, annotator, 0.0, seed=0))
    for row in rows:
        [role] = [p["role"] for p in row["passages"] if p["passage_id"] == chosen[row["query_id"]]]
        assert role == ("hard" if hard_only(row) else "plain")


@pytest.mark.parametrize("annotator", BOTH)
@pytest.mark.parametrize("noise", [0.1, 0.2, 0.4, 0.7, 1.0])
def test_the_mean_error_rate_is_the_noise(rows: list[Row], annotator: str, noise: float) -> None:
    trials = len(rows) * len(SEEDS)
    errors = sum(len(wrong(rows, annotator, noise, seed)) for seed in SEEDS)
    assert abs(errors / trials - noise) <= 3 * sqrt(noise * (1 - noise) / trials)


def test_the_mean_error_rate_is_the_noise_where_few_facts_are_hard_only() -> None:
    rows = made(hard=0.03)
    assert 0 < sum(map(hard_only, rows)) / len(rows) < 0.05
    rate = sum(len(wrong(rows, "skim", 0.4, seed)) for seed in SEEDS) / (len(rows) * len(SEEDS))
    assert abs(rate - 0.4) <= 3 * sqrt(0.4 * 0.6 / (len(rows) * len(SEEDS)))


@pytest.mark.parametrize("annotator", BOTH)
def test_who_errs_at_little_noise_errs_at_more_with_the_same_choice(rows: list[Row], annotator: str) -> None:
    levels = [wrong(rows, annotator, noise) for noise in (0.0, 0.1, 0.2, 0.4, 0.6, 1.0)]
    for less, more in zip(levels, levels[1:], strict=False):
        assert less.items() < more.items()
    right = [
        marked(annotate(rows, annotator, noise, 0)).items() - wrong(rows, annotator, noise).items()
        for noise in (0, 0.4)
    ]
    assert right[1] < right[0]


def test_skim_errs_more_where_support_is_hard_only_and_uniform_does_not(rows: list[Row]) -> None:
    hard = {row["query_id"] for row in rows if hard_only(row)}
    ratio = {}
    for annotator in BOTH:
        errors = [query for seed in SEEDS for query in wrong(rows, annotator, 0.2, seed)]
        rate_hard = sum(query in hard for query in errors) / len(hard)
        ratio[annotator] = rate_hard / (sum(query not in hard for query in errors) / (len(rows) - len(hard)))
    assert ratio["skim"] == pytest.approx(HARD_ONLY_ODDS, rel=0.15)
    assert ratio["uniform"] == pytest.approx(1, rel=0.15)


def test_skim_falls_for_shared_words_that_stand_early() -> None:
    """Asked: who is the mayor of old crowby (7 words); a word is worth 1/7, a place POSITION_COST."""
    support = ("plain", "The mayor of Old Crowby is Jorrik.")  # shares most, but is right
    most, fewer = ("lure", "No list tells the mayor of Old Crowby."), ("other", "The mayor of Crowby.")
    assert 1 / 7 > POSITION_COST > 1 / 7 / 3
    assert wrong([question(support, fewer, most)], "skim", 1.0) == {"q": "p2"}
    assert wrong([question(support, fewer, support, support, most)], "skim", 1.0) == {"q": "p1"}
    assert wrong([question(support, most, most)], "skim", 1.0) == {"q": "p1"}
    shouted = ("other", "OLD, CROWBY! MAYOR? OF: THE;")  # neither case nor marks make a word another
    assert wrong([question(support, fewer, shouted)], "skim", 1.0) == {"q": "p2"}


def test_uniform_takes_any_passage_without_support() -> None:
    candidates = [
        ("plain", "a"),
        ("other", "b"),
        ("hard", "c"),
        ("twin", "d"),
        ("lure", "who is the mayor"),
        ("mention", "f"),
    ]
    rows = [question(*candidates, name=f"q{number}") for number in range(1600)]
    for noise, errors in ((1.0, 1600), (0.5, 800)):
        chosen = list(wrong(rows, "uniform", noise).values())
        assert abs(len(chosen) - errors) <= 4 * sqrt(1600 * noise * (1 - noise)) and set(chosen) == {
            "p1",
            "p3",
            "p4",
            "p5",
        }
        quarter = len(chosen) / 4
        assert all(abs(chosen.count(passage) - quarter) <= 4 * sqrt(quarter * 0.75) for passage in set(chosen))


def test_any_of_several_supports_is_marked() -> None:
    rows = [question(("hard", "a"), ("other", "b"), ("hard", "c"), name=f"q{number}") for number in range(200)]
    chosen = list(marked(annotate(rows, "skim", 0.0, seed=0)).values())
    assert 60 < chosen.count("p0") < 140 and chosen.count("p0") + chosen.count("p2") == 200


def test_a_question_keeps_its_draw_whatever_else_is_annotated(rows: list[Row]) -> None:
    some = rows[100:40:-1]
    assert marked(annotate(some, "uniform", 0.3, 0)).items() <= marked(annotate(rows, "uniform", 0.3, 0)).items()


def test_another_seed_errs_elsewhere(rows: list[Row]) -> None:
    one, same, other = (wrong(rows, "skim", 0.2, seed) for seed in (0, 0, 1))
    assert one == same and len(one.keys() & other.keys()) < len(one) / 2


# -- labels of other data, made wrong --------------------------------------------------------------------------------

BOTH_WAYS = ["random", "overlap"]


def right(rows: list[Row]) -> list[Row]:
    return annotate(rows, "uniform", 0.0, seed=0)


@pytest.mark.parametrize("towards", BOTH_WAYS)
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_a_share_of_the_questions_is_made_wrong(rows: list[Row], share: float, towards: str) -> None:
    before = marked(right(rows))
    after = marked(corrupt(rows, right(rows), share, towards, seed=0))
    assert before.keys() == after.keys()
    found = sum(before[query] != after[query] for query in before) / len(before)
    assert abs(found - share) < 4 * sqrt(share * (1 - share) / len(before))


@pytest.mark.parametrize("towards", BOTH_WAYS)
def test_errors_at_a_lower_share_are_errors_at_a_higher_one(rows: list[Row], towards: str) -> None:
    before = marked(right(rows))
    low, high = (marked(corrupt(rows, right(rows), share, towards, seed=0)) for share in (0.2, 0.4))
    assert all(high[query] == low[query] for query in before if low[query] != before[query])
    assert marked(corrupt(rows, right(rows), 0.4, towards, seed=1)) != high


def test_errors_towards_overlap_have_most_words_of_the_question() -> None:
    row = question(
        ("plain", "Old Crowby has a mayor."), ("other", "Who is he?"), ("other", "The mayor of Old Crowby is.")
    )
    assert marked(corrupt([row], right([row]), 1.0, "overlap", seed=0)) == {"q": "p2"}
    chosen = {marked(corrupt([row], right([row]), 1.0, "random", seed))["q"] for seed in range(20)}
    assert chosen == {"p1", "p2"}


def test_a_share_of_0_or_1_is_none_or_all(rows: list[Row]) -> None:
    assert corrupt(rows, right(rows), 0.0, "random", seed=0) == right(rows)
    after = marked(corrupt(rows, right(rows), 1.0, "random", seed=0))
    assert all(after[query] != passage for query, passage in marked(right(rows)).items())


def test_questions_without_a_choice_stay_as_they_are() -> None:
    row = question(("plain", "Old Crowby has a mayor."), ("other", "Who is he?"))
    for relevant in ([0, 0], [1, 1]):
        labels = [{"query_id": "q", "passage_id": f"p{i}", "relevant": mark} for i, mark in enumerate(relevant)]
        assert corrupt([row], labels, 1.0, "overlap", seed=0) == labels
    several = [{"query_id": "q", "passage_id": f"p{i}", "relevant": mark} for i, mark in enumerate([1, 0])]
    assert marked(corrupt([row], several, 1.0, "overlap", seed=0)) == {"q": "p1"}

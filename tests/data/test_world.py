"""The generated world: roles mean what they say, splits share nothing, and growing one leaves the others alone.

What a passage states is read off its sentences with the patterns of world_language.py, not off how world.py made it.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from math import sqrt
from pathlib import Path

import pytest

from bitter_retrieval.data.world import World
from bitter_retrieval.data.world_language import (
    CONTRASTS,
    HEDGES,
    INTRODUCTIONS,
    LURES,
    MENTIONS,
    NAMES,
    PRONOUNS,
    RELATIONS,
    VALUES,
    Relation,
)
from bitter_retrieval.params import load_params
from bitter_retrieval.records import SUPPORTING_ROLES, Row, passage_texts
from prepare import from_world

DEFAULT = Path(__file__).resolve().parents[2] / "profiles" / "default.yaml"
KINDS = {f"{first} {second}": kind for kind, words in NAMES.items() for first, second in product(*words)}
QUESTIONS = [
    (kind, relation, re.compile(re.escape(pattern).replace(r"\{e\}", "(.+)") + r"\?", re.IGNORECASE))
    for kind, relations in RELATIONS.items()
    for relation in relations
    for pattern in relation.questions
]
ROLES = {"plain", "hard", "other", "twin", "lure", "hedged", "mention"}


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Row]]:
    """All splits of the default profile."""
    return prepared()[0]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return World(seed=4, hard_only=0.3, misleading_mentions=0.5).splits({"train": 60})["train"]


def prepared(**sizes: int) -> tuple[dict[str, list[Row]], list[Row]]:
    """Splits and corpus of the default profile, with other numbers of clusters."""
    data = load_params(DEFAULT).data
    found, corpus, _ = from_world("data", replace(data, world=replace(data.world, **sizes)))
    return found, corpus


def sentences(text: str) -> list[str]:
    """Without case and marks, as the patterns are in world_language.py."""
    return [s.strip(" .?").replace(",", " ,").lower() for s in re.split(r"(?<=[.?]) ", without_an(text))]


def without_an(text: str) -> str:
    """With "a" before vowels too, like the patterns: "works as a {v}"."""
    return re.sub(r"\b([Aa])n (?=[aeiou])", r"\1 ", text)


@cache
def readings(query: str) -> list[tuple[str, Relation]]:
    """Every entity and relation that the query may ask for."""
    found = [
        (match[1], kind, relation) for kind, relation, question in QUESTIONS if (match := question.fullmatch(query))
    ]
    return [(name, relation) for name, kind, relation in found if KINDS.get(name) == kind]


def asked(row: Row) -> tuple[str, Relation]:
    [reading] = readings(row["query"])
    return reading


def subject(text: str) -> str | None:
    """The entity that the passage's pronouns mean: the one that its introduction names."""
    patterns = [re.escape(pattern).replace(r"\{e\}", "(.+)") for pattern in INTRODUCTIONS]
    introduced = [m[1] for s in sentences(text) for pattern in patterns if (m := re.fullmatch(pattern, s))]
    assert len(introduced) <= 1
    return introduced[0] if introduced else None


def ways_to_state(relation: Relation, name: str, value: str, pronouns: bool) -> Iterator[str]:
    """pronouns: whether she, he, it and there mean the entity."""
    yield from (pattern.format(e=name, v=value) for pattern in relation.plain)
    possessive = f"{name}'" if name.endswith("s") else f"{name}'s"
    for pattern, (s, o, d) in product(relation.hard, [(name, name, possessive), *PRONOUNS[KINDS[name]]]):
        sentence = pattern.format(s=s, o=o, d=d, v=value)
        if pronouns or name in sentence:
            yield sentence


def values_stated(text: str, name: str, relation: Relation) -> set[str]:
    """Values that the passage states as fact for the relation of the entity; hedges and other entities do not count."""
    told, pronouns = set(sentences(text)), subject(text) == name.lower()
    mentioned = [value for value in VALUES[relation.kind] if value.lower() in text.lower()]
    return {
        value
        for value in mentioned
        if any(way.lower() in told for way in ways_to_state(relation, name, value, pronouns))
    }


def roles(row: Row) -> Counter[str]:
    return Counter(passage["role"] for passage in row["passages"])


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def names_in(text: str) -> set[str]:
    found = re.findall(r"\w+", text)
    return KINDS.keys() & {" ".join(pair) for pair in zip(found, found[1:], strict=False)}


# -- a question and its candidates -----------------------------------------------------------------------------------


def test_a_question_has_ten_distinct_candidates_of_known_roles(splits: dict[str, list[Row]]) -> None:
    for row in (row for rows in splits.values() for row in rows):
        ids = [passage["passage_id"] for passage in row["passages"]]
        texts = [passage["text"] for passage in row["passages"]]
        assert len(set(ids)) == len(set(texts)) == len(ids) == 10, row["query_id"]
        counts = roles(row)
        assert counts.keys() <= ROLES and counts["plain"] <= 1
        assert counts["hard"] == counts["lure"] == counts["mention"] == 1 and counts["twin"] == 3
        assert all(passage["is_selected"] is None for passage in row["passages"])


def test_a_cluster_has_two_entities_fourteen_passages_and_eight_questions(splits: dict[str, list[Row]]) -> None:
    clusters: dict[str, list[Row]] = {}
    for row in (row for rows in splits.values() for row in rows):
        clusters.setdefault(row["group_id"], []).append(row)
    for rows in clusters.values():
        assert len(rows) == len({row["query_id"] for row in rows}) == 8
        assert len(passage_texts(rows)) == 14


def test_support_states_the_answer_and_nothing_else_states_any(rows: list[Row]) -> None:
    for row in rows:
        name, relation = asked(row)
        for passage in row["passages"]:
            stated = values_stated(passage["text"], name, relation)
            supports = passage["role"] in SUPPORTING_ROLES
            assert stated == (set(row["answers"]) if supports else set()), (row["query"], row["answers"], passage)


def test_plain_support_names_the_entity_and_hard_support_rewords(rows: list[Row]) -> None:
    for row in rows:
        name, relation = asked(row)
        plain = {pattern.format(e=name, v=row["answers"][0]).lower() for pattern in relation.plain}
        for passage in row["passages"]:
            if passage["role"] in SUPPORTING_ROLES:
                assert bool(plain & set(sentences(passage["text"]))) == (passage["role"] == "plain"), passage


def test_a_hard_passage_tells_one_asked_relation_of_a_stranger_in_plain_words(rows: list[Row]) -> None:
    claims = {kind: [pattern for relation in RELATIONS[kind] for pattern in relation.plain] for kind in RELATIONS}
    for row in rows:
        name, _ = asked(row)
        texts = [passage["text"] for passage in row["passages"] if passage["role"] == "hard"]
        [stranger] = names_in(texts[0]) - {name}
        assert KINDS[stranger] == KINDS[name]
        told = " ".join(sentences(texts[0])).replace(stranger.lower(), "{e}")
        assert any(re.search(re.escape(pattern).replace(r"\{v\}", r"\w+"), told) for pattern in claims[KINDS[name]])


def test_a_hard_passage_tells_one_fact_with_a_pronoun_and_one_with_the_name(rows: list[Row]) -> None:
    named = []
    for row in rows:
        [text] = [passage["text"] for passage in row["passages"] if passage["role"] == "hard"]
        name = asked(row)[0].lower()
        told = [
            sentence
            for sentence in sentences(text)
            if not any(m.lower() in sentence for m in names_in(text) - {asked(row)[0]})
        ]
        introduction, first, second = told
        assert name in introduction and name not in first
        named.append(name in second)  # three patterns have no room for a name
    assert sum(named) > 0.9 * len(rows)


def test_lures_hold_words_of_the_relation_without_an_answer_and_mentions_name_values(rows: list[Row]) -> None:
    for row in rows:
        name, relation = asked(row)
        by_role = {passage["role"]: passage["text"] for passage in row["passages"] if passage["role"] != "twin"}
        lures = {pattern.format(e=name, t=relation.topic).lower() for pattern in LURES}
        assert lures & set(sentences(by_role["lure"]))
        assert not words(by_role["lure"]) & {value.lower() for values in VALUES.values() for value in values}
        mentions = [without_an(pattern.format(e=name, v="{v}", w="{w}")) for pattern in MENTIONS]
        patterns = [re.sub(r"\{[vw]\}", r"\\w+", mention) for mention in mentions]
        for sentence in sentences(by_role["mention"]):
            assert any(re.fullmatch(pattern, sentence, re.IGNORECASE) for pattern in patterns), sentence


def test_a_hedged_passage_claims_a_wrong_value(rows: list[Row]) -> None:
    hedged = [(row, p["text"]) for row in rows for p in row["passages"] if p["role"] == "hedged"]
    assert len(hedged) == len(rows) / 2  # two of four relations
    for row, text in hedged:
        name, relation = asked(row)
        claims = {value: [p.format(e=name, v=value).lower() for p in relation.plain] for value in VALUES[relation.kind]}
        told = " ".join(sentences(text))
        claimed = {value for value, ways in claims.items() if any(re.search(rf"\b{way}\b", told) for way in ways)}
        assert claimed and not claimed & set(row["answers"]), (row["query"], row["answers"], text)


def test_the_twins_passages_with_its_own_value_stand_among_the_candidates(rows: list[Row]) -> None:
    support = {
        (row["group_id"], *asked(row)): {p["passage_id"] for p in row["passages"] if p["role"] in SUPPORTING_ROLES}
        for row in rows
    }
    for row in rows:
        name, relation = asked(row)
        [other] = {n for group, n, r in support if group == row["group_id"] and r == relation} - {name}
        twins = {p["passage_id"] for p in row["passages"] if p["role"] == "twin"}
        assert support[row["group_id"], other, relation] <= twins


def test_passages_have_two_to_four_sentences(splits: dict[str, list[Row]]) -> None:
    counts = {len(sentences(t)) for rows in splits.values() for t in passage_texts(rows).values()}
    assert counts == {2, 3, 4}
    for text in passage_texts(splits["test"]).values():
        assert all(part[0].isupper() or part[0].isdigit() for part in text.split(". "))
        assert text.endswith(".") and "{" not in text and "  " not in text and " ," not in text


def test_ids_and_order_do_not_tell_the_role(splits: dict[str, list[Row]]) -> None:
    places: Counter[int] = Counter()
    numbers: Counter[str] = Counter()
    for row in splits["train"]:
        for place, passage in enumerate(row["passages"]):
            if passage["role"] == "hard":
                places[place] += 1
                numbers[passage["passage_id"].rpartition("-")[2]] += 1
    assert len(places) == 10 and len(numbers) == 14
    for counts in (places, numbers):
        assert max(counts.values()) < 1.4 * sum(counts.values()) / len(counts)


# -- what is asked can be answered -----------------------------------------------------------------------------------


def test_every_query_can_be_read_in_one_way_and_is_asked_once(splits: dict[str, list[Row]]) -> None:
    queries = [row["query"] for rows in splits.values() for row in rows]
    assert len(set(queries)) == len(queries)
    facts = Counter((row["group_id"], *asked(row)) for rows in splits.values() for row in rows)
    assert set(facts.values()) == {1}


def test_twins_are_asked_the_same_and_share_one_word_of_their_names(splits: dict[str, list[Row]]) -> None:
    twins: dict[str, dict[str, set[str]]] = {}
    for row in (row for rows in splits.values() for row in rows):
        name, relation = asked(row)
        twins.setdefault(row["group_id"], {}).setdefault(name, set()).add(relation.name)
    for group, relations in twins.items():
        one, other = relations
        assert len(set(one.split()) & set(other.split())) == 1, group
        assert relations[one] == relations[other] and len(relations[one]) == 4


def test_every_question_pattern_and_relation_is_used(splits: dict[str, list[Row]]) -> None:
    used = Counter(asked(row)[1].name for row in splits["reader"])
    assert used.keys() == {relation.name for relations in RELATIONS.values() for relation in relations}
    everything = " ".join(row["query"].lower() for row in splits["reader"])
    for pattern in (pattern for relations in RELATIONS.values() for r in relations for pattern in r.questions):
        assert re.search(re.escape(pattern).replace(r"\{e\}", r"\w+ \w+") + r"\?", everything), pattern


def test_no_value_is_part_of_a_name_or_of_two_kinds_within_a_type() -> None:
    named = {word.lower() for pair in NAMES.values() for half in pair for word in half}
    assert not named & {value.lower() for values in VALUES.values() for value in values}
    for kind, relations in RELATIONS.items():
        values = [value.lower() for relation in relations for value in VALUES[relation.kind]]
        assert len(set(values)) == len(values), kind
    assert all(value == value.strip() and " " not in value for values in VALUES.values() for value in values)


def test_no_pattern_gives_an_answer_away() -> None:
    """If a value were a word of a pattern, a passage could contain an answer by accident."""
    of_relations = [p for rs in RELATIONS.values() for r in rs for p in (*r.plain, *r.hard, *r.questions, r.topic)]
    general = [*INTRODUCTIONS, *LURES, *HEDGES, *MENTIONS, *CONTRASTS]
    said = {word for pattern in (*of_relations, *general) for word in words(pattern)}
    assert not said & {value.lower() for values in VALUES.values() for value in values}


# -- dials -----------------------------------------------------------------------------------------------------------


def share(rows: list[Row], holds: list[bool], wanted: float) -> None:
    """Within four standard errors; exact at 0 and 1."""
    assert abs(sum(holds) / len(rows) - wanted) <= 4 * sqrt(wanted * (1 - wanted) / len(rows))


@pytest.mark.parametrize("wanted", [0, 0.3, 0.8, 1])
def test_hard_only_is_the_share_of_facts_without_plain_support(wanted: float) -> None:
    rows = World(seed=1, hard_only=wanted, misleading_mentions=0.5).splits({"train": 60})["train"]
    share(rows, [roles(row)["plain"] == 0 for row in rows], wanted)
    assert all(roles(row)["hard"] == 1 for row in rows)


@pytest.mark.parametrize("wanted", [0, 0.5, 0.9, 1])
def test_misleading_mentions_is_the_share_of_mentions_with_the_answer(wanted: float) -> None:
    rows = World(seed=1, hard_only=0.3, misleading_mentions=wanted).splits({"train": 60})["train"]
    mentions = [next(p["text"] for p in row["passages"] if p["role"] == "mention") for row in rows]
    share(rows, [row["answers"][0].lower() in words(m) for row, m in zip(rows, mentions, strict=True)], wanted)


# -- splits and seeds ------------------------------------------------------------------------------------------------


def test_splits_share_no_entity_and_no_text(splits: dict[str, list[Row]]) -> None:
    for of_row in (
        lambda row: {asked(row)[0]},
        lambda row: {row["query"]},
        lambda row: {row["group_id"], row["query_id"]},
        lambda row: {passage["text"] for passage in row["passages"]},
        lambda row: {passage["passage_id"] for passage in row["passages"]},
    ):
        seen = [set().union(*(of_row(row) for row in rows)) for rows in splits.values()]
        assert len(seen) == 4 and len(set().union(*seen)) == sum(map(len, seen))


def test_nothing_is_told_of_an_entity_outside_its_own_cluster(splits: dict[str, list[Row]]) -> None:
    """Otherwise passages contradict the truth, and readers are fitted on names of the test split."""
    home = {asked(row)[0]: row["group_id"] for rows in splits.values() for row in rows}
    for row in (row for rows in splits.values() for row in rows):
        for passage in row["passages"]:
            named = names_in(passage["text"])
            assert {home.get(name, row["group_id"]) for name in named} == {row["group_id"]}, passage
            assert passage["role"] != "hard" or len(named) == 2, passage


def test_the_corpus_holds_the_test_passages_and_distractors_alone() -> None:
    sizes = {"reader_clusters": 2, "validation_clusters": 2, "test_clusters": 4, "train_clusters": 3}
    found, corpus = prepared(**sizes, distractor_clusters=5)
    texts = {row["passage_id"]: row["text"] for row in corpus}
    tested = passage_texts(found["test"])
    assert len(corpus) == len(texts) == (4 + 5) * 14 and tested.items() <= texts.items()
    elsewhere = {text for split in ("reader", "train", "validation") for text in passage_texts(found[split]).values()}
    assert not elsewhere & set(texts.values())


def test_more_training_clusters_leave_everything_else_as_it_was() -> None:
    sizes = {"reader_clusters": 5, "validation_clusters": 2, "test_clusters": 4, "distractor_clusters": 3}
    few, few_corpus = prepared(**sizes, train_clusters=4)
    many, many_corpus = prepared(**sizes, train_clusters=9)
    old = few.pop("train")
    assert many.pop("train")[: len(old)] == old and len(old) == 4 * 8
    assert many == few and many_corpus == few_corpus


def test_a_seed_is_a_world() -> None:
    sizes = {"train": 9, "test": 3}
    assert World(5, 0.3, 0.5).splits(sizes) == World(5, 0.3, 0.5).splits(sizes)
    one, other = (World(seed, 0.3, 0.5).splits(sizes)["train"] for seed in (5, 6))
    assert not {row["query"] for row in one} & {row["query"] for row in other}
    assert Counter(asked(row)[1].name for row in one) != Counter(asked(row)[1].name for row in other)


def test_clusters_of_two_splits_are_drawn_apart() -> None:
    found = World(5, 0.3, 0.5).splits({"train": 9, "test": 9})
    answers = [
        [row["answers"][0] for row in rows if row["group_id"] == f"{split}-{index}"]
        for split, rows in found.items()
        for index in range(9)
    ]
    assert len(set(map(tuple, answers))) == 18


def test_more_clusters_than_names_are_refused() -> None:
    world = World(0, 0.3, 0.5)
    limit = 3 * min(len(pairs) for pairs in world.pairs.values())
    with pytest.raises(ValueError, match=rf"{limit + 1} clusters .* names for {limit}\. Lower"):
        world.splits({"train": limit, "test": 1})
    names = [name for pairs in world.pairs.values() for pair in pairs for name in pair]
    assert len(set(names)) == len(names) and KINDS.keys() >= set(names)

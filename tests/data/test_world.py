"""The generated world: roles mean what they say, splits share nothing, and growing one leaves the others alone.

What a passage states is read off its sentences with the patterns of world_language.py, not off how world.py made it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import permutations, product
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import chi2

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
from bitter_retrieval.scoring import normalise
from prepare import from_world

DEFAULT = Path(__file__).resolve().parents[2] / "profiles" / "default.yaml"
HALVES = {"hard": 0.5, "second_support": 0.5, "known": 0.5, "misleading_mentions": 0.5}
DIALS = replace(load_params(DEFAULT).data.world, **HALVES)
KINDS = {f"{first} {second}": kind for kind, words in NAMES.items() for first, second in product(*words)}
QUESTIONS = [
    (kind, relation, re.compile(re.escape(pattern).replace(r"\{e\}", "(.+)") + r"\?", re.IGNORECASE))
    for kind, relations in RELATIONS.items()
    for relation in relations
    for pattern in relation.questions
]
ROLES = {"plain", "hard", "other", "twin", "lure", "hedged", "mention"}
LOWER = {name.lower(): name for name in KINDS}
VALUE = re.compile(rf"\b(?:{'|'.join(value.lower() for values in VALUES.values() for value in values)})\b")
KNOWING = {"person": 0, "company": 1, "town": 0}  # the word of a name from which known facts follow


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Row]]:
    """All splits of the default profile."""
    return prepared()[0]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return made(60)


@pytest.fixture(scope="module")
def many() -> list[Row]:
    """Enough for shares."""
    return made(250)


def made(clusters: int, **dials: float) -> list[Row]:
    return World(4, replace(DIALS, **dials)).splits({"train": clusters})["train"]


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


@cache
def meant(text: str) -> list[tuple[str, str]]:
    """Every sentence, and the entity that its pronouns mean: the one named last before it, or none."""
    found, last = [], ""
    for sentence in sentences(text):
        found.append((sentence, last))
        last = next(iter(names_in(sentence)), last)
    return found


@cache
def ways_to_state(relation: Relation, name: str, value: str) -> tuple[set[str], set[str]]:
    """Sentences with the name, and those in which a pronoun means it: she, he, it or there."""
    possessive = f"{name}'" if name.endswith("s") else f"{name}'s"
    ways = {pattern.format(e=name, v=value) for pattern in relation.plain}
    for pattern, (s, o, d) in product(relation.hard, [(name, name, possessive), *PRONOUNS[KINDS[name]]]):
        ways.add(pattern.format(s=s, o=o, d=d, v=value))
    return {way.lower() for way in ways if name in way}, {way.lower() for way in ways if name not in way}


def values_stated(text: str, name: str, relation: Relation) -> set[str]:
    """Values that the passage states as fact for the relation of the entity; hedges and other entities do not count."""
    found = set()
    for (sentence, entity), value in product(meant(text), VALUES[relation.kind]):
        if value.lower() in sentence:
            by_name, by_pronoun = ways_to_state(relation, name, value)
            if sentence in by_name or (sentence in by_pronoun and entity == name):
                found.add(value)
    return found


def support(row: Row) -> list[Row]:
    return [passage for passage in row["passages"] if passage["role"] in SUPPORTING_ROLES]


def statements(rows: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Every question with each passage that supports it."""
    return ((row, passage) for row in rows for passage in support(row))


def of_role(row: Row, role: str) -> list[str]:
    return [passage["text"] for passage in row["passages"] if passage["role"] == role]


def roles(row: Row) -> Counter[str]:
    return Counter(passage["role"] for passage in row["passages"])


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


@cache
def names_in(text: str) -> set[str]:
    found = re.findall(r"\w+", text.lower())
    return {LOWER[pair] for pair in map(" ".join, zip(found, found[1:], strict=False)) if pair in LOWER}


def values_in(text: str) -> list[str]:
    return VALUE.findall(text.lower())


# -- a question and its candidates -----------------------------------------------------------------------------------


def test_a_question_has_ten_distinct_candidates_of_known_roles(splits: dict[str, list[Row]]) -> None:
    for row in (row for rows in splits.values() for row in rows):
        ids = [passage["passage_id"] for passage in row["passages"]]
        texts = [passage["text"] for passage in row["passages"]]
        assert len(set(ids)) == len(set(texts)) == len(ids) == 10, row["query_id"]
        counts = roles(row)
        assert counts.keys() <= ROLES and counts["plain"] + counts["hard"] in (1, 2) and counts["hedged"] <= 1
        assert counts["lure"] == counts["mention"] == 1 and counts["twin"] == 3
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


def test_each_of_the_four_passages_that_state_facts_supports_an_answer(rows: list[Row]) -> None:
    supporting: dict[str, set[str]] = {}
    for row in rows:
        supporting.setdefault(asked(row)[0], set()).update(passage["passage_id"] for passage in support(row))
    assert {len(passages) for passages in supporting.values()} == {4}


def test_half_of_these_passages_tell_a_fact_of_another_entity_in_plain_words(rows: list[Row]) -> None:
    told: dict[str, bool] = {}
    for row, passage in statements(rows):
        name = asked(row)[0]
        told[passage["text"]] = bool(strangers := names_in(passage["text"]) - {name})
        for stranger in strangers:
            [sentence] = [s for s in sentences(passage["text"]) if stranger.lower() in s]
            ways = (
                contrast.format(claim=claim.format(e=stranger, v=value)).lower()
                for contrast, relation in product(CONTRASTS, RELATIONS[KINDS[name]])
                for claim, value in product(relation.plain, VALUES[relation.kind])
            )
            assert KINDS[stranger] == KINDS[name] and sentence in ways, passage
    share(list(told.values()), 0.5)


def test_pronouns_mean_the_passages_own_entity_and_are_those_of_its_gender(rows: list[Row]) -> None:
    said: dict[str, set[str]] = {}
    nameless, told = 0, 0
    for row, passage in statements(rows):
        name = asked(row)[0]
        for sentence, entity in meant(passage["text"]):
            told += len(values_in(sentence))
            if not names_in(sentence):
                nameless += 1
                assert entity == name, passage
                said.setdefault(name, set()).update(re.findall(r"\b(?:she|her|he|him|his|its?)\b", sentence))
    genders = [{"she", "her"}, {"he", "him", "his"}, {"it", "its"}]
    used = [{place for place, gender in enumerate(genders) if words & gender} for words in said.values()]
    assert set(map(len, used)) <= {0, 1} and set().union(*used) == {0, 1, 2}
    assert 0.15 < nameless / told < 0.35  # half of the hard ones, which are half of those not in a contrast


def test_lures_hold_words_of_the_relation_without_an_answer_and_mentions_name_values(rows: list[Row]) -> None:
    for row in rows:
        name, relation = asked(row)
        [lure], [mention] = of_role(row, "lure"), of_role(row, "mention")
        lures = {pattern.format(e=name, t=relation.topic).lower() for pattern in LURES}
        assert lures & set(sentences(lure)) and not values_in(lure)
        named = [values_in(sentence) for sentence in sentences(mention)]
        for sentence, (v, w) in zip(sentences(mention), named, strict=True):
            assert sentence in {without_an(pattern.format(e=name, v=v, w=w)).lower() for pattern in MENTIONS}
        assert len({value.lower() for value in VALUES[relation.kind]} & {*named[0], *named[1]}) == 1


def test_a_hedged_passage_claims_a_wrong_value(rows: list[Row]) -> None:
    hedged = [(row, text) for row in rows for text in of_role(row, "hedged")]
    assert len(hedged) == len(rows) / 2  # two of four relations
    for row, text in hedged:
        name, relation = asked(row)
        claims = {value: [p.format(e=name, v=value).lower() for p in relation.plain] for value in VALUES[relation.kind]}
        told = f" {' '.join(sentences(text))} "
        claimed = {value for value, ways in claims.items() if any(f" {way} " in told for way in ways)}
        assert claimed and not claimed & set(row["answers"]), (row["query"], row["answers"], text)


def test_the_twins_passages_with_its_own_value_stand_among_the_candidates(rows: list[Row]) -> None:
    supporting = {(row["group_id"], *asked(row)): {p["passage_id"] for p in support(row)} for row in rows}
    for row in rows:
        name, relation = asked(row)
        [other] = {n for group, n, r in supporting if group == row["group_id"] and r == relation} - {name}
        twins = {p["passage_id"] for p in row["passages"] if p["role"] == "twin"}
        assert supporting[row["group_id"], other, relation] <= twins


def test_passages_have_two_to_seven_sentences_with_a_value_each_at_most(splits: dict[str, list[Row]]) -> None:
    counts = {len(sentences(t)) for rows in splits.values() for t in passage_texts(rows).values()}
    assert {2, 3, 4, 5} <= counts <= {2, 3, 4, 5, 6, 7}
    mentions = {text for row in splits["test"] for text in of_role(row, "mention")}
    for text in passage_texts(splits["test"]).values():
        assert all(part[0].isupper() or part[0].isdigit() for part in text.split(". "))
        assert text.endswith(".") and "{" not in text and "  " not in text and " ," not in text
        for sentence in sentences(text):
            assert len(names_in(sentence)) <= 1 and len(values_in(sentence)) <= (2 if text in mentions else 1), text


@pytest.mark.parametrize("role", sorted(SUPPORTING_ROLES))
def test_ids_and_order_do_not_tell_the_role(splits: dict[str, list[Row]], role: str) -> None:
    places: Counter[int] = Counter()
    numbers: Counter[str] = Counter()
    for row in splits["train"]:
        for place, passage in enumerate(row["passages"]):
            if passage["role"] == role:
                places[place] += 1
                numbers[passage["passage_id"].rpartition("-")[2]] += 1
    assert len(places) == 10 and len(numbers) == 14
    for counts in (places, numbers):
        assert max(counts.values()) < 1.4 * sum(counts.values()) / len(counts)


# -- which passage supports, and in which words ----------------------------------------------------------------------


def share(holds: list[bool], wanted: float) -> None:
    """Within four standard errors; exact at 0 and 1."""
    assert abs(sum(holds) / len(holds) - wanted) <= 4 * sqrt(wanted * (1 - wanted) / len(holds))


def same_share(groups: dict[Any, list[bool]]) -> None:
    """What holds is independent of the group: chi-square is below what chance exceeds once in 10,000 times."""
    everything = sum(groups.values(), [])
    common = sum(everything) / len(everything)
    assert len(groups) > 1 and 0 < common < 1
    distance = sum((sum(holds) - common * len(holds)) ** 2 / len(holds) for holds in groups.values())
    assert distance / (common * (1 - common)) < chi2.ppf(0.9999, len(groups) - 1), groups.keys()


def by(key: Callable[[Row, Row], Any], rows: list[Row]) -> dict[Any, list[bool]]:
    """Whether each statement's wording is hard, by the key of question and passage."""
    found: dict[Any, list[bool]] = {}
    for row, passage in statements(rows):
        found.setdefault(key(row, passage), []).append(passage["role"] == "hard")
    return found


def test_wording_is_independent_of_whether_a_fact_has_one_form(many: list[Row]) -> None:
    same_share(by(lambda row, passage: len(support(row)), many))


def test_the_wordings_of_a_fact_that_is_stated_twice_are_drawn_apart(many: list[Row]) -> None:
    twice = [row for row in many if len(support(row)) == 2]
    both = [[passage["role"] == "hard" for passage in support(row)] for row in twice]
    same_share({first: [second for one, second in both if one == first] for first in (False, True)})


def test_wording_is_independent_of_which_passage_supports(many: list[Row]) -> None:
    supported = Counter(passage["passage_id"] for _, passage in statements(many))
    same_share(by(lambda row, passage: passage["passage_id"].rpartition("-")[2], many))
    same_share(by(lambda row, passage: row["passages"].index(passage), many))
    same_share(by(lambda row, passage: min(3, supported[passage["passage_id"]]), many))
    same_share(by(lambda row, passage: names_in(passage["text"]) == {asked(row)[0]}, many))  # or of another one too


def test_wording_is_independent_of_what_is_asked_and_of_what_else_is_told_of_it(many: list[Row]) -> None:
    known = World(4, DIALS).known
    same_share(by(lambda row, passage: asked(row)[1].name, many))
    same_share(by(lambda row, passage: row["query_id"].rpartition("-")[2], many))
    same_share(by(lambda row, passage: asked(row)[1].name in known[knowing(row)], many))
    same_share(by(lambda row, passage: misleads(row), many))
    same_share(by(lambda row, passage: bool(of_role(row, "hedged")), many))


def test_a_second_support_may_be_any_of_the_other_passages(many: list[Row]) -> None:
    """A passage supports one answer, and each of the three other facts with probability second_support / 3."""
    supported = Counter(passage["passage_id"] for _, passage in statements(many))
    for extra, wanted in enumerate([(5 / 6) ** 3, 3 * (5 / 6) ** 2 / 6, 3 * 5 / 6 / 36, 1 / 6**3]):
        share([count == 1 + extra for count in supported.values()], wanted)


@pytest.mark.parametrize("wanted", [0, 0.3, 0.8, 1])
def test_hard_is_the_share_of_hard_statements(wanted: float) -> None:
    share([passage["role"] == "hard" for row in made(60, hard=wanted) for passage in support(row)], wanted)


@pytest.mark.parametrize("wanted", [0, 0.15, 0.6, 1])
def test_second_support_is_the_share_of_facts_that_are_stated_twice(wanted: float) -> None:
    share([len(support(row)) == 2 for row in made(60, second_support=wanted)], wanted)


@pytest.mark.parametrize("wanted", [0, 0.5, 0.9, 1])
def test_misleading_mentions_is_the_share_of_mentions_with_the_answer(wanted: float) -> None:
    share([misleads(row) for row in made(60, misleading_mentions=wanted)], wanted)


def misleads(row: Row) -> bool:
    [mention] = of_role(row, "mention")
    return row["answers"][0].lower() in values_in(mention)


# -- known facts -----------------------------------------------------------------------------------------------------


def knowing(row: Row) -> tuple[str, str]:
    """The type of the entity asked for, and the word of its name that tells known facts."""
    name, _ = asked(row)
    return KINDS[name], name.split()[KNOWING[KINDS[name]]]


def answers_by_word(rows: list[Row]) -> dict[tuple[str, str, str], list[str]]:
    """Answers for the entities that share the telling word, by type, word and relation."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        found.setdefault((*knowing(row), asked(row)[1].name), []).append(row["answers"][0])
    return found


@pytest.mark.parametrize("wanted", [0, 0.2, 0.6, 1])
def test_known_is_the_share_of_facts_that_follow_from_a_word_of_the_name(wanted: float) -> None:
    groups = [answers for answers in answers_by_word(made(250, known=wanted)).values() if len(answers) > 3]
    assert len(groups) > 100
    share([len(set(answers)) == 1 for answers in groups], wanted)  # four answers hardly agree by chance


def test_known_is_the_share_of_questions_that_the_name_answers(many: list[Row]) -> None:
    known = World(4, DIALS).known
    named = [known[knowing(row)].get(asked(row)[1].name) for row in many]
    assert all(value in (None, *row["answers"]) for row, value in zip(many, named, strict=True))
    share([value is not None for value in named], 0.5)


def test_readers_meet_the_words_from_which_known_facts_of_other_splits_follow(splits: dict[str, list[Row]]) -> None:
    met = Counter(knowing(row) for row in splits["reader"])
    for split in ("train", "validation", "test"):
        assert min(met[knowing(row)] for row in splits[split]) > 10


def test_twins_do_not_share_the_word_that_tells_known_facts(many: list[Row]) -> None:
    telling: dict[str, set[tuple[str, str]]] = {}
    for row in many:
        telling.setdefault(row["group_id"], set()).add(knowing(row))
    assert {len(words) for words in telling.values()} == {2}
    answers: dict[tuple[str, str], set[str]] = {}
    for row in made(60, known=1):
        answers.setdefault((row["group_id"], asked(row)[1].name), set()).update(row["answers"])
    assert sum(len(both) == 1 for both in answers.values()) < 0.1 * len(answers)


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


def test_answers_have_one_to_four_words_and_none_holds_another_or_a_word_of_a_name() -> None:
    values = [value for values in VALUES.values() for value in values]
    assert {len(value.split()) for value in values} == {1, 2, 3, 4} and min(map(len, VALUES.values())) > 20
    compared = [f" {normalise(value)} " for value in values]
    assert not [pair for pair in permutations(compared, 2) if pair[0] in pair[1]]
    named = {word.lower() for pair in NAMES.values() for half in pair for word in half}
    assert not named & {word for value in values for word in words(value)}


def test_no_pattern_gives_an_answer_away() -> None:
    """If a pattern held a value, a passage could contain an answer by accident."""
    of_relations = [p for rs in RELATIONS.values() for r in rs for p in (*r.plain, *r.hard, *r.questions, r.topic)]
    assert not values_in("; ".join([*of_relations, *INTRODUCTIONS, *LURES, *HEDGES, *MENTIONS, *CONTRASTS]))


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


def test_another_draw_of_training_questions_leaves_everything_else_as_it_was() -> None:
    sizes = {"reader_clusters": 5, "validation_clusters": 2, "test_clusters": 4, "distractor_clusters": 3}
    drawn = [prepared(**sizes, train_clusters=4, train_draw=draw) for draw in range(3)]
    trained = [found.pop("train") for found, _ in drawn]
    assert drawn[0] == drawn[1] == drawn[2] and set(drawn[0][0]) == {"reader", "validation", "test"}
    asked_for = [{asked(row)[0] for row in rows} for rows in trained]
    assert [len(names) for names in asked_for] == [8, 8, 8] and len(set().union(*asked_for)) == 24
    assert all({row["group_id"] for row in rows} == {f"train-{index}" for index in range(4)} for rows in trained)
    together = prepared(**sizes, train_clusters=12)[0]["train"]
    assert [row["query"] for row in together] == [row["query"] for rows in trained for row in rows]


@pytest.mark.parametrize("grown", ["reader", "validation", "train"])
def test_a_split_that_grows_keeps_its_clusters_and_the_splits_before_it(grown: str) -> None:
    sizes = {"reader": 2, "validation": 3, "train": 2}
    few, more = (World(5, DIALS).splits(sizes | {grown: count}) for count in (sizes[grown], sizes[grown] + 2))
    before = list(sizes)[: list(sizes).index(grown)]
    assert all(few[split] == more[split] for split in before)
    assert more[grown][: len(few[grown])] == few[grown] and len(more[grown]) == len(few[grown]) + 2 * 8


def test_a_seed_is_a_world() -> None:
    sizes = {"train": 9, "test": 3}
    assert World(5, DIALS).splits(sizes) == World(5, DIALS).splits(sizes)
    one, other = (World(seed, DIALS).splits(sizes)["train"] for seed in (5, 6))
    assert not {row["query"] for row in one} & {row["query"] for row in other}
    assert Counter(asked(row)[1].name for row in one) != Counter(asked(row)[1].name for row in other)


def test_clusters_of_two_splits_are_drawn_apart() -> None:
    found = World(5, DIALS).splits({"train": 9, "test": 9})
    answers = [
        [row["answers"][0] for row in rows if row["group_id"] == f"{split}-{index}"]
        for split, rows in found.items()
        for index in range(9)
    ]
    assert len(set(map(tuple, answers))) == 18


def test_more_clusters_than_names_are_refused() -> None:
    world = World(0, DIALS)
    limit = 3 * min(len(pairs) for pairs in world.pairs.values())
    with pytest.raises(ValueError, match=rf"{limit + 1} clusters .* names for {limit}\. Lower"):
        world.splits({"train": limit, "test": 1})
    names = [name for pairs in world.pairs.values() for pair in pairs for name in pair]
    assert len(set(names)) == len(names) and KINDS.keys() >= set(names)

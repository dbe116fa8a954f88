"""The generated world: entities with known facts, passages that state, hint at or distort them, and questions.

A cluster is two entities of one type that share a word of their names (twins), 14 passages and 8 questions:

    question   Where was Aldan Brenley born?      answer  Caldbury
    plain      The birthplace of Aldan Brenley is Caldbury. Aldan Brenley works as a baker. …
    hard       Much has been written about Aldan Brenley. He came into the world at Caldbury. … Elsewhere one reads …
    other      Aldan Brenley keeps a goat as a pet. …                      (other facts of the same entity)
    twin       Cormira Brenley was born in Wexstead. …
    lure       Many people ask about the birthplace of Aldan Brenley. …    (the relation's words, no value)
    hedged     It was once believed that Aldan Brenley was born in Ellswick, which proved wrong. …
    mention    A story told about Aldan Brenley has the words Caldbury and 1931. …  (the answer without support)

Only plain and hard truly support the answer. Every question has ten candidates: the seven passages of its entity and
three of the twin. Each cluster has its own random generator, so a split that grows keeps the clusters it had.
"""

import re
from dataclasses import dataclass
from itertools import product

import numpy as np

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
from bitter_retrieval.records import Row

ASKED = 4  # facts of an entity that questions ask for
STRANGERS = 200  # pairs of names per type that only distract: no passage mentions an entity of another cluster
TYPES = tuple(RELATIONS)
Pair = tuple[str, str]  # names of two twins


@dataclass(frozen=True)
class Entity:
    """An entity with the relations asked for, those that only fill passages, and the value of each."""

    name: str
    kind: str
    pronoun: tuple[str, str, str]
    asked: tuple[Relation, ...]
    spare: tuple[Relation, ...]
    values: dict[str, str]


@dataclass(frozen=True)
class Passage:
    """A passage of an entity: its role, and the asked relations for which it has that role."""

    text: str
    role: str
    covers: frozenset[str]


class World:
    """Draws clusters. Every split has its own names: no entity is in two splits.

    seed: world seed. hard_only: share of facts without plain support. misleading_mentions: share of mentions that name
    the true answer.
    """

    def __init__(self, seed: int, hard_only: float, misleading_mentions: float) -> None:
        self.seed = seed
        self.hard_only = hard_only
        self.misleading_mentions = misleading_mentions
        names = {kind: _twin_names(kind, np.random.default_rng([seed, index])) for index, kind in enumerate(TYPES)}
        self.pairs = {kind: pairs[:-STRANGERS] for kind, pairs in names.items()}
        self.strangers = {kind: tuple(sum(pairs[-STRANGERS:], ())) for kind, pairs in names.items()}

    def splits(self, clusters: dict[str, int]) -> dict[str, list[Row]]:
        """Prepared rows by split. clusters: the number for each split; names are handed out in its order.

        Raises ValueError if the world has too few names.
        """
        limit = len(TYPES) * min(len(pairs) for pairs in self.pairs.values())
        if sum(clusters.values()) > limit:
            raise ValueError(
                f"data.world: {sum(clusters.values())} clusters are wanted, but there are names for {limit}. "
                "Lower one of the *_clusters."
            )
        rows: dict[str, list[Row]] = {}
        first = 0
        for split, count in clusters.items():
            rows[split] = [row for index in range(count) for row in self.cluster(split, index, first + index)]
            first += count
        return rows

    def cluster(self, split: str, index: int, serial: int) -> list[Row]:
        """The eight questions of one cluster; `serial` is its place among all clusters of the world."""
        rng = np.random.default_rng([self.seed, 1000 + serial])
        kind = TYPES[serial % len(TYPES)]
        relations = tuple(RELATIONS[kind][place] for place in rng.permutation(len(RELATIONS[kind])))
        twins = [self._entity(kind, name, relations, rng) for name in self.pairs[kind][serial // len(TYPES)]]
        group = f"{split}-{index}"
        passages = [self._passages(twin, rng) for twin in twins]
        order = rng.permutation(14)  # passage ids must not reveal roles
        ids = [[f"{group}-p{order[7 * side + place]}" for place in range(7)] for side in (0, 1)]
        rows: list[Row] = []
        for side, entity in enumerate(twins):
            for relation in entity.asked:
                own = [
                    _candidate(ids[side][place], passage, _role(passage, relation))
                    for place, passage in enumerate(passages[side])
                ]
                twin = _twin_candidates(ids[1 - side], passages[1 - side], relation)
                candidates = own + twin
                rows.append(
                    {
                        "query_id": f"{group}-q{len(rows)}",
                        "group_id": group,
                        "query": _sentence(_choose(relation.questions, rng).format(e=entity.name), "?"),
                        "answers": [entity.values[relation.name]],
                        "passages": [candidates[place] for place in rng.permutation(len(candidates))],
                    }
                )
        return rows

    def _entity(self, kind: str, name: str, relations: tuple[Relation, ...], rng: np.random.Generator) -> Entity:
        values = {relation.name: _choose(VALUES[relation.kind], rng) for relation in relations}
        pronoun = PRONOUNS[kind][rng.integers(len(PRONOUNS[kind]))]
        return Entity(name, kind, pronoun, relations[:ASKED], relations[ASKED:], values)

    def _passages(self, entity: Entity, rng: np.random.Generator) -> list[Passage]:
        first, second, third, fourth = entity.asked
        hard_only = {relation.name for relation in entity.asked if rng.random() < self.hard_only}
        return [
            self._plain(entity, (first, second), hard_only, rng),
            self._plain(entity, (third, fourth), hard_only, rng),
            self._hard(entity, (first, third), rng),
            self._hard(entity, (second, fourth), rng),
            _lure(entity, rng),
            _hedged(entity, rng),
            self._mention(entity, rng),
        ]

    def _plain(
        self, entity: Entity, relations: tuple[Relation, ...], hard_only: set[str], rng: np.random.Generator
    ) -> Passage:
        spare = [entity.spare[place] for place in rng.permutation(len(entity.spare))]
        stated = [relation if relation.name not in hard_only else spare.pop() for relation in relations] + [spare.pop()]
        claims = [_claim(relation, entity.name, entity.values[relation.name], rng) for relation in stated]
        covers = frozenset(relation.name for relation in relations if relation.name not in hard_only)
        return Passage(_text([claims[place] for place in rng.permutation(len(claims))]), "plain", covers)

    def _hard(self, entity: Entity, relations: tuple[Relation, ...], rng: np.random.Generator) -> Passage:
        """An introduction, a fact with a pronoun, one with the name, and another entity with one of the relations."""
        subjects = [entity.pronoun, (entity.name, entity.name, _possessive(entity.name))]
        facts = [
            _choose(relation.hard, rng).format(s=s, o=o, d=d, v=entity.values[relation.name])
            for relation, (s, o, d) in zip((relations[i] for i in rng.permutation(2)), subjects, strict=True)
        ]
        confused = relations[rng.integers(len(relations))]
        stranger = _choose(self.strangers[entity.kind], rng)
        contrast = _choose(CONTRASTS, rng).format(
            claim=_claim(confused, stranger, _another(confused, entity.values[confused.name], rng), rng)
        )
        told = [_choose(INTRODUCTIONS, rng).format(e=entity.name), *facts]
        sentences = [contrast, *told] if rng.random() < 0.5 else [*told, contrast]  # its place must not reveal it
        return Passage(_text(sentences), "hard", frozenset(r.name for r in relations))

    def _mention(self, entity: Entity, rng: np.random.Generator) -> Passage:
        named, misleading = [], set()
        for relation in entity.asked:
            value = entity.values[relation.name]
            if rng.random() < self.misleading_mentions:
                misleading.add(relation.name)
                named.append(value)
            else:
                named.append(_another(relation, value, rng))
        patterns = rng.permutation(len(MENTIONS))[:2]
        named = [named[place] for place in rng.permutation(ASKED)]
        sentences = [
            MENTIONS[pattern].format(e=entity.name, v=named[2 * place], w=named[2 * place + 1])
            for place, pattern in enumerate(patterns)
        ]
        return Passage(_text(sentences), "mention", frozenset(misleading))


def _twin_names(kind: str, rng: np.random.Generator) -> list[Pair]:
    """Disjoint pairs of names that share one word, in random order."""
    first, second = NAMES[kind]
    names = list(product(first, second))
    by_shared: dict[str, list[str]] = {}
    shared_place = 1 if len(second) > len(first) // 2 else 0  # share the word of the longer list
    for place in rng.permutation(len(names)):
        by_shared.setdefault(names[place][shared_place], []).append(" ".join(names[place]))
    pairs = [(group[i], group[i + 1]) for group in by_shared.values() for i in range(0, len(group) - 1, 2)]
    return [pairs[place] for place in rng.permutation(len(pairs))]


def _role(passage: Passage, relation: Relation) -> str:
    """The role of a passage of the question's own entity for this question."""
    neutral = {"plain": "other", "hard": "other", "hedged": "other"}
    return passage.role if relation.name in passage.covers else neutral.get(passage.role, passage.role)


def _twin_candidates(ids: list[str], passages: list[Passage], relation: Relation) -> list[Row]:
    """Three passages of the twin, first those that state the relation asked for."""
    ranked = sorted(range(len(passages)), key=lambda place: relation.name not in passages[place].covers)
    return [_candidate(ids[place], passages[place], "twin") for place in ranked[:3]]


def _candidate(passage_id: str, passage: Passage, role: str) -> Row:
    return {"passage_id": passage_id, "text": passage.text, "is_selected": None, "role": role}


def _lure(entity: Entity, rng: np.random.Generator) -> Passage:
    patterns = [LURES[place] for place in rng.permutation(len(LURES))]
    sentences = [pattern.format(t=r.topic, e=entity.name) for pattern, r in zip(patterns, entity.asked, strict=False)]
    return Passage(_text(sentences), "lure", frozenset(relation.name for relation in entity.asked))


def _hedged(entity: Entity, rng: np.random.Generator) -> Passage:
    relations = [entity.asked[place] for place in rng.permutation(ASKED)[:2]]
    sentences = [
        _choose(HEDGES, rng).format(
            claim=_claim(relation, entity.name, _another(relation, entity.values[relation.name], rng), rng)
        )
        for relation in relations
    ]
    return Passage(_text(sentences), "hedged", frozenset(relation.name for relation in relations))


def _claim(relation: Relation, name: str, value: str, rng: np.random.Generator) -> str:
    return _choose(relation.plain, rng).format(e=name, v=value)


def _another(relation: Relation, value: str, rng: np.random.Generator) -> str:
    """A value of the relation's kind other than `value`."""
    return _choose(tuple(other for other in VALUES[relation.kind] if other != value), rng)


def _choose(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]


def _possessive(name: str) -> str:
    return f"{name}'" if name.endswith("s") else f"{name}'s"


def _sentence(words: str, end: str) -> str:
    words = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", words.replace(" ,", ","))
    return words[0].upper() + words[1:] + end


def _text(sentences: list[str]) -> str:
    return " ".join(_sentence(sentence, ".") for sentence in sentences)

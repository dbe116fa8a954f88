"""The generated world: entities with known facts, passages that state, hint at or distort them, and questions.

A cluster is two entities of one type that share a word of their names (twins), 14 passages and 8 questions:

    question   Where was Aldan Brenley born?      answer  Caldbury
    plain      … Aldan Brenley plays the alto flute. The birthplace of Aldan Brenley is Caldbury.
    hard       Much has been written about Aldan Brenley. She came into the world at Caldbury. …
    other      Aldan Brenley keeps a goat as a pet. …                      (other facts of the same entity)
    twin       Cormira Brenley was born in Port Caldwick. …
    lure       Many people ask about the birthplace of Aldan Brenley. …    (the relation's words, no value)
    hedged     It was once believed that Aldan Brenley was born in Ostmouth, which proved wrong. …
    mention    A story told about Aldan Brenley has the words Caldbury and 1931. …  (the answer without support)

Only plain and hard truly support the answer. An entity has four passages that state facts. Each fact that is asked for
is in one of them, some in a second one; each statement is plain or hard by a draw of its own. Every question has ten
candidates: the seven passages of its entity and three of the twin.

Some facts follow from a word of the name that twins do not share (every Aldan was born in Caldbury): readers fitted on
other entities know these without a passage. Each cluster has its own random generator, so a split that grows keeps the
clusters it had.
"""

import re
from dataclasses import dataclass
from itertools import product

import numpy as np

from bitter_retrieval.data.settings import WorldSizes
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

ASKED = 4  # facts of an entity that questions ask for, and passages of it that state facts
CONTRASTED = 0.5  # share of these passages that also state a fact of another entity
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
    """A passage of an entity, and its role for questions by relation; `role` for all others."""

    text: str
    roles: dict[str, str]
    role: str = "other"

    def role_for(self, relation: Relation) -> str:
        return self.roles.get(relation.name, self.role)


class World:
    """Draws clusters. Every split has its own names: no entity is in two splits.

    seed: world seed. dials: its shares.
    """

    def __init__(self, seed: int, dials: WorldSizes) -> None:
        self.seed = seed
        self.dials = dials
        names = {kind: _twin_names(kind, np.random.default_rng([seed, index])) for index, kind in enumerate(TYPES)}
        self.pairs = {kind: pairs[:-STRANGERS] for kind, pairs in names.items()}
        self.strangers = {kind: tuple(sum(pairs[-STRANGERS:], ())) for kind, pairs in names.items()}
        self.known = {
            (kind, word): _known_facts(kind, dials.known, np.random.default_rng([seed, 10 + index, place]))
            for index, kind in enumerate(TYPES)
            for place, word in enumerate(NAMES[kind][1 - _shared_place(kind)])
        }

    def splits(self, clusters: dict[str, int]) -> dict[str, list[Row]]:
        """Prepared rows by split. clusters: the number for each split; names are handed out in its order.

        Raises ValueError if the world has too few names.
        """
        limit = len(TYPES) * min(len(pairs) for pairs in self.pairs.values())
        if sum(clusters.values()) > limit:
            raise ValueError(
                f"data.world: {sum(clusters.values())} clusters are wanted, but there are names for {limit}. "
                "Lower one of the *_clusters or train_draw."
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
                    _candidate(ids[side][place], passage, passage.role_for(relation))
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
        values |= self.known[kind, name.split()[1 - _shared_place(kind)]]
        pronoun = PRONOUNS[kind][rng.integers(len(PRONOUNS[kind]))]
        return Entity(name, kind, pronoun, relations[:ASKED], relations[ASKED:], values)

    def _passages(self, entity: Entity, rng: np.random.Generator) -> list[Passage]:
        stated = [[spare] for spare in entity.spare]
        for home, relation in zip(rng.permutation(ASKED), entity.asked, strict=True):
            stated[home].append(relation)
            if rng.random() < self.dials.second_support:
                stated[(home + rng.integers(1, ASKED)) % ASKED].append(relation)
        return [
            *(self._stating(entity, relations, rng) for relations in stated),
            _lure(entity, rng),
            _hedged(entity, rng),
            self._mention(entity, rng),
        ]

    def _stating(self, entity: Entity, relations: list[Relation], rng: np.random.Generator) -> Passage:
        """Facts in random order, each plain or hard. A plain one or an introduction comes first: pronouns need it."""
        hard = {relation.name for relation in relations if rng.random() < self.dials.hard}
        order = [relations[place] for place in rng.permutation(len(relations))]
        told = [
            _hard_claim(relation, entity, rng)
            if relation.name in hard
            else _claim(relation, entity.name, entity.values[relation.name], rng)
            for relation in order
        ]
        if order[0].name in hard or rng.random() < 0.5:
            told = [_choose(INTRODUCTIONS, rng).format(e=entity.name), *told]
        if rng.random() < CONTRASTED:
            contrast = self._contrast(entity, order[rng.integers(len(order))], rng)
            told = [contrast, *told] if rng.random() < 0.5 else [*told, contrast]
        return Passage(_text(told), {r.name: "hard" if r.name in hard else "plain" for r in relations})

    def _contrast(self, entity: Entity, relation: Relation, rng: np.random.Generator) -> str:
        stranger = _choose(self.strangers[entity.kind], rng)
        value = _another(relation, entity.values[relation.name], rng)
        return _choose(CONTRASTS, rng).format(claim=_claim(relation, stranger, value, rng))

    def _mention(self, entity: Entity, rng: np.random.Generator) -> Passage:
        named = []
        for relation in entity.asked:
            value = entity.values[relation.name]
            misleads = rng.random() < self.dials.misleading_mentions
            named.append(value if misleads else _another(relation, value, rng))
        patterns = rng.permutation(len(MENTIONS))[:2]
        named = [named[place] for place in rng.permutation(ASKED)]
        sentences = [
            MENTIONS[pattern].format(e=entity.name, v=named[2 * place], w=named[2 * place + 1])
            for place, pattern in enumerate(patterns)
        ]
        return Passage(_text(sentences), {}, "mention")


def _shared_place(kind: str) -> int:
    """Which word of their names twins share: that of the longer list, but for few second words the first."""
    first, second = NAMES[kind]
    return 1 if len(second) > len(first) // 2 else 0


def _known_facts(kind: str, share: float, rng: np.random.Generator) -> dict[str, str]:
    """Values by relation that follow from a word of a name."""
    drawn = [(relation.name, _choose(VALUES[relation.kind], rng), rng.random()) for relation in RELATIONS[kind]]
    return {name: value for name, value, number in drawn if number < share}


def _twin_names(kind: str, rng: np.random.Generator) -> list[Pair]:
    """Disjoint pairs of names that share one word, in random order."""
    names = list(product(*NAMES[kind]))
    by_shared: dict[str, list[str]] = {}
    for place in rng.permutation(len(names)):
        by_shared.setdefault(names[place][_shared_place(kind)], []).append(" ".join(names[place]))
    pairs = [(group[i], group[i + 1]) for group in by_shared.values() for i in range(0, len(group) - 1, 2)]
    return [pairs[place] for place in rng.permutation(len(pairs))]


def _twin_candidates(ids: list[str], passages: list[Passage], relation: Relation) -> list[Row]:
    """Three passages of the twin, first those that are about the relation asked for."""
    ranked = sorted(range(len(passages)), key=lambda place: relation.name not in passages[place].roles)
    return [_candidate(ids[place], passages[place], "twin") for place in ranked[:3]]


def _candidate(passage_id: str, passage: Passage, role: str) -> Row:
    return {"passage_id": passage_id, "text": passage.text, "is_selected": None, "role": role}


def _lure(entity: Entity, rng: np.random.Generator) -> Passage:
    patterns = [LURES[place] for place in rng.permutation(len(LURES))]
    sentences = [pattern.format(t=r.topic, e=entity.name) for pattern, r in zip(patterns, entity.asked, strict=False)]
    return Passage(_text(sentences), {}, "lure")


def _hedged(entity: Entity, rng: np.random.Generator) -> Passage:
    relations = [entity.asked[place] for place in rng.permutation(ASKED)[:2]]
    sentences = [
        _choose(HEDGES, rng).format(
            claim=_claim(relation, entity.name, _another(relation, entity.values[relation.name], rng), rng)
        )
        for relation in relations
    ]
    return Passage(_text(sentences), {relation.name: "hedged" for relation in relations})


def _claim(relation: Relation, name: str, value: str, rng: np.random.Generator) -> str:
    return _choose(relation.plain, rng).format(e=name, v=value)


def _hard_claim(relation: Relation, entity: Entity, rng: np.random.Generator) -> str:
    """In other words than the questions', with a pronoun or the name."""
    s, o, d = entity.pronoun if rng.random() < 0.5 else (entity.name, entity.name, _possessive(entity.name))
    return _choose(relation.hard, rng).format(s=s, o=o, d=d, v=entity.values[relation.name])


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

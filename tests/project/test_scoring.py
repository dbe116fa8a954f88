"""Normalisation, exact match and F1 by hand, and against SQuAD v1.1's definition written out."""

import random
from itertools import groupby

import pytest
from any_values import FEW, broken_texts
from hypothesis import given
from hypothesis import strategies as st

from bitter_retrieval.scoring import exact_match, f1, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Calder Bridge.", "calder bridge"),
        ("An apple, a day", "apple day"),
        ("  two\t words \n", "two words"),
        ("theatre and another Ann", "theatre and another ann"),  # articles only as whole words
        ("U.S.-led", "usled"),  # punctuation is deleted, not replaced by a space
        ("A.", ""),
        ("the a an", ""),
        ("$1,000.50", "100050"),
        ("", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CAFÉ", "café"),  # accents stay
        ("“Ada”", "“ada”"),  # so do marks that are not ASCII
        ("1990–1995", "1990–1995"),
        ("Ada\u00a0Brenn", "ada brenn"),  # a no-break space is white space
        ("end–the–end", "end– –end"),  # a dash that is not ASCII ends a word, and an article leaves a space
        ("àn", "àn"),
    ],
)
def test_normalise_unicode(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_composed_and_combining_accents_differ() -> None:
    assert exact_match("caf\u00e9", ["cafe\u0301"]) == 0.0


def test_exact_match_takes_the_best_reference() -> None:
    assert exact_match("the Calder", ["Brenn", "Calder!"]) == 1.0
    assert exact_match("Calder bridge", ["Brenn", "Calder"]) == 0.0


def test_f1_counts_shared_words() -> None:
    assert f1("Calder bridge", ["the Calder"]) == pytest.approx(2 / 3)  # precision 1/2, recall 1
    assert f1("old Calder bridge", ["new Calder bridge pier"]) == pytest.approx(4 / 7)  # precision 2/3, recall 2/4
    assert f1("bridge Calder", ["Calder bridge"]) == 1.0  # order does not count
    assert f1("Brenn", ["Calder"]) == 0.0


def test_f1_counts_a_repeated_word_as_often_as_both_have_it() -> None:
    assert f1("no no no", ["no"]) == pytest.approx(2 * (1 / 3) * 1 / (1 / 3 + 1))
    assert f1("no no", ["no no maybe"]) == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))


def test_f1_takes_the_best_reference_not_the_union() -> None:
    assert f1("red blue", ["red", "blue", "green"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("answer", ["", "The", " ?! "])
def test_nothing_left_equals_nothing_left_and_shares_no_word(answer: str) -> None:
    assert (exact_match(answer, ["A."]), f1(answer, ["A."])) == (1.0, 0.0)
    assert exact_match(answer, ["Calder"]) == f1(answer, ["Calder"]) == 0.0
    assert f1("Calder", ["A."]) == 0.0


@pytest.mark.parametrize("references", [[], "Calder"])
def test_references_must_be_a_list_with_something_in_it(references: list[str]) -> None:
    for score in (exact_match, f1):
        with pytest.raises(ValueError, match="references"):
            score("Calder", references)


# -- SQuAD v1.1 --------------------------------------------------------------------------------------------------------

PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
WORDS = "Calder bridge 1,990 U.S. theatre Ann café cafe\u0301 Straße İzmir ΟΔΟΣ 北京 ９ a\u0301 x² it's".split()
ARTICLES = ["a", "an", "the", "A", "An", "THE", "The"]
MARKS = [".", "!", "'s", "-", "–", "—", "“", "”", "…", "$", "_", "(", ")", "?!", "«", "。", "🙂"]
SPACES = [" ", "  ", "\t", "\n", "\u00a0", "\u2003", "\u200b", "\x1f", ""]


def official_words(text: str) -> list[str]:
    """Lower case, then without punctuation, then without the articles among the runs of letters and digits."""
    left = [letter for letter in text.lower() if letter not in PUNCTUATION]
    runs = ("".join(run) for _, run in groupby(left, lambda letter: letter.isalnum()))
    return "".join(" " if run in ("a", "an", "the") else run for run in runs).split()


def official_exact_match(answer: str, references: list[str]) -> float:
    return max(float(official_words(answer) == official_words(reference)) for reference in references)


def official_f1(answer: str, references: list[str]) -> float:
    return max(official_f1_of_one(official_words(answer), official_words(reference)) for reference in references)


def official_f1_of_one(said: list[str], meant: list[str]) -> float:
    left, shared = list(meant), 0
    for word in said:
        if word in left:
            left.remove(word)
            shared += 1
    if shared == 0:
        return 0.0
    precision, recall = shared / len(said), shared / len(meant)
    return 2 * precision * recall / (precision + recall)


def drawn_text(draw: random.Random) -> str:
    pieces = []
    for _ in range(draw.choice([1, 1, 2, 3, 5])):
        kind = draw.choices([WORDS, ARTICLES, MARKS], [9, 3, 2])[0]
        pieces += [draw.choice(kind), draw.choice(SPACES)]
    return "".join(pieces)


def said_otherwise(text: str, draw: random.Random) -> str:
    """Texts with the same words, or nearly."""
    words = text.split()
    if draw.random() < 0.4:
        draw.shuffle(words)
    if draw.random() < 0.4:
        words.insert(draw.randrange(len(words) + 1), draw.choice(WORDS + ARTICLES))
    if words and draw.random() < 0.3:
        words.pop()
    changed = draw.choice(["", "The ", "a "]) + draw.choice(SPACES[:-1]).join(words) + draw.choice([*MARKS, ""])
    return draw.choice([str.upper, str.title, str])(changed)


def test_scores_are_those_of_squad_on_generated_answers() -> None:
    draw = random.Random(0)
    found = []
    for _ in range(500):
        references = [drawn_text(draw) for _ in range(draw.choice([1, 1, 2, 3, 4]))]
        answer = draw.choice([draw.choice(references), said_otherwise(draw.choice(references), draw), drawn_text(draw)])
        answer = draw.choices([answer, draw.choice(["", " ", "the", "?!", "\u200b"])], [9, 1])[0]
        assert normalise(answer) == " ".join(official_words(answer)), answer
        scores = exact_match(answer, references), f1(answer, references)
        assert scores[0] == official_exact_match(answer, references), (answer, references)
        assert scores[1] == pytest.approx(official_f1(answer, references), abs=1e-12), (answer, references)
        found.append((answer, len(references), *scores))
    assert sum(0 < score < 1 for *_, score in found) > 50
    assert 100 < sum(exact for *_, exact, _ in found) < 400
    assert sum(exact > score for *_, exact, score in found) > 2  # nothing left
    assert sum(not normalise(answer) for answer, *_ in found) > 20
    assert sum(number > 1 for _, number, *_ in found) > 100


ANY_WORDS = st.lists(
    st.sampled_from(["the", "A", "a.n", "Calder", "calder", "bridge,", "İ", "ΟΔΟΣ", "-"]) | broken_texts, max_size=5
)


@FEW
@given(one=ANY_WORDS.map(" ".join), other=ANY_WORDS.map(" ".join))
def test_any_two_texts_score_alike_in_both_directions(one: str, other: str) -> None:
    exact, overlap = exact_match(one, [other]), f1(one, [other])
    assert (exact, overlap) == (exact_match(other, [one]), f1(other, [one]))
    assert exact in (0, 1) and 0 <= overlap <= 1 and exact_match(one, [one]) == 1
    assert overlap >= exact or normalise(one) == ""
    assert (exact_match(one, [other, one]), f1(one, [other, one])) == (1, max(overlap, f1(one, [one])))
    assert normalise(normalise(one)) == normalise(one)

"""Normalisation, exact match and F1 by hand."""

import pytest

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
def test_nothing_left_equals_nothing_left_only(answer: str) -> None:
    assert exact_match(answer, ["A."]) == f1(answer, ["A."]) == 1.0
    assert exact_match(answer, ["Calder"]) == f1(answer, ["Calder"]) == 0.0
    assert f1("Calder", ["A."]) == 0.0


@pytest.mark.parametrize("references", [[], "Calder"])
def test_references_must_be_a_list_with_something_in_it(references: list[str]) -> None:
    for score in (exact_match, f1):
        with pytest.raises(ValueError, match="references"):
            score("Calder", references)

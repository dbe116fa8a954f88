"""The corpus at every size: what it holds, in which order, and what it refuses."""

from dataclasses import replace

import pytest
import tiny

from bitter_retrieval.evaluation.corpus import CorpusError, searched_corpus

ROWS = tiny.world(2)  # p0 p1 p5 and, turned, p2 p6 p1
POOLED = ["p0", "p1", "p5", "p2", "p6"]
CORPUS = [{"passage_id": name, "text": f"text of {name}"} for name in ("d0", "p1", "d1", "p2", "p0", "d2")]
SETTINGS = tiny.PARAMS.evaluate


def searched(size: int | None, **changes: object) -> list[str]:
    return list(searched_corpus(CORPUS, ROWS, replace(SETTINGS, corpus_size=size, **changes)))


def test_all_of_the_corpus_and_what_it_lacks_of_the_questions_own() -> None:
    assert SETTINGS.corpus_size is None and SETTINGS.empty_passage is False
    assert searched(None) == ["d0", "p1", "d1", "p2", "p0", "d2", "p5", "p6"]
    assert searched(100) == searched(8) == searched(None)


def test_a_smaller_one_holds_the_questions_own_and_the_first_distractors() -> None:
    assert searched(7) == ["d0", "p1", "d1", "p2", "p0", "p5", "p6"]
    assert searched(6) == ["d0", "p1", "p2", "p0", "p5", "p6"]
    assert sorted(searched(5)) == sorted(POOLED)


def test_one_that_cannot_hold_the_questions_own_is_refused_with_the_numbers() -> None:
    with pytest.raises(CorpusError, match=r"evaluate.corpus_size: the 2 questions of test .* 5 passages.*got 4.*all 8"):
        searched(4)


def test_the_empty_passage_is_one_more_and_the_last() -> None:
    assert searched(5, empty_passage=True) == [*searched(5), ""]
    assert searched_corpus(CORPUS, ROWS, replace(SETTINGS, empty_passage=True))[""] == ""

"""Regret and harm by hand, in the made-up experiment of comparison_world."""

from typing import Any

import comparison_world as world
import numpy as np
import pytest

from bitter_retrieval.records import Row
from bitter_retrieval.statistics.outcomes import Outcomes, outcomes

ABSENT = np.nan


def read(name: str, rows: list[Row], **known: Any) -> dict[str, Outcomes]:
    return outcomes(name, rows, world.asked(**known), world.judged())


def of(name: str, told: list[str], reader: str, metric: str, **known: Any) -> np.ndarray:
    return read(name, world.predictions(name, told), **known)[reader].scores[metric]


def test_regret_is_over_the_best_candidate_and_may_be_negative() -> None:
    """Answers cost 0.5 or 2 nats, the lowest candidates 0.1, 0.2, 0.5, 0.5; the empty passage is no candidate."""
    found = of("infonce_a", world.RUNS["infonce_a"], "reader_a", "regret")
    np.testing.assert_allclose(found, [[0.4, 0.3, 0, 1.5], [0.4, 0.3, 0, 0]], atol=1e-6)
    rows = [row | {"answer_nll": 0.05} for row in world.predictions("infonce_a", world.RUNS["infonce_a"])]
    low = read("infonce_a", rows)["reader_a"].scores["regret"]
    np.testing.assert_allclose(low, [[-0.05, -0.15, -0.45, -0.45]] * 2, atol=1e-6)


def test_each_reader_has_its_own_losses() -> None:
    found = of("infonce_a", world.RUNS["infonce_a"], "reader_b", "regret")
    np.testing.assert_allclose(found[0], [0.15, 0.05, -0.25, 1.25], atol=1e-6)


def test_a_reader_that_has_not_labelled_has_no_regret_but_the_labellers() -> None:
    losses = {"reader_a": world.known().losses["reader_a"]}
    told = world.predictions("infonce_a", world.RUNS["infonce_a"])
    rows = [row | {"answer_nll": 9.0} if row["reader"] == "reader_b" else row for row in told]
    scores = read("infonce_a", rows, losses=losses)["reader_b"].scores
    assert np.isnan(scores["regret"]).all()
    np.testing.assert_allclose(scores["regret_labeller"], [[0.4, 0.3, 0, 1.5], [0.4, 0.3, 0, 0]], atol=1e-6)


def test_what_the_labeller_was_not_shown_has_the_loss_of_its_label() -> None:
    """reader_b has an oracle of its own: here b, whose labels by reader_a are 2, 1, 0.5 and 0.5."""
    rows = world.predictions("oracle", ["aaaa++++"], readers=["reader_a"])
    rows += world.predictions("oracle", ["bbbb----"], readers=["reader_b"])
    scores = read("oracle", rows)["reader_b"].scores
    np.testing.assert_allclose(scores["regret_labeller"], [[1.9, 0.8, 0, 0]], atol=1e-6)
    alone = read("no_passage", world.predictions("no_passage", ["    ----"], readers=["reader_b"]))["reader_b"].scores
    np.testing.assert_allclose(alone["regret_labeller"], [[-0.1, -0.2, -0.5, -0.5]], atol=1e-6)  # no passage costs 0


def test_a_passage_of_another_question_has_a_regret_where_the_labeller_has_answered_from_it() -> None:
    rows = [row | {"shown_ids": ["q9a"]} for row in world.predictions("infonce_a", world.RUNS["infonce_a"])]
    np.testing.assert_allclose(
        read("infonce_a", rows)["reader_b"].scores["regret_labeller"][1], [0.4, 0.3, 0, 0], atol=1e-6
    )
    apart = read("infonce_a", [row for row in rows if row["reader"] == "reader_b"])["reader_b"].scores
    assert np.isnan(apart["regret_labeller"]).all()


@pytest.mark.parametrize(("shown", "regret"), [([""], -0.2), (["", "q1c"], 2.8), (["q1c", ""], 2.8)])
def test_a_retrieved_empty_passage_is_no_text_to_the_labeller(shown: list[str], regret: float) -> None:
    rows = world.predictions("infonce_a", world.RUNS["infonce_a"][:1], readers=["reader_b"])
    rows[1] |= {"shown_ids": shown}
    scores = read("infonce_a", rows)["reader_b"].scores
    np.testing.assert_allclose(scores["regret_labeller"], [[0, regret, 0, 0]], atol=1e-6)


def test_what_the_labeller_answered_beside_the_empty_passage_is_found() -> None:
    rows = [
        row | {"shown_ids": ["q9a", ""]}
        for row in world.predictions("infonce_a", world.RUNS["infonce_a"], ["reader_a"])
    ]
    rows += [
        row | {"shown_ids": ["", "q9a"]}
        for row in world.predictions("infonce_a", world.RUNS["infonce_a"], ["reader_b"])
    ]
    np.testing.assert_allclose(
        read("infonce_a", rows)["reader_b"].scores["regret_labeller"][1], [0.4, 0.3, 0, 0], atol=1e-6
    )


def test_a_question_that_the_reader_could_not_score_is_left_out() -> None:
    losses = {"reader_a": {query: of for query, of in world.known().losses["reader_a"].items() if query != "q1"}}
    found = of("infonce_a", world.RUNS["infonce_a"], "reader_a", "regret", losses=losses)
    np.testing.assert_allclose(found[0], [0.4, ABSENT, 0, 1.5], atol=1e-6)


def test_harm_is_a_wrong_answer_where_no_passage_gives_the_right_one() -> None:
    np.testing.assert_array_equal(
        of("infonce_a", world.RUNS["infonce_a"], "reader_a", "harm"), [[0, 0, 0, 1], [0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(of("bm25", world.CONTROLS["bm25"], "reader_b", "harm"), [[0, 0, 0, 1]])
    no_passage = world.CONTROLS["no_passage"]
    np.testing.assert_array_equal(of("no_passage", no_passage, "reader_a", "harm"), [[0, 0, 0, 0]])


def test_harm_is_not_known_without_the_readers_answers_to_no_passage() -> None:
    told, unaided = world.RUNS["infonce_a"], {"reader_a": {"q0": 1.0}}
    assert np.isnan(of("infonce_a", told, "reader_b", "harm", unaided=unaided)).all()
    np.testing.assert_array_equal(of("infonce_a", told, "reader_a", "harm", unaided=unaided)[0], [0] + [ABSENT] * 3)

"""Answer losses against a slow reference: one triple at a time, logits everywhere, float64."""

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import tiny
import torch

from bitter_retrieval import answer_loss
from bitter_retrieval.answer_loss import Score, Triple, score_answers
from bitter_retrieval.journal import Journal
from bitter_retrieval.language_model import Encoded, Reader, ReaderError

BUDGET = 300  # tokens: several batches, of several sequences each


def triples(count: int = 6) -> list[Triple]:
    """Distinct ones: supporting, other and no passage, and answers of one to many tokens."""
    found = [
        Triple(row["query"], passage, answer)
        for row, odd in zip(tiny.world(count), tiny.ODD_ANSWERS, strict=False)
        for answer in (row["answers"][0], odd)
        for passage in [*(p["text"] for p in row["passages"]), ""]
    ]
    return list(dict.fromkeys(found))


def reference(reader: Reader, triple: Triple) -> tuple[float, int]:
    """(summed NLL, answer tokens) in float64, from the text of the prompt alone."""
    prompt = f"Question: {triple.query}\nContext: {triple.passage}\nAnswer:"
    start = len(reader.tokenizer(prompt).input_ids)
    ids = reader.tokenizer(f"{prompt} {triple.answer.strip()}").input_ids
    with torch.no_grad():
        logits = reader.model(torch.tensor([ids])).logits[0].double()
    losses = [-logits[place - 1].log_softmax(0)[ids[place]].item() for place in range(start, len(ids))]
    return sum(losses), len(losses)


def close(left: Sequence[Score], right: Sequence[Score], within: float) -> bool:
    return all(abs(a.nll_sum - b.nll_sum) <= within and a[1:] == b[1:] for a, b in zip(left, right, strict=True))


# -- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_equal_to_one_at_a_time_in_float64(architecture: str, tokenizer: str) -> None:
    reader = tiny.tiny_reader(architecture, tokenizer, max_length=200)
    slow = tiny.tiny_reader(architecture, tokenizer, model=copy.deepcopy(reader.model).double())
    asked = triples()
    wanted = [reference(slow, triple) for triple in asked]
    scores = score_answers(reader, asked, BUDGET)
    for score, (nll, tokens) in zip(scores, wanted, strict=True):
        assert score.n_tokens == tokens and not score.truncated
        assert abs(score.nll_sum - nll) / tokens < 1e-4
    assert max(nll / tokens for nll, tokens in wanted) - min(nll / tokens for nll, tokens in wanted) > 0.5


def test_cut_passage_is_scored_as_the_shorter_text_and_told() -> None:
    reader = tiny.tiny_reader(tokenizer="word", max_length=40)
    text = tiny.world(1)[0]["passages"][0]["text"]
    long = Triple("Where was Aldan born?", f"{text} {text} {text} {text}", "Ashby")
    cut = score_answers(reader, [long], BUDGET)[0]
    room = 40 - len(reader.tokenizer("Question: Where was Aldan born?\nContext: \nAnswer: Ashby").input_ids)
    words = long.passage.replace(".", " .").split()
    assert cut.truncated
    assert cut.nll_sum == pytest.approx(reference(reader, long._replace(passage=" ".join(words[:room])))[0], abs=1e-4)


@pytest.mark.parametrize("budget", [1, 90, 700, 10**6])
def test_budget_and_order_change_nothing(budget: int) -> None:
    reader = tiny.tiny_reader(tokenizer="bpe", max_length=200)
    asked = triples()
    wanted = score_answers(reader, asked, BUDGET)
    order = random.Random(budget).sample(range(len(asked)), len(asked))
    shuffled = score_answers(reader, [asked[place] for place in order], budget)
    assert close(shuffled, [wanted[place] for place in order], 2e-5)


def test_no_triples_no_scores() -> None:
    assert score_answers(tiny.tiny_reader(), [], BUDGET) == []


# -- what is computed ------------------------------------------------------------------------------------------------


class Calls:
    """Batches that were computed, by their token ids."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[tuple[tuple[int, ...], ...]] = []
        self._compute = answer_loss.answer_nlls
        monkeypatch.setattr(answer_loss, "answer_nlls", self)

    def __call__(self, reader: Reader, batch: Sequence[Encoded]) -> Iterator[torch.Tensor]:
        self.batches.append(tuple(tuple(item.ids) for item in batch))
        return self._compute(reader, batch)


class Killed(Exception):
    pass


def killer(after: int) -> Callable[[int], None]:
    """An on_scored that raises at its `after`-th call."""
    seen: list[int] = []

    def on_scored(count: int) -> None:
        seen.append(count)
        if len(seen) == after:
            raise Killed

    return on_scored


def test_equal_triples_are_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, counts = Calls(monkeypatch), []
    asked = triples()
    repeated = asked + asked[::-1] + asked[:3]
    scores = score_answers(tiny.tiny_reader(max_length=200), repeated, BUDGET, on_scored=counts.append)
    assert sum(len(batch) for batch in calls.batches) == sum(counts) == len(asked)
    assert scores == scores[: len(asked)] + scores[: len(asked)][::-1] + scores[:3]


def test_batches_keep_to_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    score_answers(tiny.tiny_reader(max_length=200), triples(), BUDGET)
    assert all(len(batch) * max(map(len, batch)) <= BUDGET for batch in calls.batches)
    assert len(calls.batches) > 3 and max(map(len, calls.batches)) > 3


@pytest.mark.parametrize("after", [1, 3])
def test_killed_run_resumes_to_the_same_values(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, asked = tiny.tiny_reader(tokenizer="bpe", max_length=200), triples()
    calls = Calls(monkeypatch)
    wanted = score_answers(reader, asked, BUDGET)
    every = calls.batches.copy()
    calls.batches.clear()
    with Journal(tmp_path / "j.sqlite") as journal, pytest.raises(Killed):
        score_answers(reader, asked, BUDGET, journal, killer(after))
    assert calls.batches == every[:after]
    with Journal(tmp_path / "j.sqlite") as journal:
        assert score_answers(reader, asked, BUDGET, journal) == wanted
        assert calls.batches == every  # those that had been finished were not computed again
        assert score_answers(reader, asked, BUDGET, journal) == wanted
        assert calls.batches == every


def test_batch_that_the_journal_has_in_part_is_computed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, asked = tiny.tiny_reader(tokenizer="bpe", max_length=200), triples()
    calls = Calls(monkeypatch)
    wanted = score_answers(reader, asked, BUDGET)
    every = calls.batches.copy()
    with Journal(tmp_path / "j.sqlite") as journal:
        score_answers(reader, asked[::7], BUDGET, journal)
        calls.batches.clear()
        assert score_answers(reader, asked, BUDGET, journal) == wanted
    assert calls.batches == every


def test_another_reader_finds_nothing_in_the_journal(tmp_path: Path) -> None:
    asked = triples(2)
    with Journal(tmp_path / "j.sqlite") as journal:
        first = score_answers(tiny.tiny_reader(max_length=200), asked, BUDGET, journal)
        other = tiny.tiny_reader(seed=1, max_length=200)
        assert score_answers(other, asked, BUDGET, journal) == score_answers(other, asked, BUDGET) != first


# -- broken weights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_loss_that_is_not_finite_names_query_passage_and_reader(broken: float, tmp_path: Path) -> None:
    reader = tiny.tiny_reader()
    next(reader.model.parameters())[:] = broken
    asked = [Triple("Where was Aldan born?", "Aldan was born in Ashby.", "Ashby")]
    with Journal(tmp_path / "j.sqlite") as journal:
        wanted = "reader tiny: .*'Ashby'.*'Where was Aldan born.'.*'Aldan was born in Ashby.*readers.tiny.dtype"
        for _ in range(2):  # nothing broken was journalled
            with pytest.raises(ReaderError, match=wanted):
                score_answers(reader, asked, BUDGET, journal)

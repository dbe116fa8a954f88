"""The scorer: equal triples once, batches within the budget, and a journal from which a killed process goes on.

Values of many models are in test_answer_loss_architectures.py, killed processes in test_resume.py.
"""

import math
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from bitter_retrieval.journal import Journal
from bitter_retrieval.readers import answer_loss
from bitter_retrieval.readers.answer_loss import Score, Scorer, Triple, row_cost
from bitter_retrieval.readers.generation import generate_answers
from bitter_retrieval.readers.language_model import Encoded, Reader, ReaderError, ReaderSettings, open_reader

BUDGET = 300  # tokens: several batches, of several sequences each
PACKS = pytest.mark.parametrize("packs", [True, False], ids=["packed", "padded"])


def triples(count: int = 6) -> list[Triple]:
    """Distinct triples: supporting, other and no passage, and answers of one to many tokens."""
    found = [
        Triple(row["query"], passage, answer)
        for row, odd in zip(tiny.world(count), tiny.ODD_ANSWERS, strict=False)
        for answer in (row["answers"][0], odd)
        for passage in [*(p["text"] for p in row["passages"]), ""]
    ]
    return list(dict.fromkeys(found))


def bpe_reader(packs: bool = True) -> Reader:
    reader = tiny.tiny_reader(tokenizer="bpe", max_length=200)
    reader.packs = packs
    return reader


def close(left: Sequence[Score | None], right: Sequence[Score | None]) -> bool:
    """Whether the scores are the same but for rounding."""
    return all(
        a is b is None or (a and b and abs(a.nll_sum - b.nll_sum) <= 2e-5 and a[1:] == b[1:])
        for a, b in zip(left, right, strict=True)
    )


# -- values ----------------------------------------------------------------------------------------------------------


def reference(reader: Reader, triple: Triple) -> tuple[float, int]:
    """(summed NLL, answer tokens) of one sequence alone, from the text of the prompt."""
    prompt = f"Question: {triple.query}\nContext: {triple.passage}\nAnswer:"
    start = len(reader.tokenizer(prompt).input_ids)
    ids = reader.tokenizer(f"{prompt} {triple.answer.strip()}").input_ids
    with torch.no_grad():
        logits = reader.model(torch.tensor([ids])).logits[0].double()
    losses = [-logits[place - 1].log_softmax(0)[ids[place]].item() for place in range(start, len(ids))]
    return sum(losses), len(losses)


@PACKS
def test_scores_are_those_of_one_sequence_alone(packs: bool) -> None:
    reader, asked = bpe_reader(packs), triples()
    for score, triple in zip(Scorer(reader, BUDGET).score(asked), asked, strict=True):
        nll, tokens = reference(reader, triple)
        assert score == Score(pytest.approx(nll, abs=1e-4), tokens, False, False)


def test_what_the_reader_says_itself_is_exact() -> None:
    reader = tiny.tiny_reader(max_new_tokens=2)
    query, passage = "Where was Aldan born?", "Aldan was born in Ashby."
    said = generate_answers(reader, [(query, passage)], BUDGET)[0].text
    first, second = said.split()
    scores = Scorer(reader, BUDGET).score([Triple(query, passage, a) for a in (said, first, f"{first} in", second)])
    assert "in" != second != first and [score.exact for score in scores] == [True, True, False, False]


def test_cut_passage_is_scored_as_the_shorter_text_and_told() -> None:
    reader = tiny.tiny_reader(tokenizer="word", max_length=40)
    text = tiny.world(1)[0]["passages"][0]["text"]
    long = Triple("Where was Aldan born?", f"{text} {text} {text} {text}", "Ashby")
    cut = Scorer(reader, BUDGET).score([long])[0]
    room = 40 - len(reader.tokenizer("Question: Where was Aldan born?\nContext: \nAnswer: Ashby").input_ids)
    words = long.passage.replace(".", " .").split()
    assert cut.truncated
    assert cut.nll_sum == pytest.approx(reference(reader, long._replace(passage=" ".join(words[:room])))[0], abs=1e-4)


@pytest.mark.parametrize("budget", [1, 90, 700, 10**6])
def test_budget_and_order_change_nothing(budget: int) -> None:
    reader, asked = bpe_reader(), triples()
    wanted = Scorer(reader, BUDGET).score(asked)
    order = random.Random(budget).sample(range(len(asked)), len(asked))
    shuffled = Scorer(reader, budget).score([asked[place] for place in order])
    assert close(shuffled, [wanted[place] for place in order])


def test_no_triples_no_scores(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        assert Scorer(tiny.tiny_reader(), BUDGET, journal).score([]) == []


# -- what is computed ------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


class Calls:
    """Batches that were computed, as their token ids; a process dies in the batch of the number `kill`, from 1."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[tuple[int, ...]]] = []
        self.kill = 0
        compute = Scorer._forward

        def forward(scorer: Scorer, items: Sequence[Encoded]) -> list[tuple[float, bool]]:
            self.batches.append([tuple(item.ids) for item in items])
            if len(self.batches) == self.kill:
                raise Killed
            return compute(scorer, items)

        monkeypatch.setattr(Scorer, "_forward", forward)

    def taken(self) -> list[list[tuple[int, ...]]]:
        """The batches so far; forgets them."""
        batches, self.batches = self.batches, []
        return batches


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@PACKS
def test_equal_triples_are_scored_once(packs: bool, calls: Calls) -> None:
    asked, counts = triples(), []
    scorer = Scorer(bpe_reader(packs), BUDGET)
    scores = scorer.score(asked + asked[::-1] + asked[:3], counts.append)
    computed = [ids for batch in calls.batches for ids in batch]
    assert len(computed) == len(set(computed)) == sum(counts) == scorer.work.triples == len(asked)
    assert scores == scores[: len(asked)] + scores[: len(asked)][::-1] + scores[:3]
    assert scorer.work.tokens == sum(map(len, computed))
    assert scorer.work.computed < scorer.work.tokens if packs else scorer.work.computed > scorer.work.tokens


@PACKS
@pytest.mark.parametrize("row", [1, 10])
def test_batches_keep_to_the_budget(row: int, packs: bool, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of logits counts as `row` tokens; a padded sequence, as the longest of its batch."""
    reader, asked = bpe_reader(packs), [*triples(), Triple("a?", "goat " * 80, "hen"), *triples()[:3]]
    assert row_cost(reader.model) == 1
    monkeypatch.setattr(answer_loss, "row_cost", lambda model: row)
    Scorer(reader, BUDGET).score(asked)
    logits = {
        tuple(item.ids): row * (len(item.ids) - item.answer_start)
        for item in reader.encode(*(list(texts) for texts in zip(*asked, strict=True)))
    }
    for batch in calls.batches:
        lengths = list(map(len, batch))
        states = sum(lengths) if packs else max(lengths) * len(lengths)
        assert len(batch) == 1 or states + sum(logits[ids] for ids in batch) <= BUDGET
    assert len(calls.batches) > 3 and max(map(len, calls.batches)) >= 3


def test_batches_are_halved_until_memory_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, asked = bpe_reader(), triples()
    wanted, compute = Scorer(reader, BUDGET).score(asked), Scorer._forward

    def forward(scorer: Scorer, items: Sequence[Encoded]) -> list[tuple[float, bool]]:
        if sum(len(item.ids) for item in items) > limit:
            raise MemoryError
        return compute(scorer, items)

    monkeypatch.setattr(Scorer, "_forward", forward)
    limit, scorer = 100, Scorer(reader, 10**6)
    assert close(scorer.score(asked), wanted) and scorer.work.halvings > 1
    limit = 30
    with pytest.raises(ReaderError, match="not enough memory.*readers.tiny.max_length"):
        Scorer(reader, 10**6).score(asked)


# -- the journal -----------------------------------------------------------------------------------------------------


def score_killed(calls: Calls, kill: int, reader: Reader, asked: list[Triple], path: Path) -> list[list]:
    """Batches of a process that dies in the batch of this number."""
    calls.taken()
    calls.kill = kill
    with Journal(path) as journal, pytest.raises(Killed):
        Scorer(reader, BUDGET, journal).score(asked)
    calls.kill = 0
    return calls.taken()


@PACKS
@pytest.mark.parametrize(("kill", "chunk"), [(1, 4096), (4, 4096), (5, 11)])
def test_killed_run_goes_on_with_the_same_batches(
    kill: int, chunk: int, packs: bool, calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_loss, "CHUNK", chunk)
    reader, asked, path = bpe_reader(packs), triples(), tmp_path / "j.sqlite"
    wanted = Scorer(reader, BUDGET).score(asked)
    every = calls.taken()
    assert score_killed(calls, kill, reader, asked, path) == every[:kill]
    with Journal(path) as journal:
        scorer = Scorer(reader, BUDGET, journal)
        assert scorer.score(asked) == wanted
        assert calls.taken() == every[kill - 1 :]  # the batch in flight again, nothing that had been finished
        assert scorer.work.known == sum(map(len, every[: kill - 1]))
        again = Scorer(reader, BUDGET, journal)
        assert again.score(asked) == wanted and calls.taken() == []
        assert (again.work.triples, again.work.known) == (len(asked), len(asked))


def test_what_another_job_has_scored_is_not_computed_again_after_a_kill_either(calls: Calls, tmp_path: Path) -> None:
    reader, asked, path = bpe_reader(), triples(), tmp_path / "j.sqlite"
    with Journal(path) as journal:
        known = dict(zip(asked[::7], Scorer(reader, BUDGET, journal).score(asked[::7]), strict=True))
    shutil.copy(path, tmp_path / "undisturbed.sqlite")
    calls.taken()
    with Journal(tmp_path / "undisturbed.sqlite") as journal:
        scorer = Scorer(reader, BUDGET, journal)
        wanted = scorer.score(asked)
    every = calls.taken()
    assert sum(map(len, every)) == len(asked) - len(known) and scorer.work.known == len(known)
    assert [wanted[asked.index(triple)] for triple in known] == list(known.values())
    assert close(wanted, Scorer(reader, BUDGET).score(asked))
    assert score_killed(calls, 3, reader, asked, path) == every[:3]
    with Journal(path) as journal:
        assert Scorer(reader, BUDGET, journal).score(asked) == wanted and calls.taken() == every[2:]


def test_what_another_job_scores_between_kill_and_resumption_moves_no_batch(calls: Calls, tmp_path: Path) -> None:
    reader, asked, path = bpe_reader(), triples(), tmp_path / "j.sqlite"
    wanted = Scorer(reader, BUDGET).score(asked)
    every = calls.taken()
    score_killed(calls, 3, reader, asked, path)
    other = [*asked[20::5], *asked[-len(every[-1]) :]]
    with Journal(path) as journal:
        between = Scorer(reader, BUDGET, journal).score(other)
        calls.taken()
        found = Scorer(reader, BUDGET, journal).score(asked)
    assert calls.taken() == every[2:-1]  # the last batch is known altogether
    assert [found[asked.index(triple)] for triple in other] == between  # first come, first kept
    assert close(found, wanted)


def test_another_budget_finds_the_values_that_are_there(calls: Calls, tmp_path: Path) -> None:
    reader, asked, path = bpe_reader(), triples(), tmp_path / "j.sqlite"
    done = score_killed(calls, 4, reader, asked, path)[:3]
    with Journal(path) as journal:
        scores = Scorer(reader, 2 * BUDGET, journal).score(asked)
    assert sum(map(len, calls.taken())) == len(asked) - sum(map(len, done))
    assert close(scores, Scorer(reader, BUDGET).score(asked))


def test_two_at_once_on_one_journal_give_the_same_values(calls: Calls, tmp_path: Path) -> None:
    """The second starts and ends while the first is at its third batch; their orders of triples differ."""
    reader, asked, path = bpe_reader(), triples(), tmp_path / "j.sqlite"
    with Journal(path) as first, Journal(path) as second:
        told: list[list[Score | None]] = []

        def interrupt(count: int) -> None:
            if len(calls.batches) == 3 and not told:
                told.append(Scorer(reader, BUDGET, second).score(asked))
                told.append(Scorer(reader, BUDGET, second).score(asked[::-1]))

        scores = Scorer(reader, BUDGET, first).score(asked, interrupt)
    assert scores == told[0] == told[1][::-1]
    assert close(scores, Scorer(reader, BUDGET).score(asked))


def test_two_that_start_at_once_agree_on_what_was_known(tmp_path: Path) -> None:
    """Another job's rows and another process's plan arrive between the first look into the journal and the plan."""
    reader, asked, path = bpe_reader(), triples(), tmp_path / "j.sqlite"

    class Late(Journal):
        def put(self, items: Any) -> None:
            while others:
                others.pop()()
            super().put(items)

    with Late(path) as journal, Journal(path) as other:
        others = [
            lambda: Scorer(reader, BUDGET, other).score(asked),
            lambda: Scorer(reader, BUDGET, other).score(asked[:5]),
        ]
        assert Scorer(reader, BUDGET, journal).score(asked) == Scorer(reader, BUDGET, other).score(asked)


def test_another_reader_finds_nothing(tmp_path: Path) -> None:
    """Weights, tokenizer, prompt, precision, limits, chat and the answer's end decide a loss."""
    asked, settings = triples(2)[:4], ReaderSettings(tiny.PROMPT.template, "float32", 96, 6)
    for name, seed, template in (("one", 0, "A: "), ("weights", 1, "A: "), ("template", 0, "B: ")):
        reader = tiny.tiny_reader(tokenizer="bpe", seed=seed)
        reader.model.save_pretrained(tmp_path / name)
        reader.tokenizer.save_pretrained(tmp_path / name)
        (tmp_path / name / "chat_template.jinja").write_text(template + "{{ messages[0]['content'] }}\n")
    cases = [
        ("one", settings),
        ("weights", settings),
        ("template", settings),
        ("one", replace(settings, prompt="{query} {passage}\nA:")),
        ("one", replace(settings, dtype="bfloat16")),
        ("one", replace(settings, max_length=97)),
        ("one", replace(settings, chat=True)),
        ("one", replace(settings, answer_end="<eos>")),
        ("one", replace(settings, answer_end=".")),
    ]
    with Journal(tmp_path / "j.sqlite") as journal:

        def known() -> list[int]:
            found = []
            for folder, asked_so in cases:
                scorer = Scorer(open_reader("mine", str(tmp_path / folder), None, asked_so), BUDGET, journal)
                scorer.score(asked)
                found.append(scorer.work.known)
            return found

        assert known() == [0] * len(cases) and known() == [len(asked)] * len(cases)


# -- what cannot be scored -------------------------------------------------------------------------------------------


def refused() -> tuple[list[ReaderError], Callable[[ReaderError], None]]:
    errors: list[ReaderError] = []
    return errors, errors.append


def broken_reader(packs: bool, broken: float) -> Reader:
    """A reader whose losses are broken for passages with a hen, and right otherwise."""
    tokenizer = tiny.tokenizer_of("word")
    model = tiny.tiny_model("qwen3", len(tokenizer), tie_word_embeddings=False)
    model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("hen")] = broken
    reader = tiny.tiny_reader(model=model, max_length=200)
    reader.packs = packs
    return reader


@PACKS
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_loss_that_is_not_finite_names_query_passage_and_reader(broken: float, packs: bool, tmp_path: Path) -> None:
    reader = broken_reader(packs, broken)
    asked = [Triple("Where was Aldan born?", "Aldan owns a hen.", "Ashby"), *triples(1)]
    named = "reader tiny: .*'Ashby'.*'Where was Aldan born.'.*'Aldan owns a hen.*readers.tiny.dtype"
    with Journal(tmp_path / "j.sqlite") as journal:
        for _ in range(2):
            with pytest.raises(ReaderError, match=named):
                Scorer(reader, BUDGET, journal).score(asked)


@PACKS
def test_broken_losses_that_are_skipped_leave_the_others_as_they_are(packs: bool, tmp_path: Path) -> None:
    reader, asked = broken_reader(packs, math.nan), triples()
    healthy = tiny.tiny_reader(model=broken_reader(packs, 0.0).model, max_length=200)
    bad = {triple for triple in asked if "hen" in triple.passage}
    assert 3 < len(bad) < len(asked) / 2
    well = Scorer(healthy, BUDGET).score(asked)
    wanted = [None if triple in bad else score for triple, score in zip(asked, well, strict=True)]
    with Journal(tmp_path / "j.sqlite") as journal:
        for _ in range(2):  # nothing broken was journalled: it is reported again
            (errors, on_bad), counts = refused(), []
            assert close(Scorer(reader, BUDGET, journal).score(asked, counts.append, on_bad), wanted)
            assert len(errors) == len(bad) and sum(counts) == len(asked)
            for query, passage, answer in bad:
                told = f"answer {answer!r} to {query!r} given {passage!r}"
                assert sum(told in str(error) for error in errors) == 1


def dropping_reader() -> Reader:
    """A reader whose tokenizer drops unknown words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<pad>", "<end>"], show_progress=False)
    tokenizer.train_from_iterator([f"{t.query} {t.passage} {tiny.PROMPT.template}" for t in triples()], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    return tiny.tiny_reader(tokenizer_object=fast)


@pytest.mark.parametrize(
    ("answer", "says"), [("  ", "is empty"), ("北京", "has no tokens"), ("Ashby " * 99, "readers.tiny.max_length")]
)
def test_answers_that_cannot_be_scored_are_named_or_skipped(answer: str, says: str, tmp_path: Path) -> None:
    reader, good = dropping_reader(), triples(1)[:4]
    asked = [*good[:2], Triple("Where was Dorin born?", "Dorin owns a dog.", answer), *good[2:]]
    with Journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(ReaderError, match=rf"reader tiny: .*'Where was Dorin born\?'.*{says}"):
            Scorer(reader, BUDGET, journal).score(asked)
        (errors, on_bad), counts = refused(), []
        scores = Scorer(reader, BUDGET, journal).score(asked, counts.append, on_bad)
    assert len(errors) == 1 and says in str(errors[0]) and sum(counts) == len(asked)
    assert scores[2] is None and close(scores[:2] + scores[3:], Scorer(reader, BUDGET).score(good))

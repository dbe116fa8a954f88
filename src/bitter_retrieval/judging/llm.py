"""A causal language model on this machine as judge: whichever of YES and NO it finds more likely after the prompt.

    … Is the answer right? Say YES or NO:     YES 0.31 nats     NO 1.70 nats     Verdict("correct")

The likelihood is of the whole word, however many tokens it has. Scores are journalled by weights and text
(readers/answer_loss.py). A prompt that is too long is not cut: its verdict is missing.
"""

from collections.abc import Callable, Sequence

from bitter_retrieval.journal import Journal, journal_folder
from bitter_retrieval.judging.judges import Case, Judged, JudgeError, Named, Verdict, filled, ignore
from bitter_retrieval.judging.settings import Scoring
from bitter_retrieval.readers.answer_loss import Score, Scorer, Triple
from bitter_retrieval.readers.language_model import ReaderError, ReaderSettings, open_reader

CHUNK = 256  # answers after which verdicts are handed on
CHARACTERS = 4  # per token, roughly; only for the estimate


class LlmJudge:
    """model: a path, pkg://package/folder or hub id; loaded only when there is something to judge."""

    def __init__(self, who: Named, model: str, revision: str | None, prompt: str, scoring: Scoring) -> None:
        self.name, self.model, self.about = who.name, who.model, who.about
        self._model = model
        self._revision = revision
        self._prompt = prompt
        self._scoring = scoring
        self._refused: list[ReaderError] = []

    def verdicts(self, cases: Sequence[Case], on_judged: Callable[[Judged], None] = ignore) -> Judged:
        if not cases:
            return {}
        how = self._scoring
        # A reader cuts passages that are too long, and refuses other text. The whole prompt goes in as the query, with
        # an empty passage, so that it is never cut.
        settings = ReaderSettings("{query}{passage}", how.dtype, how.max_length, 0, how.chat)
        judged: dict[Case, Verdict] = {}
        try:
            reader = open_reader(self.name, self._model, self._revision, settings)
            with Journal(journal_folder() / "answer_loss.sqlite") as journal:
                scorer = Scorer(reader, how.batch_tokens, journal)
                for start in range(0, len(cases), CHUNK):
                    some = self._judge(scorer, cases[start : start + CHUNK])
                    on_judged(some)
                    judged |= some
        except ReaderError as error:  # of all prompts alike; errors of single ones go to _refused
            raise JudgeError(f"judge.model {self._model!r}: {self._told(error)}") from error
        return judged

    def estimate(self, cases: Sequence[Case]) -> str:
        read = sum(len(filled(self._prompt, case)) for case in cases) / CHARACTERS
        return f"{len(cases):,} answers to be judged on this machine, about {read:,.0f} tokens; no calls, no cost"

    def account(self) -> str:
        return f"{len(self._refused):,} scores refused: …{self._told(self._refused[0])}" if self._refused else ""

    def _judge(self, scorer: Scorer, cases: Sequence[Case]) -> Judged:
        prompts = [filled(self._prompt, case) for case in cases]
        triples = [Triple(prompt, "", word) for prompt in prompts for word in ("YES", "NO")]
        scores = scorer.score(triples, on_bad=self._refused.append)
        return {case: verdict(*scores[2 * place : 2 * place + 2]) for place, case in enumerate(cases)}

    def _told(self, error: ReaderError) -> str:
        """The end of a reader's message, which names the remedy, with this judge's parameters in it."""
        return str(error)[-200:].replace(f"readers.{self.name}.", "judge.scoring.")


def verdict(yes: Score | None, no: Score | None) -> Verdict:
    """The likelier word; missing where both tie (a tokenizer may know neither) or the model could not score them."""
    if yes is None or no is None:
        return Verdict("missing", "the model cannot take the prompt")
    if yes.nll_sum == no.nll_sum:
        return Verdict("missing", "YES and NO are equally likely")
    return Verdict("correct" if yes.nll_sum < no.nll_sum else "incorrect")

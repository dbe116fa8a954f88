"""A local model as judge against the slow way: each prompt with each word alone, in float64, token by token."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from test_judges import LLM, parsed, prediction

import judge as stage
from bitter_retrieval import params
from bitter_retrieval.judging import llm as llm_judge
from bitter_retrieval.judging.judges import PROMPT, Case, JudgeError, Verdict, judgement_key, make_judge, prompt_of
from bitter_retrieval.judging.llm import LlmJudge, verdict
from bitter_retrieval.models.checkpoints import CheckpointError
from bitter_retrieval.readers.answer_loss import Score, Scorer
from bitter_retrieval.records import JUDGEMENTS, PREDICTIONS, PREPARED, read_rows, write_rows

CASES = [Case(row["query"], (town,), row["answers"][0]) for row in tiny.world(12) for town in ("Ashby", "Holt")]
SHORT = "{query} {references} {answer} Holt"  # after it the tiny model finds now YES likelier, now NO
CUT = Verdict("missing", "the model cannot take the prompt")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judge(checkpoint: Path, prompt: str = SHORT, **scoring: object) -> LlmJudge:
    settings = parsed(LLM | {"model": str(checkpoint), "prompt": prompt})
    settings = replace(settings, scoring=replace(settings.scoring, **scoring))
    return LlmJudge(make_judge(settings), str(checkpoint), None, prompt_of(settings), settings.scoring)


def slow_likelihood(prompt: str, word: str) -> float:
    """Log probability of the word after the prompt and a space."""
    tokenizer, model = tiny.tokenizer_of("bpe"), tiny.tiny_model("qwen3", len(tiny.tokenizer_of("bpe"))).double()
    ids = tokenizer(prompt).input_ids
    total = 0.0
    for token in tokenizer(" " + word).input_ids:
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        total += logits.log_softmax(-1)[token].item()
        ids.append(token)
    return total


def test_verdicts_are_those_of_the_slow_way(checkpoints: dict[str, Path]) -> None:
    judged = judge(checkpoints["bpe"]).verdicts(CASES)
    for case in CASES:
        prompt = f'"{case.query}" - "{case.references[0]}" "{case.answer}" Holt'
        yes, no = slow_likelihood(prompt, "YES"), slow_likelihood(prompt, "NO")
        assert abs(yes - no) > 1e-3, "too near to tell"
        assert judged[case] == Verdict("correct" if yes > no else "incorrect"), case
    assert {said.verdict for said in judged.values()} == {"correct", "incorrect"}


def test_verdicts_are_handed_on_as_they_come(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_judge, "CHUNK", 10)
    parts: list[dict[Case, Verdict]] = []
    judged = judge(checkpoints["bpe"]).verdicts(CASES, parts.append)
    assert [len(part) for part in parts] == [10, 10, 4]
    assert {case: said for part in parts for case, said in part.items()} == judged


def test_what_was_scored_is_not_scored_again(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = judge(checkpoints["bpe"]).verdicts(CASES)

    def computed(*given: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(Scorer, "_compute", computed)
    assert judge(checkpoints["bpe"]).verdicts(CASES) == first


@pytest.mark.parametrize(
    ("yes", "no", "said"),
    [
        (Score(1.0, 2, False, False), Score(1.5, 1, False, False), Verdict("correct")),
        (Score(2.0, 2, False, False), Score(1.5, 1, False, False), Verdict("incorrect")),  # of the words, not a token
        (Score(1.5, 1, False, False), Score(1.5, 1, False, False), Verdict("missing", "YES and NO are equally likely")),
        (None, Score(1.5, 1, False, False), CUT),
        (Score(1.5, 1, False, False), None, CUT),
    ],
)
def test_the_likelier_word_wins(yes: Score | None, no: Score | None, said: Verdict) -> None:
    assert verdict(yes, no) == said


def test_a_prompt_that_does_not_fit_is_not_cut(checkpoints: dict[str, Path]) -> None:
    long = Case("Where was Dorin born? " * 40, ("Holt",), "Holt")
    asker = judge(checkpoints["bpe"], max_length=96)
    judged = asker.verdicts([*CASES, long])
    assert judged[long] == CUT
    assert {case: said for case, said in judged.items() if case != long} == judge(checkpoints["bpe"]).verdicts(CASES)
    assert asker.account().startswith("2 scores refused: …")
    assert "Raise judge.scoring.max_length." in asker.account()


def test_a_model_that_knows_neither_word_says_nothing(checkpoints: dict[str, Path]) -> None:
    judged = judge(checkpoints["word"]).verdicts(CASES)
    assert {said.verdict for said in judged.values()} == {"missing"}


def test_a_model_without_a_chat_template_is_named_with_the_remedy(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(JudgeError, match=r"judge\.model .*no chat template\. Set judge\.scoring\.chat to false"):
        judge(checkpoints["bpe"], chat=True).verdicts(CASES)


def test_with_nothing_to_judge_no_model_is_loaded() -> None:
    nowhere = judge(Path("/nowhere"))
    assert nowhere.verdicts([]) == {} and nowhere.account() == ""
    assert "24 answers to be judged on this machine" in nowhere.estimate(CASES) and "no cost" in nowhere.estimate(CASES)
    with pytest.raises(CheckpointError, match="no such folder"):
        nowhere.verdicts(CASES)


def test_the_stage_judges_by_a_reader_of_params(checkpoints: dict[str, Path], folder: Path) -> None:
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text()))
    tree["runs"] = {name: tree["runs"][name] for name in ("infonce", "kl")}
    tree["judge"] = LLM | {"prompt": SHORT}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    shutil.copytree(checkpoints["bpe"], stage.READERS / "reader_a")
    rows = tiny.world(6)
    for name, asked in {"test": rows, "beyond": []}.items():
        write_rows(stage.PREPARED_FOLDER / f"{name}.parquet", asked, PREPARED)
    for name in ("infonce", "kl"):
        answers = [prediction(name, answer, row["query_id"]) for row in rows for answer in tiny.TOWNS[:4]]
        write_rows(stage.RUNS / f"{name}.parquet", answers, PREDICTIONS)
    for name in params.load_params().controls:
        write_rows(stage.CONTROLS / f"{name}.parquet", [], PREDICTIONS)
    stage.main([])
    judged = read_rows(stage.JUDGED, JUDGEMENTS)
    cases = [Case(row["query"], tuple(row["answers"]), answer) for row in rows for answer in tiny.TOWNS[:4]]
    who = make_judge(params.load_params().judge)
    expected = {
        judgement_key(case.query, case.references, case.answer, who.name, who.model): said.verdict
        for case, said in judge(checkpoints["bpe"]).verdicts(cases).items()
    }
    assert {row["key"]: row["verdict"] for row in judged} == expected
    assert {(row["judge"], row["model"]) for row in judged} == {("llm", who.model)}


def test_weights_that_may_change_under_a_name_are_asked_again(folder: Path) -> None:
    """A reader that is fitted again keeps its name, so earlier rows say nothing of the new weights."""
    tree = params.load_params(tiny.PROFILE)
    local, hub = LLM | {"prompt": PROMPT}, LLM | {"model": "maker/judge"}
    hub["scoring"] = LLM["scoring"] | {"revision": "b968826d9c46dd6066d109eabc6255188de91218"}
    (folder / "models/readers/reader_a").mkdir(parents=True)
    for settings, remembers in ((local, False), (hub, True)):
        with stage.open_judge(replace(tree, judge=parsed(settings))) as opened:
            assert (type(opened).__name__ == "Remembering") == remembers

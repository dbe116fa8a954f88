"""The planner: counts by hand for a tiny profile, measured rates by machine, and the table of rates."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import plan
import use_profile
from bitter_retrieval.params import Params, load_params, parse_params
from bitter_retrieval.planning import rates
from bitter_retrieval.planning.amounts import Amounts, Lengths, amounts_of
from bitter_retrieval.planning.costs import disk, memory, rated, stages
from bitter_retrieval.planning.shapes import KNOWN, ShapeError, of_config, shape_of
from bitter_retrieval.records import CORPUS, PREPARED, write_rows
from bitter_retrieval.typed_yaml import parse_yaml

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks/results"
LENGTHS = Lengths(query=5, passage=20, answer=2, references=1)
WEIGHTS = {"reader": 2 * (4 * 8 * 8 + 3 * 8 * 16), "encoder": 1 * (4 * 4 * 4 + 2 * 4 * 6)}  # blocks: 1280 and 112


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def profile(name: str) -> Params:
    return parse_params(parse_yaml(use_profile.render(name), name), name)


def tiny() -> dict[str, Any]:
    """The default with one reader and one encoder of a few weights, one label source of each kind, and two runs."""
    tree = parse_yaml(use_profile.render("default"), "default")
    reader, encoder = tree["readers"]["reader_a"], tree["encoders"]["mini"]
    reader["prompt"] = "Q {query} C {passage} A"
    reader["max_new_tokens"] = 1
    reader["fit"] |= {"layers": 2, "width": 8, "heads": 2, "vocabulary": 100, "steps": 3, "batch": 4, "held_out": 5}
    encoder["fit"] |= {"layers": 1, "width": 4, "heads": 2, "feed_forward": 6, "vocabulary": 50, "steps": 2, "batch": 8}
    runs = {name: tree["runs"][name] | {"encoder": "mini"} for name in ("infonce_human", "kl_a")}
    return tree | {
        "readers": {"reader_a": reader},
        "labels": {name: tree["labels"][name] for name in ("human", "reader_a")},
        "runs": runs,
        "train": tree["train"] | {"seeds": [0, 1], "epochs": 3},
        "control": tree["control"] | {"random_draws": 2},
        "compare": tree["compare"] | {"primary": "kl_a", "contrasts": None},
    }


def amounts() -> Amounts:
    questions = {"reader": 16, "train": 8, "validation": 4, "test": 4}
    return Amounts(questions, {"reader": 28, "train": 14, "validation": 7, "test": 7, "corpus": 9}, 10, LENGTHS, True)


@pytest.fixture
def params() -> Params:
    return parse_params(tiny(), "tiny")


def test_tokens_and_flops_of_every_stage(params: Params) -> None:
    found = {work.stage: (work.tokens, work.flops) for work in stages(params, amounts())}
    reader, encoder, head = WEIGHTS["reader"], WEIGHTS["encoder"], 8 * 100
    sequence = 1 + 5 + 1 + 20 + 1 + 2  # Q, query, C, passage, A, answer
    fitted, checked = 3 * 4, 3 * 5
    label = 16 * (7 + 10 * 20 + 11 * (1 + 2))  # head once, ten passages, and none
    learnt, validated = 2 * 2 * 3 * (8 * 5 + 14 * 20), 2 * 2 * 3 * (4 * 5 + 7 * 20)  # runs, seeds, epochs
    encoded = 5 * (4 * 5 + 9 * 20)  # two runs of two seeds, and the start
    contexts = {0: 4, 1: (2 + 1 + 1) * 4 + (4 + 1 + 1) * 4}  # controls; trained, untrained, BM25
    prompts = sum(given * (8 + 20 * shown) for shown, given in contexts.items())
    answers = sum(contexts.values())
    assert found == {
        "fit reader reader_a": (fitted * sequence, 6 * (fitted * sequence * reader + fitted * 2 * head)),
        "check reader reader_a": (checked * sequence, 2 * (checked * sequence * reader + checked * 2 * head)),
        "fit encoder mini": (2 * 8 * 20, 6 * 2 * 8 * 20 * encoder),
        "label reader_a": (label, 2 * (label * reader + 16 * 11 * 2 * head)),
        "train mini: 2 runs": (learnt + validated, encoder * (6 * learnt + 2 * validated)),
        "encode: 5 models of mini": (encoded, 2 * (encoded * encoder + 5 * 4 * 4 * 9)),
        "score: reader_a": (prompts + answers * 2, 2 * ((prompts + answers * 2) * reader + answers * 2 * head)),
        "answer: reader_a": (prompts + answers, 2 * ((prompts + answers) * reader + answers * head)),
    }


def test_ten_times_the_questions_are_ten_times_the_labels_and_the_same_fits(params: Params) -> None:
    once, more = ({w.stage: w for w in stages(params, a)} for a in (amounts(), amounts().times(10)))
    factors = {stage: more[stage].tokens / work.tokens for stage, work in once.items()}
    assert factors.pop("fit reader reader_a") == factors.pop("fit encoder mini") == 1
    assert factors.pop("check reader reader_a") == 1
    assert set(factors.values()) == {10}


def test_memory_and_disk(params: Params) -> None:
    reader, encoder = WEIGHTS["reader"] + 800, WEIGHTS["encoder"] + 200  # with their embeddings
    assert memory(params, amounts()) == (4 * (reader + 8 * 8 * 8192), "reader reader_a")
    texts = 32 * (5 * 1.1 + 10 * 20 * 1.1) + 9 * 20 * 1.1
    assert disk(params, amounts()) == pytest.approx(
        {
            "weights of readers and encoders": 4 * (reader + encoder),
            "trained models": 2 * 4 * 4 * encoder,
            "embeddings": 4 * (4 + 9) * 4 * 4,
            "texts": 2 * 5 * texts,
        }
    )


# -- amounts ----------------------------------------------------------------------------------------------------------


def test_the_generated_world_is_counted_as_prepare_counts_it() -> None:
    found = amounts_of(load_params("profiles/default.yaml"), None)
    counted = json.loads(Path("metrics/prepare.json").read_text(encoding="utf-8"))
    assert found.questions == {split: counted["splits"][split]["questions"] for split in found.questions}
    assert found.passages["train"] == counted["splits"]["train"]["passages"]
    assert found.passages["corpus"] == counted["corpus_passages"]
    sampled = json.loads(Path("metrics/label/reader_a.json").read_text(encoding="utf-8"))["train"]
    assert found.lengths.answer == pytest.approx(sampled["answer_tokens"] / sampled["rows"], rel=0.1)


def test_the_originals_questions_and_what_is_assumed() -> None:
    found = amounts_of(profile("msmarco_qwen3"), None)
    assert found.questions == {"train": 80_000, "validation": 2000, "test": 9650, "reader": 0, "beyond": 500}
    assert found.passages["corpus"] == 96_500 and found.tokens(fitted=False) == Lengths(8, 80, 15, 1)
    assert any("MS MARCO's lengths, 8 tokens a query, 80 a passage, 15 an answer" in one for one in found.said)


def test_prepared_data_are_counted(tmp_path: Path) -> None:
    passages = [{"passage_id": f"p{n}", "text": "one two three.", "is_selected": None, "role": None} for n in (0, 1)]
    row = {"query_id": "q", "group_id": "g", "query": "who is it", "answers": ["he", "not she"], "passages": passages}
    for split in ("reader", "train", "validation", "test", "beyond"):
        write_rows(tmp_path / f"{split}.parquet", [row | {"query_id": f"{n}"} for n in range(3)], PREPARED)
    for corpus in ("corpus", "beyond_corpus"):
        write_rows(
            tmp_path / f"{corpus}.parquet", [{"passage_id": p["passage_id"], "text": "x"} for p in passages], CORPUS
        )
    found = amounts_of(load_params("profiles/default.yaml"), tmp_path)
    assert found.questions["train"] == 3 and found.passages["train"] == 2 == found.passages["corpus"]
    assert found.lengths == Lengths(3, 4, 1.5, 2) and found.candidates == 2
    assert found.tokens(fitted=False).passage == pytest.approx(4.4)


# -- shapes -----------------------------------------------------------------------------------------------------------


def test_shapes_have_the_sizes_that_the_presets_state() -> None:
    """A reader's GiB, in its comment, in the precision of its entry; only the first of a size has one."""
    sizes = {}
    for line in Path("profiles/presets.yaml").read_text(encoding="utf-8").splitlines():
        if " GiB" in line and line.startswith("  ") and "#" in line and not line.strip().startswith("#"):
            name, _, comment = line.strip().partition(":")
            sizes[name] = float(comment.split(" GiB")[0].split()[-1])
    readers = yaml.safe_load(Path("profiles/presets.yaml").read_text(encoding="utf-8"))["readers"]
    assert len(sizes) > 7
    for name, stated in sizes.items():
        entry = readers[name]
        size = shape_of(entry["model"], None).parameters * {"bfloat16": 2, "float32": 4}[entry["dtype"]]
        assert size / 2**30 == pytest.approx(stated, abs=0.051), name


@pytest.mark.parametrize("kind", ["qwen3", "llama", "bert", "nomic_bert", "modernbert"])
def test_weights_are_those_of_the_matrices_in_the_blocks(kind: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(kind, num_hidden_layers=2)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    matrices = [
        m.weight.numel()
        for name, m in model.named_modules()
        if isinstance(m, torch.nn.Linear) and name != "pooler.dense"
    ]
    assert of_config(config.to_dict()).weights == sum(matrices)


def test_every_preset_has_a_shape_and_another_model_is_refused() -> None:
    presets = yaml.safe_load(Path("profiles/presets.yaml").read_text(encoding="utf-8"))
    models = [entry["model"] for part in ("readers", "encoders") for entry in presets[part].values()]
    assert all(shape_of(model, None).weights > 0 for model in models) and len(KNOWN) <= len(models)
    with pytest.raises(ShapeError, match="'some/model': its size is not known here"):
        shape_of("some/model", None, "a" * 40)


# -- rates ------------------------------------------------------------------------------------------------------------


def result(folder: Path, **more: Any) -> Path:
    """A result of a GPU: labelling in 2 s, which is half of the rate of its products."""
    labelled = {
        "tokens": 1000,
        "flops": {"tokens": 800, "blocks": 1600 * 10**6, "attention": 0, "head": 400 * 10**6},
        "seconds": {"original": [9.0, 8.0], "ours": [2.0, 2.0]},
    }
    found = {
        "machine": {"cpu": "Some Processor", "cores": 2, "gpu": "NVIDIA H999"},
        "parts": {
            "ceilings": {"products": {"flops": {"bfloat16": 2e9, "float32": 1e8}, "usual": "bfloat16"}},
            "label": {"model": labelled, "other": {"not_run": "absent"}},
        },
    }
    path = folder / "gpu-nvidia-h999.json"
    path.write_text(json.dumps(found | more))
    return path


def test_a_rate_by_hand(tmp_path: Path) -> None:
    result(tmp_path)
    (rate,) = rates.measured(tmp_path, {})
    assert (rate.machine, rate.work, rate.model) == ("NVIDIA H999", "label", "model")
    assert (rate.tokens, rate.flops, rate.share, rate.times, rate.weights) == (500, 1e9, 0.5, 4.25, 1e6)
    assert rates.on("h999", [rate]) == [rate]
    with pytest.raises(rates.RatesError, match="names no machine of benchmarks/results .NVIDIA H999"):
        rates.on("A100", [rate])


def test_tiny_sizes_are_no_rates_and_a_broken_file_is_named(tmp_path: Path) -> None:
    path = result(tmp_path, small=True)
    assert rates.measured(tmp_path, {}) == []
    path.write_text("{}")
    with pytest.raises(rates.RatesError, match=f"{path.name}: no result of benchmarks/"):
        rates.measured(tmp_path, {})


def test_encoding_goes_by_training_where_that_alone_is_measured(params: Params) -> None:
    works = {work.kind: work for work in stages(params, amounts())}
    train = rates.Rate("m", "train", "x", 100, 1, 1, 1, 1, "original", "f")
    assert rated(works["encode"], [train]) is train and rated(works["generate"], [train]) is None


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", "nq_smollm2", "msmarco_qwen3"])
def test_a_plan_at_a_given_rate(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan.main([name, "--flops", "1e12", "--price-per-hour", "2"])
    told = capsys.readouterr().out
    lines = {line.split("  ")[0].strip(): line.split() for line in told.splitlines() if line.strip()}
    hours, money, more, _ = (float(cell.replace(",", "")) for cell in lines["in all"][-4:])
    assert hours > 0 and more > 5 * hours and "as --flops says" in told
    asked = 0.0 if name != "msmarco_qwen3" else float(lines["judge: gemini-3.5-flash-lite"][-3])
    assert money == pytest.approx(2 * hours + asked, abs=0.02)


def test_a_machine_that_was_not_measured_has_no_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result(tmp_path)
    monkeypatch.setattr(plan, "model_name", lambda: "Another Processor")
    plan.main(["default", "--results", str(tmp_path)])
    told = " ".join(capsys.readouterr().out.split())
    assert "No rate is measured for Another Processor, so hours are not known. Measured: NVIDIA H999." in told
    plan.main(["default", "--results", str(tmp_path), "--machine", "H999"])
    told = " ".join(capsys.readouterr().out.split())
    assert "label reader_a" in told and "50%" in told and "not known" in told  # nothing but labelling was measured


def test_the_table_of_the_readme_is_the_commands() -> None:
    page = plan.README.read_text(encoding="utf-8")
    table = plan.markdown_table(rates.HEADS, rates.rows(plan.measured(RESULTS)))
    assert plan.with_table(page, table) == page, "`python src/plan.py --rates --write` writes it"
    assert plan.with_table(page, "| other |") != page


def test_a_page_without_the_mark_is_refused() -> None:
    with pytest.raises(plan.PlanError, match="benchmarks/README.md: must hold"):
        plan.with_table("# A page\n", "| a |")

"""The command trec: its files, read back by TREC's tools."""

import sys
from pathlib import Path

import comparison_world as world
import ir_measures
import numpy as np
import pytest
from any_values import FEW, broken_texts
from hypothesis import given
from hypothesis import strategies as st

import trec
from bitter_retrieval.records import PREDICTIONS, RecordError, relevant_passages, write_rows, write_text
from bitter_retrieval.statistics.metrics import of_family
from bitter_retrieval.statistics.ranking_metrics import ranking_metrics
from bitter_retrieval.typed_yaml import ParamsError


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    world.write_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def export(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, str]:
    monkeypatch.setattr(sys, "argv", ["trec.py", *arguments, "--output", "trec"])
    trec.main()
    return {file.name: file.read_text(encoding="utf-8") for file in Path("trec").iterdir()}


def test_a_file_for_each_seed_and_one_of_labels(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = export(monkeypatch, "infonce_a")
    assert set(files) == {"infonce_a-seed0.run", "infonce_a-seed1.run", "human.qrels"}
    assert files["infonce_a-seed0.run"].splitlines()[-2:] == [
        "q3 Q0 q3b 1 1 infonce_a-seed0",
        "q3 Q0 q9a 2 0.5 infonce_a-seed0",
    ]
    assert (
        len(files["infonce_a-seed1.run"].splitlines()) == 8
    )  # two readers and two numbers of passages shown: one ranking
    assert files["human.qrels"].splitlines()[3:6] == ["q1 0 q1a 0", "q1 0 q1b 1", "q1 0 q1c 0"]
    assert "q3" not in files["human.qrels"]  # nobody labelled it


def test_questions_from_another_domain_are_left_out(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = export(monkeypatch, "infonce_a")
    path = workspace / "data/predictions/runs/infonce_a.parquet"
    rows = world.predictions("infonce_a", world.RUNS["infonce_a"])
    far = [row | {"beyond": True, "ranked_ids": row["ranked_ids"][::-1]} for row in rows]
    write_rows(path, rows + far, PREDICTIONS)
    assert export(monkeypatch, "infonce_a") == before


def test_controls_that_retrieve_and_other_labels(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(workspace / "data/labels/truth/test.parquet", world.human()[:3], trec.BINARY_LABELS)
    files = export(monkeypatch, "bm25", "--labels", "truth")
    assert set(files) == {"bm25-seed0.run", "truth.qrels"} and len(files["truth.qrels"].splitlines()) == 3
    with pytest.raises(ParamsError, match="'oracle' is none of infonce_human, infonce_a, kl_flat, bm25, untrained"):
        export(monkeypatch, "oracle")


def test_tools_that_break_ties_by_name_keep_our_order(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random rankings with ties of every kind, the empty passage, and labels of passages that no ranking has."""
    rng = np.random.default_rng(0)
    rows, template = [], world.predictions("infonce_a", ["aaaa++++"], readers=["reader_a"])
    for at, query in enumerate(["q0", "q1", "q2"] * 30):
        ids = [f"{query}{name}" for name in rng.permutation(list("abcdefghijklm"))][:10]
        ids[rng.integers(10)] = ""
        scores = np.sort(rng.choice([-1.0, 0.0, 0.25, 0.2500000298, 0.5, 1e-30], size=10).astype(np.float32))[::-1]
        row = {"seed": at // 3, "query_id": query, "ranked_ids": ids, "ranked_scores": scores.tolist()}
        rows.append(template[0] | row)
    write_rows(workspace / "data/predictions/runs/infonce_a.parquet", rows, PREDICTIONS)
    files = export(monkeypatch, "infonce_a")
    assert len(files) == 31 and "no-passage" in files["infonce_a-seed0.run"]
    relevant = relevant_passages(world.human())
    labels = list(ir_measures.read_trec_qrels("trec/human.qrels"))
    measures = {row.name: ir_measures.parse_measure(row.measure) for row in of_family("ranking")}
    for seed in range(30):
        rankings = {row["query_id"]: row["ranked_ids"] for row in rows if row["seed"] == seed}
        run = list(ir_measures.read_trec_run(f"trec/infonce_a-seed{seed}.run"))
        found: dict[str, dict[str, float]] = {query: {} for query in rankings}
        for one in ir_measures.iter_calc(list(measures.values()), labels, run):
            found[one.query_id] |= {name: one.value for name, measure in measures.items() if measure == one.measure}
        wanted = ranking_metrics(rankings, relevant)
        assert all(found[query] == pytest.approx(wanted[query]) for query in rankings)
        read = {query: [one.doc_id for one in run if one.query_id == query] for query in rankings}
        assert read == {query: [one or "no-passage" for one in ids] for query, ids in rankings.items()}


def test_scores_fall_and_only_ties_move() -> None:
    scores = np.array([3e38, 0.5, 0.5, np.nextafter(np.float32(0.5), np.float32(0)), 0.25, 0, 0, -2], dtype=np.float32)
    found = np.array(trec.falling(scores.tolist()), dtype=np.float32)
    written = np.array([f"{score:.9g}" for score in found], dtype=np.float32)
    assert (np.diff(found) < 0).all() and np.array_equal(found, written)
    assert found[[0, 1, 4, 5, 7]].tolist() == scores[[0, 1, 4, 5, 7]].tolist()
    np.testing.assert_allclose(found, scores, rtol=1e-6, atol=1e-40)


@pytest.mark.parametrize(
    "name", ["a b", "a\tb", " a", "a\n", "a\xa0b", "a\0b", "\x1b[31mred", "a\u2028b", "\u202egnp.exe"]
)
def test_an_id_with_white_space_or_control_characters_is_refused(name: str) -> None:
    with pytest.raises(RecordError, match="white space.*or control characters: give the data other ids"):
        trec.name_of(name)


def test_other_ids_stay_as_they_are_and_none_is_the_empty_passages() -> None:
    for name in ("../../etc/passwd", "a|b", "<script>", "[red]", "नदी", "水", "e\u0301", "😀", "Q0", "#", "x" * 9999):
        assert trec.name_of(name) == name
    assert trec.name_of("") == "no-passage"
    with pytest.raises(RecordError, match="is the empty passage's"):
        trec.name_of("no-passage")


def test_labels_that_params_do_not_have_are_told_with_the_nearest(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ParamsError, match="params.yaml: labels: 'humn' is none of .* Did you mean 'human'?"):
        export(monkeypatch, "infonce_a", "--labels", "humn")


RANKED = st.lists(
    st.tuples(broken_texts | st.text("ab|é水", min_size=1), st.floats(-(2.0**100), 2.0**100, width=32)),
    max_size=5,
    unique_by=lambda one: one[0],
)


@FEW
@given(query=broken_texts | st.text("q-1", min_size=1), ranked=RANKED)
def test_any_ranking_is_read_back_in_its_order_or_an_id_is_refused(
    query: str, ranked: list[tuple[str, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ranked.sort(key=lambda one: -one[1])
    row = {"query_id": query, "ranked_ids": [one for one, _ in ranked], "ranked_scores": [score for _, score in ranked]}
    file = tmp_path_factory.getbasetemp() / "any.run"
    try:
        write_text(file, "".join(f"{line}\n" for line in trec.run_lines("run", [row])))
    except RecordError as error:
        names = "".join([query, *row["ranked_ids"]])
        assert str(error).startswith("id ") and (not names.isprintable() or " " in names)
        return
    found = sorted(ir_measures.read_trec_run(str(file)), key=lambda one: -one.score)
    assert [(one.query_id, one.doc_id) for one in found] == [
        (query or trec.EMPTY, one or trec.EMPTY) for one in row["ranked_ids"]
    ]
    assert len({one.score for one in found}) == len(found)

"""Names next to points: none over another, none outside the frame, and the same picture again."""

import json
from itertools import combinations
from pathlib import Path

import pytest

from bitter_retrieval.reporting.plots import differences, new_figure, save, write_names

CROWDED = [
    (36.5, 69.5, "infonce_soft"),
    (36.9, 69.0, "infonce_a"),
    (36.9, 69.0, "kl_margin"),
    (37.0, 68.4, "full_modular"),
]
APART = [(18.8, 63.2, "infonce_has_answer"), (63.0, 66.6, "infonce_human"), (38.4, 51.6, "mse")]


def drawn(path: Path) -> bytes:
    figure, axes = new_figure(4.7, 4.6)
    ax = axes[0, 0]
    ax.scatter(*zip(*((x, y) for x, y, _ in CROWDED + APART), strict=True))
    write_names(ax, CROWDED + APART)
    boxes = {text.get_text(): text.get_window_extent() for text in ax.texts}
    assert list(boxes) == [name for _, _, name in CROWDED + APART]
    over = [pair for pair in combinations(boxes, 2) if boxes[pair[0]].overlaps(boxes[pair[1]])]
    assert not over
    frame = ax.get_window_extent().padded(1)
    assert all(frame.contains(*corner) for box in boxes.values() for corner in (box.min, box.max))
    for x, y, name in APART:  # a name with room to spare stands at its point
        near = boxes[name].padded(40)
        assert near.contains(*ax.transData.transform((x, y))), name
    save(figure, path)
    return path.read_bytes()


def test_names_leave_each_other_readable_and_the_picture_is_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = drawn(tmp_path / "first.png")
    slow = iter(range(0, 10**9, 10))  # of a machine where every look at the clock is ten seconds after the one before
    monkeypatch.setattr("adjustText.timer", lambda: float(next(slow)))
    assert drawn(tmp_path / "again.png") == first


def test_differences_of_controls_outside_the_scale_are_drawn_at_the_edge(tmp_path: Path) -> None:
    report = json.loads((Path(__file__).parents[2] / "metrics/report.json").read_text(encoding="utf-8"))
    differences(report, tmp_path / "first.png")
    report["differences"]["reader_a"]["em"]["kl_flat"] |= {"mean": 0.3, "low": 0.2, "high": 0.4}
    differences(report, tmp_path / "other.png")
    report["differences"]["reader_a"]["em"] = {}
    differences(report, tmp_path / "none.png")
    assert len({path.read_bytes() for path in tmp_path.glob("*.png")}) == 3


def test_no_names(tmp_path: Path) -> None:
    figure, axes = new_figure(4.7, 4.6)
    write_names(axes[0, 0], [])
    save(figure, tmp_path / "empty.png")

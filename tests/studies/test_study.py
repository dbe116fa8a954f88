"""study: what each subcommand offers. What they do is in test_sweep.py, test_tuning.py and test_confirm.py."""

import pytest

import study

PAGES = {"sweep": "draw", "tune": "table", "confirm": "table"}


def ended(*arguments: str) -> object:
    with pytest.raises(SystemExit) as caught:
        study.main(arguments)
    return caught.value.code


@pytest.mark.parametrize("name", PAGES)
def test_help_has_an_example_that_the_command_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(name, "--help") == 0
    example = capsys.readouterr().out.rpartition("example: python src/study.py ")[2]
    assert study.parse(example.split()).study == name


@pytest.mark.parametrize("name", PAGES)
def test_a_study_queues_and_writes_its_own_page(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("queue", PAGES[name]):
        assert study.parse([name, action]).rev == "HEAD"
    assert ended(name, ({*PAGES.values()} - {PAGES[name]}).pop()) == 2
    assert "invalid choice" in capsys.readouterr().err
    assert ended() == ended(name) == 2


def test_only_a_sweep_is_of_settings() -> None:
    assert study.parse(["sweep", "queue", "--set", "train.epochs=2,4"]).set == ["train.epochs=2,4"]
    assert ended("tune", "queue", "--set", "train.epochs=2,4") == 2

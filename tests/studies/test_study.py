"""study: what each subcommand offers. What they do is in test_tuning.py, test_spread.py and test_confirm.py."""

import pytest

import study

STUDIES = ("tune", "spread", "confirm")


def ended(*arguments: str) -> object:
    with pytest.raises(SystemExit) as caught:
        study.main(arguments)
    return caught.value.code


@pytest.mark.parametrize("name", STUDIES)
def test_help_has_an_example_that_the_command_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(name, "--help") == 0
    example = capsys.readouterr().out.rpartition("example: python src/study.py ")[2]
    assert study.parse(example.split()).study == name


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_queues_and_writes_a_table(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("queue", "table"):
        assert study.parse([name, action]).rev == "HEAD"
    assert ended(name, "draw") == 2
    assert "invalid choice" in capsys.readouterr().err
    assert ended() == ended(name) == 2


def test_only_studies_over_worlds_have_worlds() -> None:
    assert [study.parse([name, "queue"]).worlds for name in ("spread", "confirm")] == [4, 8]
    options = study.parse(["confirm", "table", "--worlds", "20"])
    assert study.commands_of(options, "confirm")[-1] == "python src/study.py confirm table --worlds 20"
    assert ended("tune", "queue", "--worlds", "4") == 2

"""Licences of all that the project needs to run: what requirements.txt names, and what that brings in.

    python src/licences.py

    adjustText                     1.4.0           MIT
    aiohttp                        3.14.5          Apache-2.0 AND MIT

They are what the installed packages say of themselves.
"""

from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from bitter_retrieval.command_line import Parser, run_stage

# isort: split
from packaging.requirements import Requirement

REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"
UNKNOWN = "not named: look into the package"


def main(arguments: Sequence[str] | None = None) -> None:
    Parser(description=__doc__).parse_args(arguments)
    for found in sorted(installed(), key=lambda one: one.name.lower()):
        print(f"{found.name:30} {found.version:15} {licence(found)}")


def installed() -> list[Distribution]:
    """Each package that is needed, once. What other systems or versions of Python need is left out."""
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    waiting = [Requirement(line) for line in lines if line]
    found: dict[tuple[str, str], Distribution] = {}  # by package and extra
    while waiting:
        wanted = waiting.pop()
        for extra in ("", *wanted.extras):
            key = wanted.name.lower().replace("_", "-"), extra
            try:
                if key not in found:
                    found[key] = distribution(wanted.name)
                    waiting += needs(found[key], extra)
            except PackageNotFoundError:
                raise LicenceError(f"{wanted.name}: not installed. Run `pip install -r requirements.txt`.") from None
    return list({one.name: one for one in found.values()}.values())


def needs(package: Distribution, extra: str) -> Iterator[Requirement]:
    """What it brings in with this extra; with "", what it always needs."""
    for wanted in map(Requirement, package.requires or ()):
        if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
            yield wanted


def licence(package: Distribution) -> str:
    """A line: the licence's name, or what the package's classifiers say where it gives a whole text, or none."""
    about = package.metadata
    stated = (about.get_all("License-Expression") or about.get_all("License") or [""])[0].strip()
    if stated and "\n" not in stated:
        return stated
    named = [name.rpartition(" :: ")[2] for name in about.get_all("Classifier") or () if name.startswith("License ::")]
    return ", ".join(name for name in named if name != "OSI Approved") or UNKNOWN


class LicenceError(RuntimeError):
    """A package that is not there."""


if __name__ == "__main__":
    run_stage(main)

"""Keys of services: from the environment, else from `.env` in the repo root (.env.example shows what may stand there).

A key goes to the client that needs it and to nothing else: no error, record or log has it. What a service says may
repeat it: concealed(…) takes it out.
"""

import os
from pathlib import Path

from dotenv import dotenv_values


class CredentialError(ValueError):
    """A key that is not there, or is none."""


def service_key(*names: str) -> str:
    """What the first of these variables that is set holds. `.env` is that of the main repo, also in a copy by DVC."""
    file = Path(os.environ.get("DVC_ROOT") or Path.cwd()) / ".env"
    places = (os.environ, dotenv_values(file, interpolate=False))
    found = ((name, (place.get(name) or "").strip()) for place in places for name in names)
    name, key = next(((name, key) for name, key in found if key), (None, ""))
    if name is None:
        raise CredentialError(
            f"no key: set {' or '.join(names)} in the environment, or copy .env.example to {file} and put it there."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CredentialError(f"{name} holds a space, a line break or a letter that no key has. Paste the key again.")
    return key


def concealed(text: str, key: str) -> str:
    """`text` without the key."""
    return text.replace(key, "[the key]") if key else text

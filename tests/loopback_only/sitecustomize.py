"""Keeps this process, and those that it starts, from connecting to anything but the loopback.

conftest.py puts this folder into PYTHONPATH: Python imports a module of this name when it starts.
"""

import sys
from typing import Any

LOOPBACK = ("127.", "::1", "localhost", "::ffff:127.")
CONNECTING = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0}


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in CONNECTING:
        return
    asked = arguments[CONNECTING[event]]
    host = asked[0] if isinstance(asked, tuple) else asked  # text alone: the path of a Unix socket, or a name
    name = host.decode() if isinstance(host, bytes) else host
    if (isinstance(asked, tuple) or event.startswith("socket.get")) and name and not str(name).startswith(LOOPBACK):
        raise ConnectionRefusedError(f"tests connect to the loopback alone, not to {name}")


sys.addaudithook(refuse)

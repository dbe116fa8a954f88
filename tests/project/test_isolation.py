"""What conftest.py promises: tests, and what they start, reach the loopback alone."""

import socket
import subprocess
import sys

import pytest

REACH = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"  # an address that no machine has


@pytest.mark.parametrize("host", ["192.0.2.1", "example.org", "2001:db8::1"])
def test_nothing_but_the_loopback_is_reached(host: str) -> None:
    with pytest.raises(ConnectionRefusedError, match="tests connect to the loopback alone"):
        socket.create_connection((host, 80), 1)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending,
        pytest.raises(ConnectionRefusedError, match="alone"),
    ):
        sending.sendto(b"x", ("192.0.2.1", 53))


def test_nor_by_a_process_that_a_test_starts() -> None:
    done = subprocess.run([sys.executable, "-c", REACH], capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and "tests connect to the loopback alone" in done.stderr


def test_the_loopback_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, server.getsockname()[1]), 1).close()

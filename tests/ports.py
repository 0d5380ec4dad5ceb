"""Ports for the servers that tests start."""

import random
import socket

# Below the range from which the system takes the ports of outgoing connections (32768 on Linux, 49152 elsewhere), so
# that between choosing a port and listening on it no connection of another test can take it.
CHOICE = range(20_000, 32_000)
TRIES = 1_000

_chosen: set[int] = set()


def free_port() -> int:
    """Return a port on which nothing listens now, and which this process was not given before."""
    for _ in range(TRIES):
        port = random.choice(CHOICE)  # noqa: S311 - no secret
        if port not in _chosen and _is_free(port):
            _chosen.add(port)
            return port
    raise RuntimeError(f"No port from {CHOICE.start} to {CHOICE.stop - 1} is free.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True

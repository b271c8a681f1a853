"""Ports of this machine for the programs that tests start."""

import random
import socket

# Below them are Ray's ports for workers (10002 to 19999), above them those that systems give to
# whoever asks for any port: at 32768 on Linux, 49152 on macOS. A port from these may be taken
# by another program before the one that is started for it listens.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """One that nothing listens on, drawn anew by each call."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        try:
            with socket.create_server(("", port)):
                return port
        except OSError:
            continue
    raise AssertionError("a hundred ports of this machine are taken")

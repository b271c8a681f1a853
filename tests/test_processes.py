"""Processes that descend from others are found, and ended though their parents have ended."""

import os
import subprocess
import sys

from harness.processes import Process, descendants, kill
from tests.faults.meter import is_alive

# Starts a process with a session of its own, says so, and waits for its input to end.
PARENT = """
import subprocess, sys
print(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid, flush=True)
sys.stdin.read()
"""


def test_a_child_is_ended_after_its_parent() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=pipe, stdout=pipe) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        mine = descendants(os.getpid())
        assert {parent.pid, child} <= {each.pid for each in mine}
        found = descendants(parent.pid)
        assert [each.pid for each in found] == [child]
    assert is_alive(child), "its parent has ended"
    kill([Process(child, 0)])  # another process had this number
    assert is_alive(child)
    kill(found)
    kill(found)
    while is_alive(child):  # until its new parent has seen it end
        pass

"""Whether anything can be lost, be wrong, or get in: the harness under faults.

    python -m tests.faults [--kind KIND] [--json]

Every fault is tried many times, each time in a fresh folder and with a seed of its own, on the
real commands. It is survived if what is asserted of it holds: files that exist are whole, what
is missing is said, the same command ends with the result of an unbroken run.
"""

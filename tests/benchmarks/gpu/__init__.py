"""Everything that is claimed of a GPU, by one command: `python -m tests.benchmarks.gpu --json`.

Each part runs in a process of its own within a time of its own (`parts.py`), so that one that hangs
or fails costs itself alone; all together take less than eight minutes. What a part needs and the
machine lacks is said in its place. The command itself needs Python alone, and the parts of heads
and of the network torch and numpy (the network torchvision, too).

    card        the card, its driver, the versions of what is installed
    tests       `pytest -m gpu`
    extraction  images a second and error of the network: published and fused, in each precision
    compiled    the same by torch.compile
    training    seconds an epoch, ours beside the conventional loop, on the same card
    sharing     trials an hour with 1, 4 and 16 sharing the card
    search      the demo's search, by its command
"""

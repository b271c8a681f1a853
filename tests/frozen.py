"""Sets aside what the server of `tests.commands` has imported before: a collection of garbage in a
forked command would walk through it, and so copy all of its memory."""

import gc

gc.freeze()

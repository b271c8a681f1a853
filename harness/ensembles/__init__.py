"""Stored predictions -> ensembles. Needs neither torch nor ray."""

import os

# Before numpy is first imported. Many small products gain nothing from threads inside of each and
# lose much where cores are shared; targets go side by side instead. And sums then do not depend on
# the number of cores, so that equal inputs give equal files.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

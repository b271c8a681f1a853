"""Combines stored predictions into ensembles. Imports neither torch nor ray."""

import os

# This must run before numpy is first imported. Small matrix products gain nothing from BLAS threads
# and lose much on shared cores, so targets run in parallel instead. Also, sums then do not depend
# on the number of cores, and equal inputs give equal files.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

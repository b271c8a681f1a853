"""The sequence models that a search may choose, by name: a file each.

To add one, write its file and enter its class here (docs/extending.md).
"""

from harness.models.families.family import Family
from harness.models.families.lstm import LSTM

#: The family that is used where none is named; its hyperparameters have no prefix.
DEFAULT = "lstm"

FAMILIES: dict[str, type[Family]] = {DEFAULT: LSTM}

"""Stand-ins for what pickles of numpy's scalars call, such as the `best_score` of a checkpoint.

numpy's own constructors accept types of any size, with which a small file could take all memory.
"""

from typing import Any

import numpy as np

# Plain numbers and truth values.
_KINDS = ("b", "i", "u", "f")
_LARGEST = 8


class Dtype:
    """Stands for `numpy.dtype`; only types of plain numbers."""

    def __init__(self, name: object, align: bool = False, copy: bool = True) -> None:
        self.dtype = np.dtype(name) if isinstance(name, str) and len(name) <= 3 else None
        if self.dtype is None or self.dtype.kind not in _KINDS or self.dtype.itemsize > _LARGEST:
            raise ValueError(f"expected the type of a plain number, found {name!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """The byte order is the second item; nothing else matters for numbers."""
        assert self.dtype is not None  # checked above
        self.dtype = self.dtype.newbyteorder(">" if state[1] == ">" else "<")


def scalar(dtype: object, content: object) -> int | float | bool:
    """Stands for `numpy.core.multiarray.scalar`; gives a number of Python."""
    if not isinstance(dtype, Dtype) or dtype.dtype is None or not isinstance(content, bytes):
        raise ValueError("expected a number")
    (value,) = np.frombuffer(content, dtype.dtype).tolist()
    return value  # type: ignore[no-any-return]


#: What `torch.load` calls instead, by the names in a pickle.
STAND_INS: list[tuple[Any, str]] = [
    (scalar, "numpy._core.multiarray.scalar"),
    (scalar, "numpy.core.multiarray.scalar"),
    (Dtype, "numpy.dtype"),
]

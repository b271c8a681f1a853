"""eGeMAPS: 25 low-level descriptors of the voice, computed by openSMILE (extra `egemaps`).

openSMILE's licence (audEERING) allows research, teaching and private use, and no commercial one:
https://github.com/audeering/opensmile/blob/master/LICENSE. Descriptors: F. Eyben et al., The Geneva
Minimalistic Acoustic Parameter Set, IEEE Trans. Affective Computing 7 (2), 2016; set eGeMAPSv02.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np

from harness.encoders.sound.spectrum import HOP, RATE, Array, in_pieces
from harness.errors import InputError

# Seconds that openSMILE analyses at once. Its smoothing begins anew with each piece.
_AT_ONCE = 60


def load() -> tuple[str, tuple[str, ...]]:
    """openSMILE's version, and the names of the descriptors.

    Raises:
        InputError: the extra `egemaps` is not installed.
    """
    smile = _smile()
    import opensmile

    return str(opensmile.__version__), tuple(smile.feature_names)


def descriptors(blocks: Iterable[Array]) -> Iterator[Array]:
    """(frames, 25), block by block. blocks: (samples,) each, RATE a second."""
    for samples in in_pieces(blocks, _AT_ONCE * RATE):
        count = -(-len(samples) // HOP)
        # openSMILE gives no row for what is shorter than its window of 60 ms.
        padded = np.pad(samples, (0, RATE // 10))
        # Its wrapper converts to 16 bits without a limit: 1.0 would become -1.0.
        padded = np.clip(padded, -1, 32767 / 32768)
        found = _smile().process_signal(padded, RATE).to_numpy(np.float32)
        yield found[:count]


@cache
def _smile() -> Any:
    try:
        import opensmile
    except ImportError as error:
        raise InputError(
            "eGeMAPS needs openSMILE, which is not installed: pip install "
            "'reaction-harness[egemaps]' (its licence excludes commercial use)",
            "sound",
        ) from error
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel.LowLevelDescriptors,
    )

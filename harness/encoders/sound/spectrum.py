"""Log-mel spectra and MFCC of a sound that comes in blocks.

The conventions are librosa's (https://librosa.org, ISC): frames are centred on multiples of the
hop, with zeros beyond both ends; periodic Hann window; power spectrum; mel scale and triangles of
equal area of Slaney's Auditory Toolbox; decibels of max(power, 1e-10) with reference 1, without a
limit relative to the loudest frame, which would need the whole sound; orthonormal DCT-II.
"""

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Array = NDArray[np.float32]

#: Samples a second, and between the centres of two frames (10 ms).
RATE, HOP = 16_000, 160
#: Samples of a frame (25 ms), and of its Fourier transform, with zeros at both sides.
WINDOW, FFT = 400, 512
#: Bands of the mel spectrum, from 0 to RATE / 2; cepstral coefficients, the first included.
MELS, CEPSTRA = 64, 20
# Seconds that are transformed at once: some MB of memory, whatever the length of the sound.
_AT_ONCE = 10


def log_mel(blocks: Iterable[Array]) -> Iterator[Array]:
    """(frames, MELS) in dB, block by block. blocks: (samples,) each, RATE a second."""
    window = np.zeros(FFT, np.float32)
    first = (FFT - WINDOW) // 2
    window[first : first + WINDOW] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    for frames in _frames(blocks):
        spectrum = fft.rfft(frames * window)
        power = spectrum.real**2 + spectrum.imag**2
        yield 10 * np.log10(np.maximum(power @ mel_filters().T, np.float32(1e-10)))


def mfcc(blocks: Iterable[Array]) -> Iterator[Array]:
    """(frames, CEPSTRA): the cosine transform of `log_mel`."""
    for bands in log_mel(blocks):
        yield fft.dct(bands, norm="ortho")[:, :CEPSTRA]


@cache
def mel_filters() -> Array:
    """(MELS, FFT / 2 + 1) weights of the power spectrum.

    Source: M. Slaney, Auditory Toolbox, version 2, 1998: below 1 kHz 15 bands are linear, above it
    27 bands are a factor of 6.4; each triangle has the area 1 Hz.
    """
    top = 15 + 27 * np.log(RATE / 2 / 1000) / np.log(6.4)
    mels = np.linspace(0, top, MELS + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    bins = np.arange(FFT // 2 + 1) * RATE / FFT
    low, middle, high = (edges[k : len(edges) - 2 + k, np.newaxis] for k in range(3))
    triangles = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle))
    filters: Array = (np.maximum(triangles, 0) * 2 / (high - low)).astype(np.float32)
    return filters


def _frames(blocks: Iterable[Array]) -> Iterator[Array]:
    """(frames, FFT) samples; frame k has its centre at sample k HOP of the sound."""
    left = np.zeros(FFT // 2, np.float32)
    for samples in in_pieces(blocks, _AT_ONCE * RATE):
        left = np.concatenate([left, samples])
        if len(left) >= FFT:
            frames = np.lib.stride_tricks.sliding_window_view(left, FFT)[::HOP]
            yield frames
            left = left[len(frames) * HOP :]
    # Frames whose centre is within the sound.
    count = -(-(len(left) - FFT // 2) // HOP)
    if count > 0:
        left = np.pad(left, (0, FFT))
        yield np.lib.stride_tricks.sliding_window_view(left, FFT)[::HOP][:count]


def in_pieces(blocks: Iterable[Array], size: int) -> Iterator[Array]:
    """The same sound in pieces of `size` samples, the last of which may be shorter."""
    waiting: list[Array] = []
    count = 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        if count >= size:
            joined = np.concatenate(waiting)
            for first in range(0, count - size + 1, size):
                yield joined[first : first + size]
            waiting, count = [joined[count - count % size :]], count % size
    if count:
        yield np.concatenate(waiting)

"""One film or sound file in, its sound out: mono, resampled, in blocks, so that memory is bounded.

Sample 0 is heard at the start of the film, from which `harness.clips.video` counts its times, too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from harness.clips.video import MISSING, opened, start_of
from harness.errors import InputError

_Samples = NDArray[np.float32]
# Containers that state how long the sound is; others leave it to be estimated from the size.
_STATE_LENGTHS = ("mov", "avi", "wav", "w64", "flac", "aiff", "caf")
# Rates of real recordings; a damaged header may state any number.
_RATES = (1_000, 768_000)
# Seconds by which time stamps may jump before they are believed: they are rounded to milliseconds.
_JITTER = 0.1
# Seconds of silence that are given at once.
_SILENCE = 10
# Share of the loudest channel; a mean below it is what rounding leaves.
_CANCELLED = 1e-3
# Seconds of a gap in a live recording; a larger one is a damaged time stamp.
_GAP = 3600
#: Hours of sound that a clip may have; damaged time stamps could ask for years of silence.
_LONGEST = 24.0


def sound_blocks(path: Path, rate: int) -> Iterator[_Samples]:
    """Yields the sound of a film or sound file, block by block.

    Where the sound begins after the film, packets cannot be decoded, or time stamps jump forwards,
    silence keeps what follows in its place.

    Args:
        rate: samples a second that are wanted.

    Yields:
        (samples,) float32, the mean of the channels, mostly in [-1, 1]; joined they are the sound.

    Raises:
        InputError: the file is missing, or has no sound that can be decoded. After the last block,
            so that the caller can tell a whole track from a part of one: packets cannot be decoded,
            the sound ends long before the time that the file states, its channels cancel each
            other, or the file has several sound tracks, of which one is read.
    """
    container = opened(path, "sound")
    try:
        with container:
            track = _Track(path, container, rate)
            yield from track.blocks()
    except FFmpegError as error:
        raise InputError(f"{path}: its sound cannot be read: {error.strerror}") from error
    if problems := track.problems():
        raise InputError(f"{path}: {'; '.join(problems)}") from track.error


def stated_seconds(path: Path) -> float:
    """How long a file says that its sound is; 0 if it does not say, or has no sound.

    Raises:
        InputError: the file is missing or cannot be opened.
    """
    with opened(path, "sound") as container:
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            return 0.0
        seconds = (container.duration or 0) / av.time_base
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        return max(0.0, min(seconds, _LONGEST * 3600))


class _Track:
    """The sound track of an open file, which is read once from the first sample to the last.

    error: the last one of a packet.
    """

    def __init__(self, path: Path, container: InputContainer, rate: int) -> None:
        tracks = container.streams.audio
        best = container.streams.best("audio")
        if not tracks or not isinstance(best, AudioStream):
            raise InputError(f"{path}: has no sound track")
        # PyAV's types do not say that the codec may be unknown.
        if cast(Any, best).codec_context is None:
            raise InputError(f"{path}: its sound track has an unknown codec; convert it")
        self.stream = best
        # Every core has a clip of its own.
        self.stream.codec_context.thread_count = 1
        self._path, self._container, self._rate = path, container, rate
        self._start = start_of(container)
        # Seconds beyond which a time stamp is damaged; 0 of a live recording, which states none.
        stated = (container.duration or 0) / av.time_base
        self._limit = stated + _SILENCE if stated else 0.0
        self._given = self._packets = self._undecoded = 0
        # The largest sample of a channel, and of the mean of the channels.
        self._loudest = self._heard = 0.0
        self._reason = self._interruption = ""
        self.error: FFmpegError | None = None
        self._choice = ""
        if len(tracks) > 1:
            self._choice = f"has {len(tracks)} sound tracks; stream {best.index} is read"

    def blocks(self) -> Iterator[_Samples]:
        """The resampled sound, with silence in the place of what is missing."""
        resampler, form = None, None
        for frame in self._frames():
            found = (frame.format.name, frame.layout.name, frame.sample_rate)
            if resampler is None or found != form:  # a broadcast may change it
                self._check_rate(frame.sample_rate)
                yield from self._counted(resampler, None)
                # FFmpeg's own mono is no mean: its sum of channels is louder. Planar samples
                # ("fltp") of 8 or more channels end the process in PyAV 18.1.
                resampler = AudioResampler("flt", None, self._rate)
                form = found
            yield from self._silence_before(frame)
            # The resampler would complain about, or fill, what this class handles.
            frame.pts = None
            yield from self._counted(resampler, frame)
        yield from self._counted(resampler, None)

    def problems(self) -> list[str]:
        """What is wrong with the track that was read."""
        if not self._given:
            reason = f" ({self._reason})" if self._reason else ""
            raise InputError(
                f"{self._path}: none of {self._packets} packets of its sound track gives a sample"
                f"{reason}"
            ) from self.error
        found = []
        if self._undecoded:
            found.append(
                f"{self._undecoded} of {self._packets} packets of sound cannot be decoded, so that "
                f"sound is missing ({self._reason})"
            )
        seconds, stated = self._given / self._rate, self._stated()
        if seconds < (1 - MISSING) * stated - 1 or self._interruption:
            found.append(
                f"the sound ends at {seconds:.1f} s, but the file announces {stated:.1f} s"
                f"{self._interruption}"
            )
        if self._heard < _CANCELLED * self._loudest:
            found.append(
                "its channels cancel each other, so that their mean is almost silent; invert one"
            )
        return [*found, self._choice] if self._choice else found

    def _frames(self) -> Iterator[AudioFrame]:
        """Decoded frames. A packet that cannot be decoded costs no other."""
        try:
            for packet in self._container.demux(self.stream):
                self._packets += packet.size > 0
                try:
                    yield from self.stream.decode(packet)
                except FFmpegError as error:
                    self._undecoded += 1
                    self.error, self._reason = error, error.strerror or str(error)
        except FFmpegError as error:
            # As ffmpeg does: this is the end of the sound.
            self.error, self._interruption = error, f" ({error.strerror})"

    def _silence_before(self, frame: AudioFrame) -> Iterator[_Samples]:
        """Silence up to the time of a frame, where the sound has a gap."""
        if frame.time is None:
            return
        seconds = frame.time - self._start
        missing = round(seconds * self._rate) - self._given
        limit = self._limit or self._given / self._rate + _GAP
        if missing < _JITTER * self._rate or seconds > limit:
            return
        for first in range(0, missing, _SILENCE * self._rate):
            yield self._count(np.zeros(min(_SILENCE * self._rate, missing - first), np.float32))

    def _counted(
        self, resampler: AudioResampler | None, frame: AudioFrame | None
    ) -> Iterator[_Samples]:
        """The mean of the channels that a resampler gives for a frame, or at the end for None."""
        for resampled in resampler.resample(frame) if resampler else ():
            packed = np.asarray(resampled.to_ndarray(), np.float32)
            channels = packed.reshape(-1, resampled.layout.nb_channels)
            mean = channels.mean(axis=1)
            if channels.size:
                self._loudest = max(self._loudest, float(np.abs(channels).max()))
                self._heard = max(self._heard, float(np.abs(mean).max()))
            yield self._count(mean)

    def _count(self, samples: _Samples) -> _Samples:
        self._given += len(samples)
        if self._given > _LONGEST * 3600 * self._rate:
            raise InputError(f"{self._path}: has more than {_LONGEST:.0f} hours of sound; cut it")
        if not np.isfinite(samples).all():
            raise InputError(f"{self._path}: its sound has NaN or infinity; write it anew")
        return samples

    def _check_rate(self, found: int) -> None:
        low, high = _RATES
        if not low <= found <= high:
            raise InputError(
                f"{self._path}: its sound states {found} samples a second; expected {low} to {high}"
            )

    def _stated(self) -> float:
        """When the sound should end, in seconds; 0 where the file does not say."""
        names = self._container.format.name.split(",")
        stream: Any = self.stream
        if names == ["wav"] and stream.codec_context.bit_rate:  # FFmpeg trusts the file's size
            return _wav_bytes(self._path) * 8 / float(stream.codec_context.bit_rate)
        if not any(name in names for name in _STATE_LENGTHS) or stream.duration is None:
            return 0.0
        begun = float((stream.start_time or 0) * stream.time_base) - self._start
        return begun + float(stream.duration * stream.time_base)


def _wav_bytes(path: Path) -> int:
    """The size of the samples that the header of a wav file states; 0 where it does not say."""
    with path.open("rb") as file:
        header = file.read(1 << 16)
    place = 12  # chunks follow, each with its name and size
    while place + 8 <= len(header):
        size = int.from_bytes(header[place + 4 : place + 8], "little")
        if header[place : place + 4] == b"data":
            # Programs that write into a pipe do not know the size.
            return 0 if size >= 0x7FFFFFFF else size
        place += 8 + size + size % 2
    return 0

"""Draws synthetic voices: episodes in, a sound track of vocal bursts out.

Each emotion has a kind of burst; between them there is only the hiss of a microphone. A burst is as
long and as loud as the episode is long and strong.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.clips.stories import BURST_OF, Episode
from harness.clips.table import EMOTIONS

#: Samples a second.
RATE = 16_000
# Level of the microphone's hiss and of the loudest burst, as standard deviations of samples.
_HISS, _LOUD = 0.002, 0.16


@dataclass(frozen=True)
class Voice:
    """pitch: in Hz. breath: share of noise in what is voiced."""

    pitch: float
    breath: float


def draw_voice(rng: np.random.Generator) -> Voice:
    """A random person's."""
    return Voice(
        float(np.exp(rng.uniform(np.log(105), np.log(230)))), float(rng.uniform(0.05, 0.2))
    )


def draw_sound(
    rng: np.random.Generator, voice: Voice, episodes: list[Episode], seconds: float, fps: float
) -> NDArray[np.float32]:
    """The sound of a clip, (samples,) in [-1, 1] at RATE; episodes are in frames of `fps`."""
    sound = rng.normal(0, _HISS, round(seconds * RATE)).astype(np.float32)
    for episode in episodes:
        begin = round(episode.begin / fps * RATE)
        samples = min(round(episode.frames / fps * RATE), len(sound) - begin)
        kind = BURST_OF[EMOTIONS[episode.emotion]]
        t = (np.arange(samples) / RATE).astype(np.float32)
        wave = _BURSTS[kind](rng, voice, t)
        level = _LOUD * episode.strength / max(float(wave.std()), 1e-6)
        sound[begin : begin + samples] += level * wave
    return np.clip(sound, -1, 1, out=sound)


_Array = NDArray[np.float32]


def _laugh(rng: np.random.Generator, voice: Voice, t: _Array) -> _Array:
    """Ha-ha-ha: five or so short voiced pulses a second, falling away."""
    beat = np.clip(np.sin(2 * np.pi * rng.uniform(4.5, 5.5) * t), 0, 1) ** 0.7
    sung = _voiced(1.5 * voice.pitch * (1 - 0.1 * t / t[-1]), t, harmonics=6)
    wave: _Array = beat * (1 - 0.5 * t / t[-1]) * _breathy(rng, voice, sung)
    return wave


def _gasp(rng: np.random.Generator, voice: Voice, t: _Array) -> _Array:
    """Breath drawn in: bright noise that swells and is cut off."""
    noise = np.diff(rng.standard_normal(len(t) + 1).astype(np.float32))
    wave: _Array = noise * np.clip(t / (0.7 * t[-1]), 0, 1) ** 2 * _fade(t, 0.02)
    return wave


def _sigh(rng: np.random.Generator, voice: Voice, t: _Array) -> _Array:
    """Breath let out: a falling tone in dull noise."""
    noise = np.convolve(rng.standard_normal(len(t)).astype(np.float32), np.ones(12) / 12, "same")
    fall = _voiced(voice.pitch * (1.2 - 0.5 * t / t[-1]), t, harmonics=3)
    wave: _Array = (fall + 2 * noise.astype(np.float32)) * np.exp(-1.5 * t / t[-1]) * _fade(t, 0.1)
    return wave


def _hum(rng: np.random.Generator, voice: Voice, t: _Array) -> _Array:
    """Mmm: a steady tone with hardly an overtone."""
    tone = voice.pitch * (1 + 0.02 * np.sin(2 * np.pi * 5 * t))
    wave: _Array = _voiced(tone, t, harmonics=2) * _fade(t, 0.08)
    return wave


def _groan(rng: np.random.Generator, voice: Voice, t: _Array) -> _Array:
    """Ugh: low, rough, rich in overtones."""
    rough = 1 + 0.8 * np.sin(2 * np.pi * 38 * t)
    low = _voiced(0.6 * voice.pitch * (1 - 0.2 * t / t[-1]), t, harmonics=12)
    wave: _Array = rough * _breathy(rng, voice, low) * _fade(t, 0.06)
    return wave


_BURSTS = {"laugh": _laugh, "gasp": _gasp, "sigh": _sigh, "hum": _hum, "groan": _groan}


def _voiced(pitch: _Array, t: _Array, harmonics: int) -> _Array:
    """A tone whose overtones fall by their number; pitch (samples,) in Hz."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    wave: _Array = np.zeros_like(t)
    for number in range(1, harmonics + 1):
        wave += (np.sin(number * phase) / number).astype(np.float32)
    return wave


def _breathy(rng: np.random.Generator, voice: Voice, wave: _Array) -> _Array:
    noise = rng.standard_normal(len(wave)).astype(np.float32)
    mixed: _Array = wave + voice.breath * noise
    return mixed


def _fade(t: _Array, seconds: float) -> _Array:
    """Rises and falls within so many seconds at both ends."""
    faded: _Array = np.clip(np.minimum(t, t[-1] - t) / seconds, 0, 1)
    return faded

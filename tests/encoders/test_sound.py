"""Log-mel spectra and MFCC against their definitions; steps of any sound, in bounded memory."""

import importlib.util
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.dataset import Specification
from harness.encoders.sound import egemaps
from harness.encoders.sound.encoder import SoundEncoder, sound_encoder, sound_encoder_of
from harness.encoders.sound.spectrum import RATE, log_mel, mfcc
from harness.errors import InputError
from tests.sounds import tone

NOISE = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)


def log_mel_of(blocks: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(list(log_mel(blocks)))


def slow_log_mel(sound: NDArray[np.float32], frame: int) -> NDArray[np.float64]:
    """(64,) of one frame by the formulas of librosa's documentation, in float64: 400 samples
    around sample 160 `frame`, periodic Hann window, discrete Fourier transform of 512 samples,
    triangles of area 1 on Slaney's mel scale, dB."""
    padded = np.concatenate([np.zeros(200), sound.astype(np.float64), np.zeros(200)])
    samples = padded[160 * frame : 160 * frame + 400]
    samples = samples * np.sin(np.pi * np.arange(400) / 400) ** 2
    bins = np.arange(257)
    waves = np.exp(-2j * np.pi * np.outer(bins, np.arange(400)) / 512)
    power = np.abs(waves @ samples) ** 2

    def hertz(mel: float) -> float:
        return 200 * mel / 3 if mel < 15 else 1000 * np.exp(np.log(6.4) / 27 * (mel - 15))

    highest = 15 + np.log(8) / (np.log(6.4) / 27)
    edges = [hertz(highest * k / 65) for k in range(66)]
    bands = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        shape = np.interp(bins * 31.25, [low, middle, high], [0, 2 / (high - low), 0])
        bands.append(10 * np.log10(max(1e-10, (shape * power).sum())))
    return np.array(bands)


@pytest.mark.parametrize("frame", [0, 1, 37, 299])
def test_log_mel_is_its_definition(frame: int) -> None:
    found = log_mel_of([NOISE])
    assert found.shape == (300, 64)
    np.testing.assert_allclose(found[frame], slow_log_mel(NOISE, frame), atol=2e-4)


def test_mfcc_is_the_orthonormal_cosine_transform_of_log_mel() -> None:
    found = np.concatenate(list(mfcc([NOISE])))
    bands = slow_log_mel(NOISE, 50)
    n = np.arange(64)
    expected = [
        np.sqrt((1 if k == 0 else 2) / 64) * (bands * np.cos(np.pi * k * (2 * n + 1) / 128)).sum()
        for k in range(20)
    ]
    np.testing.assert_allclose(found[50], expected, atol=1e-3)


def test_a_tone_is_loudest_in_the_band_of_its_pitch() -> None:
    for pitch, band in ((440.0, 9), (3000.0, 43)):
        found = log_mel_of([tone(1, pitch=pitch)])
        assert (found[5:-5].argmax(axis=1) == band).all(), pitch


@pytest.mark.parametrize("name", ["log-mel", "mfcc"])
@given(cuts=st.lists(st.integers(0, len(NOISE)), max_size=6))
@settings(max_examples=10, deadline=None)
def test_blocks_change_nothing(name: str, cuts: list[int]) -> None:
    encoder = sound_encoder(name, 0.3)
    np.testing.assert_array_equal(encoder(np.split(NOISE, sorted(cuts))), encoder([NOISE]))


def test_long_sounds_are_analysed_in_pieces_without_a_seam() -> None:
    long = np.concatenate([NOISE] * 8)  # 24 s; pieces are of 10 s
    whole = log_mel_of([long])
    for frame in (998, 1000, 1001, 2399):
        np.testing.assert_allclose(whole[frame], slow_log_mel(long, frame), atol=2e-4)


def test_steps_are_means_and_deviations() -> None:
    encoder = sound_encoder("log-mel", 0.5)
    frames = log_mel_of([NOISE])
    for step, values in enumerate(encoder([NOISE])):
        part = frames[50 * step : 50 * (step + 1)].astype(np.float64)
        np.testing.assert_allclose(values, np.append(part.mean(0), part.std(0)), rtol=1e-5)


@pytest.mark.parametrize(
    ("samples", "steps"),
    [
        (0, 0),
        (1, 1),
        (960, 1),  # 60 ms
        (8_000, 1),
        (11_800, 1),  # less than half a step more
        (12_000, 2),
        (16_000, 2),
        (64_512, 8),  # 4 s and the silence with which AAC fills its last window
        (177_600, 22),
    ],
)
def test_a_rest_shorter_than_half_a_step_belongs_to_the_step_before(
    samples: int, steps: int
) -> None:
    sound = np.resize(NOISE, samples)
    found = sound_encoder("mfcc", 0.5)([sound])
    assert found.shape == (steps, 40)
    assert np.isfinite(found).all()


def test_a_delay_of_one_step_moves_the_steps_by_one() -> None:
    encoder = sound_encoder("log-mel", 0.25)
    before = encoder([NOISE])
    after = encoder([np.zeros(4_000, np.float32), NOISE])
    np.testing.assert_allclose(after[2:], before[1:], atol=1e-4)


def test_louder_sound_has_larger_means_and_equal_deviations() -> None:
    quiet, loud = (sound_encoder("log-mel", 1)([gain * NOISE]) for gain in (0.1, 1.0))
    np.testing.assert_allclose(loud[:, :64], quiet[:, :64] + 20, atol=1e-3)
    np.testing.assert_allclose(loud[:, 64:], quiet[:, 64:], atol=1e-3)


def test_silence_is_finite_and_without_deviation() -> None:
    found = sound_encoder("log-mel", 0.5)([np.zeros(RATE, np.float32)])
    np.testing.assert_allclose(found, [np.repeat([-100.0, 0.0], 64)] * 2, atol=1e-4)


def seconds_of_noise(seconds: int) -> Iterator[NDArray[np.float32]]:
    for _ in range(seconds):
        yield NOISE[:RATE]


def test_memory_does_not_depend_on_the_length() -> None:
    peaks = []
    for seconds in (30, 120):
        tracemalloc.start()
        assert len(sound_encoder("mfcc", 1.0)(seconds_of_noise(seconds))) == seconds
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[0] < 60e6


def test_every_parameter_is_in_the_specification() -> None:
    encoders = [sound_encoder(n, s) for n in ("log-mel", "mfcc") for s in (0.5, 0.25)]
    assert len({each.specification().fingerprint() for each in encoders}) == 4
    details = encoders[0].specification().details
    assert details == {
        "descriptors": "log-mel", "rate": 16_000, "hop": 160, "mono": "mean of channels",
        "window": 400, "fft": 512, "mels": 64, "step": "0.5", "pooling": "mean, standard deviation",
    }  # fmt: skip
    assert encoders[2].columns[:2] == ("mfcc00_mean", "mfcc01_mean")
    assert encoders[2].columns[-1] == "mfcc19_std"


@pytest.mark.parametrize("encoder", [sound_encoder("mfcc", 0.1), sound_encoder("log-mel", 2.0)])
def test_a_specification_gives_its_encoder_back(encoder: SoundEncoder) -> None:
    stored = Specification.from_dict(encoder.specification().to_dict())
    again = sound_encoder_of(stored)
    assert again.specification() == encoder.specification()
    np.testing.assert_array_equal(again([NOISE]), encoder([NOISE]))
    with pytest.raises(InputError, match="no stream of sound"):
        sound_encoder_of(replace(stored, details={}))


@pytest.mark.parametrize("step", [0, -1, 0.005, 0.123, 61, float("nan"), float("inf")])
def test_a_step_that_is_no_multiple_of_the_hop_is_refused(step: float) -> None:
    with pytest.raises(InputError, match=r"`sound_step`: .* seconds from 0.01 to 60"):
        sound_encoder("mfcc", step)


def test_another_name_is_refused() -> None:
    with pytest.raises(InputError, match="not one of log-mel, mfcc, egemaps"):
        sound_encoder("wav2vec")  # type: ignore[arg-type]


@pytest.mark.skipif(importlib.util.find_spec("opensmile") is not None, reason="it is there")
def test_egemaps_names_its_extra_and_its_licence() -> None:
    with pytest.raises(InputError, match=r"\[egemaps\].*licence excludes commercial use"):
        sound_encoder("egemaps")


def test_egemaps_gives_25_descriptors_of_any_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opensmile", reason="the extra egemaps, whose licence is restrictive")
    monkeypatch.setattr(egemaps, "_AT_ONCE", 1)
    encoder = sound_encoder("egemaps", 0.5)
    assert len(encoder.columns) == 50
    assert encoder.columns[0] == "Loudness_sma3_mean"
    for samples, steps in ((0, 0), (1, 1), (960, 1), (64_512, 8)):
        found = encoder([np.resize(NOISE, samples)])
        assert found.shape == (steps, 50)
        assert np.isfinite(found).all()
    full, less = (encoder([np.clip(gain * tone(1), -1, 1)])[0, 0] for gain in (8.0, 1.9))
    assert full > less, "full scale does not overflow"
    pitch = encoder.columns.index("F0semitoneFrom27.5Hz_sma3nz_mean")
    found = encoder([sum(tone(3, pitch=220 * k) / k for k in (1, 2, 3))])
    assert len(found) == 6
    np.testing.assert_allclose(found[:, pitch], 36, atol=2, err_msg="220 Hz: three octaves")

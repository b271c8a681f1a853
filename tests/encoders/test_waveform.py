"""ONNX files of waveforms: windows, their features, where the preprocessing comes from, memory."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor, nn

from harness.clips.sound import sound_blocks
from harness.encoders.encoder import EncoderOptions
from harness.encoders.onnx import waveform
from harness.encoders.onnx.encoder import description
from harness.encoders.onnx.waveform import Windows
from harness.encoders.registry import encoder_of
from harness.encoders.sound.encoder import SoundEncoder, sound_encoder
from harness.errors import InputError
from tests.graphs import export_sound, means, one, save_graph
from tests.sounds import RATE, tone, write_sound

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

NOISE = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)


class Wave(nn.Module):
    """A convolution over samples of any of the three shapes: positions, or one vector a window."""

    def __init__(self, positions: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.linear = nn.Conv1d(1, 6, 64, 32), nn.Linear(6, 5)
        self.positions = positions

    def forward(self, samples: Tensor) -> Tensor:
        rank = samples.ndim
        samples = samples[None, None] if rank == 1 else samples[:, None] if rank == 2 else samples
        values = self.convolution(samples).relu().transpose(1, 2)
        found: Tensor = values if self.positions else self.linear(values.mean(1))
        return found[0] if rank == 1 else found


def opened(file: Path, *values: str, **how: object) -> SoundEncoder:
    encoder = encoder_of(file, EncoderOptions(values=values, **how))  # type: ignore[arg-type]
    assert isinstance(encoder, SoundEncoder)
    return encoder


def refused(file: Path, *values: str, **how: object) -> str:
    with pytest.raises(InputError) as error:
        opened(file, *values, **how)
    assert "\n" not in str(error.value)
    return str(error.value)


def slow_windows(
    sound: NDArray[np.float32], rate: int, window: int, step: float, normalise: bool
) -> Iterator[NDArray[np.float32]]:
    """By the definition: around the middle of each step, zeros beyond the sound."""
    samples = Fraction(step).limit_denominator(100) * rate  # of a step
    for number in range(max(1, int(len(sound) / samples + Fraction(1, 2)))):
        first = int((number + Fraction(1, 2)) * samples) - window // 2
        places = np.arange(first, first + window)
        there = (places >= 0) & (places < len(sound))
        values = np.zeros(window)
        part = sound[places[there]].astype(np.float64)
        if normalise:
            part = (part - part.mean()) / np.sqrt(part.var() + 1e-7)
        values[there] = part
        yield values.astype(np.float32)


# --- What it gives is what PyTorch gives.


@pytest.mark.parametrize("positions", [False, True], ids=["vector", "positions"])
@pytest.mark.parametrize(
    "shape",
    [("b", "t"), (1, 8000), (3, "t"), ("t",), (8000,), ("b", 1, "t"), (1, 1, 8000)],
    ids=str,
)
def test_features_are_those_of_torch_on_the_decoded_sound(
    tmp_path: Path, shape: tuple[int | str, ...], positions: bool
) -> None:
    network = Wave(positions)
    file = export_sound(tmp_path / "wave.onnx", network, shape)
    fixed = isinstance(shape[-1], int)
    encoder = opened(file, *(() if fixed else ("window=0.5",)))
    clip = write_sound(tmp_path / "a.wav", NOISE[:30_000], rate=22_050)
    sound = np.concatenate(list(sound_blocks(clip, RATE)))
    expected = []
    for window in slow_windows(sound, RATE, 8000, 0.25, normalise=False):
        samples = torch.from_numpy(window)
        with torch.inference_mode():
            found = network(
                samples if len(shape) == 1 else samples.view(*[1] * (len(shape) - 1), -1)
            )
        expected.append(found.reshape(-1, found.shape[-1]).mean(0))
    found = encoder(sound_blocks(clip, RATE))
    assert found.dtype == np.float32
    assert len(encoder.columns) == (6 if positions else 5)
    np.testing.assert_allclose(found, torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_rate_and_normalisation_are_those_of_the_configuration(tmp_path: Path) -> None:
    network = Wave()
    file = export_sound(tmp_path / "wave.onnx", network, ("b", "t"))
    config = {"sampling_rate": 11_025, "do_normalize": True, "feature_size": 1}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    encoder = opened(file, sound_step=0.1)
    clip = write_sound(tmp_path / "a.wav", 0.1 + NOISE[:RATE])
    sound = np.concatenate(list(sound_blocks(clip, 11_025)))
    windows = list(slow_windows(sound, 11_025, 11_025, 0.1, normalise=True))
    with torch.inference_mode():
        expected = network(torch.from_numpy(np.stack(windows)))
    assert encoder.rate == 11_025
    np.testing.assert_allclose(
        encoder(sound_blocks(clip, encoder.rate)), expected, rtol=1e-5, atol=1e-5
    )


def test_a_dynamically_quantised_graph_sees_each_window_alone(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["bytes", "scale", "zero"]),
        node("DequantizeLinear", ["bytes", "scale", "zero"], ["y"]),
    ]
    encoder = opened(save_graph(tmp_path / "wave.onnx", nodes, shape=("b", 4_000)))
    quiet = NOISE[:4_000]
    beside_loud = encoder([np.concatenate([quiet, 8 * quiet])])
    np.testing.assert_array_equal(encoder([quiet])[0], beside_loud[0])
    assert encoder.details["batch"] == "one at a time"


def test_an_intermediate_value_and_the_features_of_a_classifier_can_be_read(tmp_path: Path) -> None:
    network = Wave()
    file = export_sound(tmp_path / "wave.onnx", network, ("b", "t"))
    encoder = opened(file, output="features")
    with torch.inference_mode():
        (window,) = slow_windows(NOISE[:4_000], RATE, RATE, 0.25, normalise=False)
        values = network.convolution(torch.from_numpy(window)[None, None]).relu().mean(2)
    np.testing.assert_allclose(encoder([NOISE[:4_000]]), values, rtol=1e-5, atol=1e-5)


# --- Windows.


@given(
    samples=st.integers(0, 9_000),
    rate=st.sampled_from([1_000, 1_103, 2_205]),
    step=st.integers(5, 60),
    longer=st.floats(1, 4),
    cuts=st.lists(st.integers(0, 9_000), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_windows_are_their_definition_however_the_sound_is_cut(
    samples: int, rate: int, step: int, longer: float, cuts: list[int]
) -> None:
    window = int(np.ceil(step * rate / 100 * longer))
    sound = np.arange(1, samples + 1, dtype=np.float32)
    cut = Windows(rate, window, step, normalise=False)
    found = list(cut(np.split(sound, sorted(cuts))))
    assert len(found) == cut.count(samples)
    if not samples:
        return
    assert set(np.concatenate(found)) >= set(sound), "no sample is lost"
    expected = list(slow_windows(sound, rate, window, step / 100, normalise=False))
    assert len(expected) <= len(found), "a rest that the last window does not reach has its own"
    np.testing.assert_array_equal(found[: len(expected)], expected)
    assert all(each.any() for each in found), "no window of zeros alone"


@pytest.mark.parametrize("seconds", [0.06, 0.3, 0.62, 0.63, 1.0, 4.032, 7.9])
def test_the_steps_are_as_many_as_those_of_other_encoders_of_sound(seconds: float) -> None:
    sound = np.resize(NOISE, round(seconds * RATE))
    windows = Windows(RATE, RATE, 25, normalise=False)
    assert windows.count(len(sound)) == len(sound_encoder("mfcc", 0.25)([sound]))


def test_batches_of_windows_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = opened(export_sound(tmp_path / "wave.onnx", Wave(), ("b", "t")))
    expected = encoder([NOISE])
    for seconds in (0, 3, 100):  # one window, three, all
        monkeypatch.setattr(waveform, "_AT_ONCE", seconds)
        np.testing.assert_allclose(encoder([NOISE]), expected, rtol=1e-5, atol=1e-6)


def test_the_network_sees_few_windows_at_once_of_a_long_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = opened(one(tmp_path / "wave.onnx", "ReduceMean", shape=("b", "t"),
                         attributes={"axes": [1], "keepdims": 1}))  # fmt: skip
    seen: list[int] = []
    forward = waveform.WaveformNetwork.forward

    def watched(network: waveform.WaveformNetwork, items: Tensor) -> Tensor:
        seen.append(items.numel())
        return forward(network, items)

    monkeypatch.setattr(waveform.WaveformNetwork, "forward", watched)
    read = 0

    def minutes() -> Iterator[NDArray[np.float32]]:
        nonlocal read
        for _ in range(600):
            read += RATE
            yield NOISE[:RATE]
            assert read / RATE < 16 * 0.25 + len(seen) * 4 + 4, "what is read is soon computed"

    assert len(encoder(minutes())) == 2400
    assert max(seen) == 16 * RATE
    assert sum(seen) == 2400 * RATE


def test_silence_and_short_sounds_are_finite(tmp_path: Path) -> None:
    encoder = opened(export_sound(tmp_path / "wave.onnx", Wave(), ("b", "t")), "normalise=yes")
    assert encoder([]).shape == (0, 5)
    for sound in (np.zeros(RATE, np.float32), NOISE[:1], NOISE[:960]):
        found = encoder([sound])
        assert len(found)
        assert np.isfinite(found).all()


# --- Preprocessing, and the kind of input.


def test_each_value_comes_from_the_first_source_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 8_000}))
    metadata = {"sampling_rate": "44100", "do_normalize": "true"}
    file = save_graph(tmp_path / "wave.onnx", [helper.make_node("Abs", ["x"], ["y"])],
                      shape=("b", 4_000), metadata=metadata)  # fmt: skip
    encoder = opened(file)
    assert encoder.details == {
        "input": "waveform", "weights": encoder.details["weights"], "output": "y", "rate": 8_000,
        "normalise": "yes", "window": "0.5", "step": "0.25", "pooling": "mean",
        "mono": "mean of channels",
    }  # fmt: skip
    lines = encoder.describe()
    assert (
        "Preprocessing: rate 8000 (preprocessor_config.json), "
        "normalise yes (metadata of the file), window 0.5 (the graph)"
    ) in lines
    assert any(line.startswith("Windows of 0.5 s around the middle of each step") for line in lines)
    assert set(description(file)) >= {"Input x float32 (b, 4000), a waveform", lines[2]}


def test_defaults(tmp_path: Path) -> None:
    file = one(tmp_path / "wave.onnx", "Abs", shape=("b", "t"))
    assert "rate 16000 (default), normalise no (default), window 1.0 (default)" in " ".join(
        opened(file).describe()
    )
    assert opened(file, sound_step=2.0).window == 2, "a window is no shorter than a step"
    odd = opened(file, "rate=11025", "window=0.25", "normalise=yes")
    assert (odd.rate, odd.window) == (11_025, 2_757 / 11_025), "not shorter than a step"
    assert opened(file, like=odd.details).specification() == odd.specification()


def test_the_configuration_of_another_encoder_in_the_folder_is_not_read(tmp_path: Path) -> None:
    wave = one(tmp_path / "wave.onnx", "Abs", shape=("b", 16_000))
    image = means(tmp_path / "image.onnx")
    config = tmp_path / "preprocessor_config.json"
    config.write_text(json.dumps({"image_mean": 0.5, "do_normalize": True}))
    assert opened(wave).details["normalise"] == "no"
    config.write_text(json.dumps({"sampling_rate": 8_000, "do_normalize": False}))
    assert encoder_of(image).details["std"] == "0.229,0.224,0.225"


@pytest.mark.parametrize(
    ("shape", "config", "values", "message"),
    [
        (("b", 800), {}, [], "800 samples, 0.05 s, is shorter than a step of 0.25 s"),
        (("b", "t"), {}, ["window=0.1"], "give a smaller `sound_step`, or a larger window"),
        (("b", 22), {}, [], "22 samples, 0.0014 s, is shorter than any step"),
        (("b", 16_000), {}, ["window=2"], "takes no windows of 2 s (32000 samples)"),
        (("b", "t"), {"sampling_rate": 8_000}, ["rate=16000"], "contradicts 8000 of preprocessor"),
        (("b", "t"), {"sampling_rate": 0}, [], "sampling_rate is '0'; expected 1000 to 192000"),
        (("b", "t"), {"sampling_rate": 16_000, "feature_size": 80}, [], "reads spectra"),
        (("b", "t"), {"do_normalize": "yes"}, [], "do_normalize 'yes'; expected true or false"),
        (("b", "t"), {}, ["rate=1.5e4x"], "rate is '1.5e4x'; expected a number"),
        (("b", "t"), {}, ["window=0"], "window is '0'; expected seconds"),
        (("b", "t"), {}, ["normalise=1"], "expected one of yes, no"),
        (("b", "t"), {}, ["size=3"], "KEY one of rate, normalise, window, kind"),
        (("b", "t"), {}, ["kind=sound"], "kind=sound; expected kind=image or kind=waveform"),
        (("b", "t"), {}, ["kind=image"], "expected rank 4"),
        (("b", 2, "t"), {}, ["kind=waveform"], "expected (batch, samples), (samples) or (batch, 1"),
        (("b", "c", "t"), {}, [], "if it is of kind waveform, give `encoder_input` kind=waveform"),
    ],
)
def test_what_contradicts_or_is_unknown_is_refused(
    tmp_path: Path,
    shape: tuple[int | str, ...],
    config: dict[str, object],
    values: list[str],
    message: str,
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    assert message in refused(one(tmp_path / "wave.onnx", "Abs", shape=shape), *values)


def test_an_ambiguous_input_is_read_as_the_user_says_and_again_in_a_prediction(
    tmp_path: Path,
) -> None:
    file = one(tmp_path / "wave.onnx", "ReduceMean", shape=("b", "c", "t"),
               attributes={"axes": [1], "keepdims": 0})  # fmt: skip
    first = opened(file, "kind=waveform", "window=0.5", "rate=8000", sound_step=0.5)
    again = opened(file, like=first.details)
    assert again.specification() == first.specification()
    (window,) = slow_windows(NOISE[:4_000], 8_000, 4_000, 0.5, normalise=False)
    np.testing.assert_array_equal(first([NOISE[:4_000]]), window[None])


def test_the_specification_changes_with_contents_output_and_preprocessing(tmp_path: Path) -> None:
    shape = ("b", "t")
    file = export_sound(tmp_path / "wave.onnx", Wave(), shape)
    same = export_sound(tmp_path / "renamed.onnx", Wave(), shape)
    others = [
        opened(export_sound(tmp_path / "other.onnx", Wave(positions=True), shape)),
        opened(file, output="features"),
        opened(file, "rate=8000"),
        opened(file, "window=2"),
        opened(file, "normalise=yes"),
        opened(file, sound_step=0.5),
        opened(file, stored="float16"),
    ]
    prints = [opened(f).specification().fingerprint() for f in (file, same)]
    assert prints[0] == prints[1], "the name of the file is not its contents"
    assert len({*prints, *(e.specification().fingerprint() for e in others)}) == 1 + len(others)
    changed = opened(file)
    export_sound(file, Wave(positions=True), shape)
    with pytest.raises(InputError, match="changed since it was first read"):
        changed([tone(1)])


@pytest.mark.parametrize(
    ("operation", "shape", "attributes", "message"),
    [
        ("ReduceMean", ("b", 8_000), {"axes": [1], "keepdims": 0}, "has rank 1"),
        (
            "ReduceMean",
            ("b", 8_000),
            {"axes": [0], "keepdims": 1},
            "for 2 windows; expected 2 rows",
        ),
        ("ArgMax", ("b", 8_000), {"axis": 1}, "of type int64; expected floating-point numbers"),
        ("ReduceMean", (8_000,), {"axes": [0], "keepdims": 0}, "has rank 0"),
        ("Log", ("b", 8_000), {}, "gave NaN or infinity for windows of noise"),
    ],
)
def test_values_that_are_no_features_are_refused(
    tmp_path: Path,
    operation: str,
    shape: tuple[int | str, ...],
    attributes: dict[str, object],
    message: str,
) -> None:
    file = one(tmp_path / "wave.onnx", operation, shape=shape, attributes=attributes)
    assert message in refused(file)

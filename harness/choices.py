"""The names that options and arguments accept, without the code that implements them.

A command refuses a wrong name by these lists before it imports torch, ray or pandas. The module
that implements a name is given beside it; a test compares the two.
"""

from typing import Literal, get_args

#: harness/clips/layouts/__init__.py
Layout = Literal["abaw5", "authors-crops", "authors-features", "muse", "plain"]
#: How faces come out of frames: detected, or not at all because the frames are faces.
#: harness/streams/sources.py
Crop = Literal["detect", "none"]
#: Number format of the network's convolutions. harness/encoders/mtl_dan/fused.py
Precision = Literal["float32", "bf16", "fp16"]
#: Number format of stored features. harness/streams/store.py
Stored = Literal["float32", "float16"]
#: Descriptors of sound. egemaps needs an extra. harness/encoders/sound/encoder.py
Sound = Literal["log-mel", "mfcc", "egemaps"]
#: What the network gives for each frame: 22 outputs, 512 shared values, or both.
#: harness/encoders/mtl_dan/fused.py
Outputs = Literal["outputs", "shared", "both"]
#: grid runs the points of the full grid. harness/space/samplers.py
Sampler = Literal["tpe", "gp", "cmaes", "random", "grid"]
#: asha: asynchronous successive halving (Li et al., 2020), once five trials are complete.
#: hyperband: several brackets of it, the later of which prune later. median: prunes trials below
#: the median of the earlier ones. harness/space/pruners.py
Scheduler = Literal["asha", "hyperband", "median", "none"]
#: auto: the other method with the best nested score, of equal ones the first.
#: harness/ensembles/methods/<name>.py
Method = Literal["mean", "zscore", "raw", "greedy", "bagged", "ridge", "auto"]
#: The split that chooses and weights the members; train: by the out-of-fold predictions of a study
#: that was searched with folds. harness/ensembles/construction.py
ChooseOn = Literal["val", "train"]
#: Learning rate of a pretraining. harness/pretraining/training.py
Schedule = Literal["exponential", "one-cycle"]

LAYOUTS: tuple[Layout, ...] = get_args(Layout)
CROPS: tuple[Crop, ...] = get_args(Crop)
OUTPUTS: tuple[Outputs, ...] = get_args(Outputs)
SOUNDS: tuple[Sound, ...] = get_args(Sound)
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
SCHEDULERS: tuple[Scheduler, ...] = get_args(Scheduler)
CHOOSE_ON: tuple[ChooseOn, ...] = get_args(ChooseOn)
METHODS: tuple[Method, ...] = tuple(name for name in get_args(Method) if name != "auto")

DEFAULT_PRECISION: Precision = "float32"
DEFAULT_STORED: Stored = "float32"
DEFAULT_SOUND: Sound = "mfcc"
#: Seconds.
DEFAULT_SOUND_STEP = 0.25
#: Seconds; in videos of up to 100 frames a second, shorter intervals are below the distance of two
#: frames.
LEAST_INTERVAL = 0.01
DEFAULT_SAMPLER: Sampler = "tpe"
DEFAULT_SCHEDULER: Scheduler = "asha"
DEFAULT_CHOOSE_ON: ChooseOn = "val"
DEFAULT_METHOD: Method = "mean"

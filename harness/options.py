"""Every command-line option, once: its type, limits, help and help panel.

The commands share these aliases, so that an option means the same everywhere. Only names and
numbers are checked here; nothing heavy is imported.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from harness import choices
from harness.names import CACHE_VARIABLE, STORAGE_VARIABLE

#: Default of --results.
RESULTS = Path("results")

_data = partial(typer.Option, rich_help_panel="Data")
_streams = partial(typer.Option, rich_help_panel="Streams (features)")
_search = partial(typer.Option, rich_help_panel="Search")
_ensemble = partial(typer.Option, rich_help_panel="Ensemble")
_machine = partial(typer.Option, rich_help_panel="Machine")
_output = partial(typer.Option, rich_help_panel="Output")

# --- Data

Data = Annotated[Path, _data("--data", help="Folder of clips.")]
ExtractedData = Annotated[
    Path | None,
    _data(
        "--data",
        help="Folder of clips. No default; required, except with --list-cache and --prune-cache.",
        show_default=False,
    ),
]
NewData = Annotated[
    list[Path],
    _data(
        "--data",
        help="Folder of clips. May be repeated for members that read features of several folders.",
    ),
]
DemoData = Annotated[
    Path | None, _data("--data", help="Folder of clips. Default: synthetic demo clips.")
]
ShownData = Annotated[
    Path | None,
    _data("--data", help="Folder of the study's clips, to show some. Default: demo clips only."),
]
Layout = Annotated[
    choices.Layout | None,
    _data(
        "--layout",
        metavar="NAME",
        help=f"Layout of --data: {', '.join(choices.LAYOUTS)}. Default: detected.",
    ),
]
Strict = Annotated[
    bool,
    _data(
        "--strict",
        help="Treat recoverable problems, such as missing files, as errors.",
    ),
]
Check = Annotated[
    bool,
    _data(
        "--check",
        help="Read and compare the clips, print a data sheet, and compute nothing.",
    ),
]
AllowSharedGroups = Annotated[
    bool,
    _data(
        "--allow-shared-groups",
        help="Accept persons with clips in several splits, with a warning.",
    ),
]

# --- Streams

Weights = Annotated[
    Path | None,
    _streams(
        "--weights",
        help="MTL-DAN weights: a published checkpoint or safetensors. Default: none, for clips "
        "with precomputed features.",
    ),
]
WeightsKey = Annotated[
    str | None,
    _streams(
        "--weights-key",
        metavar="KEY",
        help="Which network of a weight file with several, such as ema. Default: the only one.",
    ),
]
Encoder = Annotated[
    list[str] | None,
    _streams(
        "--encoder",
        metavar="[NAME=]FILE",
        help="Another encoder than an MTL-DAN: an ONNX file with one input, of images or of sound, "
        "or module:function, a Python function of yours that is run. May be repeated. Default: "
        "--weights.",
    ),
]
EncoderOutput = Annotated[
    list[str] | None,
    _streams(
        "--encoder-output",
        metavar="[NAME=]OUTPUT",
        help="Value of the ONNX file: an output, an intermediate value, or features, the input of "
        "its last fully connected layer. May be repeated. Default: the first output.",
    ),
]
EncoderInput = Annotated[
    list[str] | None,
    _streams(
        "--encoder-input",
        metavar="[NAME=]KEY=VALUE",
        help="Preprocessing that the ONNX file does not state. Of images: size, resize, "
        "interpolation, order, scale, mean, std, layout. Of sound: rate, normalise, window. kind: "
        "image or waveform. May be repeated. Default: ImageNet's, or 16,000 samples a second.",
    ),
]
Stored = Annotated[
    choices.Stored,
    _streams("--stored", help="Number format of stored features; float16 takes half the disk."),
]
Sound = Annotated[
    choices.Sound | None,
    _streams(
        "--sound",
        metavar="NAME",
        help=f"Read the sound of the clips as the stream `sound`: {', '.join(choices.SOUNDS)} "
        "(egemaps: extra `egemaps`). Default: mfcc where the search space names `sound`.",
    ),
]
ExtractedSound = Annotated[
    choices.Sound | None,
    _streams(
        "--sound",
        metavar="NAME",
        help=f"Read the sound of the clips as the stream `sound`: {', '.join(choices.SOUNDS)} "
        "(egemaps: extra `egemaps`). Default: none.",
    ),
]
SoundStep = Annotated[
    float, _streams("--sound-step", metavar="SECONDS", help="Length of the steps of sound.")
]
FeatureSets = Annotated[
    list[str] | None,
    _streams(
        "--features",
        metavar="SET",
        help="Set of precomputed features, such as FAUs: a stream of this name. May be repeated. "
        "Default: those that the search space names; otherwise none beside frames, else the only "
        "one.",
    ),
]
ExtractedFeatureSets = Annotated[
    list[str] | None,
    _streams(
        "--features",
        metavar="SET",
        help="Set of precomputed features, such as FAUs: a stream of this name. May be repeated. "
        "Default: none beside frames, else the only one.",
    ),
]
NewFeatureSets = Annotated[
    list[str] | None,
    _streams(
        "--features",
        metavar="SET",
        help="Set of precomputed features, such as FAUs. May be repeated. Default: those that the "
        "members read.",
    ),
]
Outputs = Annotated[
    choices.Outputs,
    _streams(
        "--outputs",
        help="What to keep of an MTL-DAN: its 22 outputs, its 512 shared values, or both.",
    ),
]
Crop = Annotated[
    choices.Crop | None,
    _streams("--crop", help="Face detection. Default: detect in videos, none in images."),
]
Precision = Annotated[
    choices.Precision, _streams("--precision", help="Number format of an MTL-DAN's convolutions.")
]
Strides = Annotated[
    list[int] | None,
    _streams(
        "--stride",
        metavar="N",
        min=1,
        help="Keep every n-th decoded frame. May be repeated. Default: 30, without --interval.",
    ),
]
Intervals = Annotated[
    list[float] | None,
    _streams(
        "--interval",
        metavar="SECONDS",
        min=choices.LEAST_INTERVAL,
        help="Keep the first frame at or after each multiple of this time. May be repeated. "
        "Default: none.",
    ),
]

# --- Search

Space = Annotated[
    str | None,
    _search(
        "--space",
        help="Search space: the name of one that ships, such as paper, or a TOML file. Default: "
        "demo, or paper with --data.",
    ),
]
Trials = Annotated[
    int | None,
    _search(
        "--trials",
        metavar="N",
        min=1,
        help="Finished trials in total. Default: the space's budget.",
    ),
]
Epochs = Annotated[
    int | None,
    _search(
        "--epochs",
        metavar="N",
        min=1,
        help="Maximum epochs per trial. Default: the space's budget.",
    ),
]
Folds = Annotated[
    int | None,
    _search(
        "--folds",
        metavar="N",
        min=2,
        help="Train one model per fold of the training split and average them. Default: no folds.",
    ),
]
EarlyStopFraction = Annotated[
    float | None,
    _search(
        "--early-stop-fraction",
        metavar="X",
        min=0.01,
        max=0.9,
        help="Fraction of the training split held out for early stopping. Default: none; the "
        "validation split is used.",
    ),
]
Seed = Annotated[
    int,
    _search("--seed", metavar="N", min=0, help="Random seed; the seeds of trials derive from it."),
]
Sampler = Annotated[
    choices.Sampler,
    _search(
        "--sampler",
        metavar="NAME",
        help=f"Chooses the hyperparameters of a trial: {', '.join(choices.SAMPLERS)}.",
    ),
]
Scheduler = Annotated[
    choices.Scheduler,
    _search(
        "--scheduler",
        metavar="NAME",
        help=f"Stops unpromising trials early: {', '.join(choices.SCHEDULERS)}.",
    ),
]
Confirm = Annotated[
    int | None,
    _search(
        "--confirm",
        metavar="N",
        min=1,
        help="Repeat the best n configurations with new seeds. Default: repeat none.",
    ),
]
Seeds = Annotated[
    int, _search("--seeds", metavar="N", min=1, help="New seeds per configuration with --confirm.")
]
Deterministic = Annotated[
    bool,
    _search(
        "--deterministic",
        help="Same trials in every run with the same concurrency; no early stopping of trials.",
    ),
]

# --- Ensemble

Top = Annotated[
    int | None,
    _ensemble(
        "--top",
        metavar="N",
        help="Members, or selection steps of methods that add one trial at a time. Default: the "
        "method's own, such as 5 members of mean and 50 steps of greedy.",
    ),
]
Method = Annotated[
    choices.Method,
    _ensemble(
        "--method",
        metavar="NAME",
        help=f"Ensemble method: {', '.join(choices.METHODS)}; or auto, the one of them with the "
        "best nested score.",
    ),
]
PerFamily = Annotated[
    int | None,
    _ensemble(
        "--per-family",
        metavar="N",
        help="Maximum members per family. A family is one combination of loss, reduction, stride, "
        "sequence, layers and streams, and of features where trials differ in them. Default: no "
        "limit.",
    ),
]
PerTarget = Annotated[
    bool,
    _ensemble("--per-target", help="Separate weights for each target; seldom better."),
]
ChooseOn = Annotated[
    choices.ChooseOn,
    _ensemble(
        "--choose-on",
        metavar="SPLIT",
        help="Split that ranks, chooses and weights the trials: val, or train with the out-of-fold "
        "predictions of a search with --folds. Val is then scored once, as a hold-out.",
    ),
]
Groups = Annotated[
    bool | None,
    _ensemble(
        "--groups/--no-groups",
        help="Keep the clips of a person together in folds and bootstrap. Default: on where the "
        "data has a group column.",
    ),
]
Against = Annotated[
    str | None,
    _ensemble(
        "--against",
        metavar="STUDY[/ENSEMBLE]",
        help="Also compare with this ensemble on the same clips; without /ENSEMBLE, with one of "
        "that study built by the same options. Default: no comparison.",
    ),
]
EnsembleSeed = Annotated[
    int,
    _ensemble("--seed", metavar="N", min=0, help="Random seed of folds, bootstrap and bagging."),
]
EnsembleFolder = Annotated[
    Path, _ensemble("--ensemble", help="Folder of the ensemble, with ensemble.json.")
]

# --- Machine

Concurrency = Annotated[
    int | None,
    _machine(
        "--concurrency",
        metavar="N",
        min=1,
        help="Trials at the same time. Default: as many as fit.",
    ),
]
CpusPerTrial = Annotated[
    float,
    _machine(
        "--cpus-per-trial",
        metavar="X",
        min=0.0,
        help="CPU cores reserved per trial; each trains on one.",
    ),
]
GpusPerTrial = Annotated[
    float | None,
    _machine(
        "--gpus-per-trial",
        metavar="X",
        min=0.0,
        help="GPU fraction per trial. Default: estimated from memory use.",
    ),
]
Workers = Annotated[
    int | None,
    _machine(
        "--workers", metavar="N", min=1, help="Worker processes, run by Ray. Default: one per GPU."
    ),
]
Address = Annotated[
    str | None,
    _machine("--address", help="Address of a Ray cluster. Default: start Ray on this machine."),
]
ExtractedAddress = Annotated[
    str | None,
    _machine(
        "--address",
        help="Address of a Ray cluster. Default: this machine; Ray is started only for several "
        "workers or GPUs.",
    ),
]

# --- Output

Study = Annotated[
    str | None,
    _output("--study", help="Name of the study. Default: demo, or the name of the data folder."),
]
ReportedStudy = Annotated[
    str | None, _output("--study", help="Name of the study. Default: the newest.")
]
CombinedStudies = Annotated[
    list[str] | None,
    _output(
        "--study",
        help="Name of the study. May be repeated for studies of the same clips. Default: the "
        "newest.",
    ),
]
FiguresFolder = Annotated[
    Path | None,
    _output(
        "--figures",
        metavar="DIR",
        help="Write the main figures as PDF and SVG and the tables as csv and LaTeX to this "
        "folder, instead of the report. Needs the extra `paper`. Default: the report.",
    ),
]
ReportedEnsemble = Annotated[
    str | None, _output("--ensemble", help="Name of the ensemble to show. Default: the newest.")
]
EnsembleName = Annotated[
    str | None,
    _output("--name", help="Name of the ensemble. Default: method and size, such as mean-top5."),
]
Results = Annotated[
    Path, _output("--results", help="Folder of all studies; extracted features are in its .cache.")
]
Cache = Annotated[
    Path | None,
    _output(
        "--cache",
        metavar="DIR",
        envvar=CACHE_VARIABLE,
        help="Folder of stored streams; several users may share it. Default: .cache in --results.",
    ),
]
ListCache = Annotated[
    bool, _output("--list-cache", help="List the stored streams by last use, and exit.")
]
PruneCache = Annotated[
    list[str] | None,
    _output(
        "--prune-cache",
        metavar="WHAT",
        help="Remove stored streams, and exit: those of a name or key, those not used for an age "
        "such as 30d, or the least recently used beyond a size such as 10GB. May be repeated. "
        "Default: remove none.",
    ),
]
Storage = Annotated[
    str | None,
    _output(
        "--storage",
        envvar=STORAGE_VARIABLE,
        help="Storage of the study: a journal file, or a URL (sqlite:///, postgresql://, "
        "mysql://). Default: a journal file in the study's folder.",
    ),
]
ReportedStorage = Annotated[
    str | None,
    _output(
        "--storage",
        envvar=STORAGE_VARIABLE,
        help="URL of the database of the study, if it needs a user and a password. Default: the "
        "storage that study.json records.",
    ),
]
Dashboard = Annotated[
    bool,
    _output(
        "--dashboard",
        help="Serve Optuna's dashboard on this machine until Ctrl-C.",
    ),
]
PredictionsFile = Annotated[Path, _output("--out", help="CSV file to write.")]
Explain = Annotated[
    bool, _output("--explain", help="Also print the score by ensemble size and the correlations.")
]
WithReport = Annotated[
    bool, _output("--report/--no-report", help="Also write the study's report.html.")
]
Json = Annotated[bool, _output("--json", help="Print JSON only.")]
SheetJson = Annotated[
    bool, _output("--json", help="Print the data sheet as JSON; implies --check.")
]
Quiet = Annotated[bool, _output("--quiet", help="Print errors only.")]

"""The network of the synthetic demo: a narrow MTL-DAN, trained on synthetic faces at the first use.

It trains in its own process on one core, while the clips are drawn on the other cores. So small a
network gains nothing from a second core.
"""

import hashlib
import multiprocessing
import os
import traceback
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from harness.pretraining.annotations import read_annotated_faces
from harness.pretraining.augmentation import Augmentation
from harness.pretraining.config import PretrainConfig
from harness.pretraining.initial import initial_network
from harness.pretraining.training import pretrain
from harness.progress import Progress, silent

TRAINING = PretrainConfig(
    heads=2,
    width=128,
    input_size=64,
    epochs=8,
    batch_size=32,
    learning_rate=3e-3,
    schedule="one-cycle",
    augmentation=Augmentation(flip=0.5, crop=1, jitter=0, erase=0),
)
_STEP = "training the demo's face network"
_LOOK = 0.2


class DemoNetwork:
    """The weight file beside annotated faces; `start` trains it if it is missing.

    A context manager: on exit a training that still runs is ended.
    """

    def __init__(self, progress: Progress = silent) -> None:
        self._progress = progress
        self.process: BaseProcess | None = None
        self._messages: Connection | None = None
        self._file = Path()

    def start(self, annotations: Path) -> None:
        """Starts the training, unless the file exists."""
        # The name depends on the settings, so that other settings give another file.
        recipe = hashlib.sha256(repr(TRAINING.flat()).encode()).hexdigest()[:8]
        self._file = annotations / f"mtl_dan-{recipe}.safetensors"
        if self._file.exists():
            return
        # Not fork, because the caller may have threads.
        context = multiprocessing.get_context("spawn")
        self._messages, theirs = context.Pipe(duplex=False)
        self.process = context.Process(
            target=_train, args=(annotations, self._file, theirs), daemon=True
        )
        self.process.start()
        theirs.close()
        self._progress(_STEP, 0, TRAINING.epochs)

    def weights(self) -> Path:
        """Waits for the weight file.

        Raises:
            RuntimeError: the training failed.
        """
        done = 0
        while self.process is not None and self._messages is not None:
            self._progress(_STEP, done, TRAINING.epochs)
            if not self._messages.poll(_LOOK):
                continue
            try:
                message = self._messages.recv()
            except EOFError:
                self.process.join()
                if not self._file.exists():
                    raise RuntimeError(
                        "the training of the demo's face network was killed; "
                        "run the same command again"
                    ) from None
                self.process = None
                break
            if isinstance(message, str):
                raise RuntimeError(f"the demo's face network could not be trained\n{message}")
            done = message
        return self._file

    def __enter__(self) -> "DemoNetwork":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.join()
            self.process = None


def demo_weights(annotations: Path) -> Path:
    """The weight file of the network that is trained on these faces."""
    with DemoNetwork() as network:
        network.start(annotations)
        return network.weights()


def _train(annotations: Path, file: Path, messages: Connection) -> None:
    """Runs in the process. Sends the number of each finished epoch, or a traceback."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def alive(*_: object) -> None:
        if parent is not None and not parent.is_alive():
            os._exit(1)  # the search was killed; the training would continue for a minute

    try:
        pretrain(
            read_annotated_faces(annotations),
            initial_network(None, TRAINING.heads, TRAINING.seed, TRAINING.width),
            TRAINING,
            file,
            device=torch.device("cpu"),
            tags={"trained_on": "synthetic faces"},
            on_epoch=lambda epoch: messages.send(epoch.number),
            on_step=alive,
        )
    except KeyboardInterrupt:
        pass  # the searching process receives Ctrl-C, too, and reports it
    except Exception:
        messages.send(traceback.format_exc())

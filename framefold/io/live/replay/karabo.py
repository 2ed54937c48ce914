"""Frames as a Karabo bridge (protocol 2.2) sends them: trains of pulses, one source per module."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from framefold.errors import StreamError
from framefold.io.live.replay.encoder import Message, Transport
from framefold.udfcore.live import AcquisitionStart


class KaraboEncoder:
    """A train per frame, or per `pulses` frames; the first signal axis of 3-D frames are modules.

    Parameters
    ----------
    pulses
        Frames in a train.
    first_train
        Id of the first train.
    detector
        Name of the sources before their numbers.
    absent
        Modules that send nothing.
    """

    transport: Transport = "push"

    def __init__(
        self,
        pulses: int = 1,
        first_train: int = 10_000,
        detector: str = "EMULATED/DET/{}CH0:xtdf",
        absent: tuple[int, ...] = (),
    ) -> None:
        self._pulses, self._train, self._detector = pulses, first_train, detector
        self._gathered: list[npt.NDArray[Any]] = []
        self._absent = frozenset(absent)
        self._begin = 0

    def begin(self, start: AcquisitionStart) -> list[Message]:
        """Return nothing: a bridge announces nothing."""
        if len(start.sig_shape) not in (2, 3):
            raise StreamError(f"karabo carries images or stacks of modules, not {start.sig_shape}")
        return []

    def frame(self, index: int, frame: npt.NDArray[Any]) -> Message:
        """Return the message of the train that this frame completes; empty before."""
        if not self._gathered:
            self._begin = index
        self._gathered.append(frame if frame.ndim == 3 else frame[np.newaxis])
        if len(self._gathered) < self._pulses:
            return []
        return self.train(self._train + self._begin // self._pulses)

    def end(self) -> list[Message]:
        """Return what is left: a train with fewer pulses."""
        return [self.train(self._train + self._begin // self._pulses)] if self._gathered else []

    def train(self, number: int) -> Message:
        """Return the gathered frames as the train of that id."""
        import msgpack  # noqa: PLC0415  # optional

        stack, self._gathered = np.stack(self._gathered), []
        cells = np.arange(len(stack), dtype=np.uint64)
        parts: Message = []
        for module in sorted(set(range(stack.shape[1])) - self._absent):
            source = self._detector.format(module)
            about = {"source": source, "timestamp": 0.0, "timestamp.tid": number, "timestamp.sec": "0"}
            parts += [
                msgpack.packb({"source": source, "content": "msgpack", "metadata": about}),
                msgpack.packb({"header.pulseCount": len(stack)}),
            ]
            for path, array in (("image.data", stack[:, module]), ("image.pulseId", cells)):
                head = {"source": source, "content": "array", "path": path, "dtype": str(array.dtype)}
                parts += [
                    msgpack.packb({**head, "shape": list(array.shape)}),
                    np.ascontiguousarray(array).tobytes(),
                ]
        return parts

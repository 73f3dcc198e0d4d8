"""An exported CrossViT as a model of MLServer, which does the rest: HTTP, gRPC, batches, health, metrics."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlserver
import numpy as np
import prometheus_client
from mlserver.batching import load_batching
from mlserver.errors import InferenceError, MLServerError
from mlserver.types import (
    Datatype,
    InferenceRequest,
    InferenceResponse,
    MetadataTensor,
    RequestInput,
    ResponseOutput,
)

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.preprocessing.predictions import TOP, resolve_class_names
from keras_crossvit.preprocessing.transforms import preprocess
from keras_crossvit.runtimes import Runtime, load_runtime
from keras_crossvit.runtimes.runtime import EMPTY_BATCH, INPUT_NAMES, OUTPUT_NAME
from keras_crossvit.runtimes.signature_names import BYTES_NAME, CLASS_IDS, CLASS_NAMES, PROBABILITIES, VALID
from keras_crossvit.serving.mlserver_settings import ExplicitModelSettings

ERROR = "error"  # an output of one's own beside the service's: why a picture is not valid
METRIC = "pictures_per_batch"
MAX_IMAGES = 32  # of a request: a file of some hundred bytes becomes megabytes of normalised values
_NUMPY_TYPES = {"FP32": "float32", "FP64": "float64", "FP16": "float16"}


class CrossViTModel(mlserver.MLModel):
    """Answers requests that hold either both normalised inputs, or the bytes of picture files.

    Every request is read and checked by itself. Only what has passed waits to be joined with others, so that no request
    fails for its neighbour's mistake.

    Args:
        settings: MLServer's. `parameters.uri` is the exported file or folder; `parameters.extra` has `threads`,
            `max_batch_size` and `max_batch_time`.
    """

    async def load(self) -> bool:
        """Loads the runtime and describes inputs and outputs."""
        options = self.settings.parameters.extra
        runtime = load_runtime(self.settings.parameters.uri, threads=options["threads"])
        batches = ExplicitModelSettings(
            name=self.name,
            implementation=_JoinedRequests,
            max_batch_size=options["max_batch_size"],
            max_batch_time=options["max_batch_time"],
        )
        self._runtime = runtime
        self._joined = await load_batching(_JoinedRequests(batches, runtime))
        self._names = np.array(resolve_class_names(runtime.config.num_classes, runtime.class_names))
        self.inputs, self.outputs = _described(runtime)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Logits and probabilities for tensors; for bytes the best classes, and per element whether it was valid."""
        try:
            given = _by_name(payload.inputs)
            if set(given) == {BYTES_NAME}:
                return self._answer(payload, await self._name_images(given[BYTES_NAME]))
            images = self._runtime.checked([_floats(given[name]) for name in INPUT_NAMES])
        except ValueError as error:
            raise InferenceError(" ".join(str(error).split())) from error
        logits, probabilities = await self._classify(images)
        return self._answer(payload, {OUTPUT_NAME: logits, PROBABILITIES: probabilities})

    async def _name_images(self, given: RequestInput) -> dict[str, np.ndarray]:
        read = await asyncio.gather(
            *(asyncio.to_thread(self._read, number, each) for number, each in enumerate(_contents(given)))
        )
        top = min(TOP, self._runtime.config.num_classes)
        valid = np.array([not isinstance(each, str) for each in read])
        best, odds = np.full((len(read), top), -1), np.zeros((len(read), top), "float32")
        if valid.any():
            images = [each for each in read if not isinstance(each, str)]
            _, probabilities = await self._classify([np.concatenate(each) for each in zip(*images, strict=True)])
            best[valid] = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
            odds[valid] = np.take_along_axis(probabilities, best[valid], axis=1)
        return {
            CLASS_IDS: best,
            CLASS_NAMES: np.where(best < 0, "", self._names[best]),
            PROBABILITIES: odds,
            VALID: valid,
            ERROR: np.array([each if isinstance(each, str) else "" for each in read]),
        }

    def _read(self, number: int, contents: str | bytes) -> tuple[np.ndarray, ...] | str:
        """Both inputs of one picture, or why there are none."""
        try:
            if isinstance(contents, str):
                contents = base64.b64decode(contents, validate=True)
            return preprocess(read_image(io.BytesIO(contents)), self._runtime)
        except binascii.Error as error:
            return f"{BYTES_NAME}[{number}] is not base64 ({error}); encode the bytes of the file."
        except (OSError, ValueError) as error:
            return f"{BYTES_NAME}[{number}]: {' '.join(str(error).split())}"

    async def _classify(self, images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        inputs = [
            RequestInput(name=name, shape=list(image.shape), datatype="FP32", data=image.tobytes())
            for name, image in zip(INPUT_NAMES, images, strict=True)
        ]
        # Shielded: where a client goes away, MLServer's batches would lose the answers of all others in the same one.
        response = await asyncio.shield(self._joined.predict(InferenceRequest(inputs=inputs)))
        logits = np.reshape(np.array(response.outputs[0].data.root, "float32"), response.outputs[0].shape)
        try:
            return logits, self._runtime.probabilities_of(logits)
        except ValueError as error:
            raise MLServerError(str(error), status_code=500) from error

    def _answer(self, payload: InferenceRequest, arrays: dict[str, np.ndarray]) -> InferenceResponse:
        wanted = set(arrays) if payload.outputs is None else {output.name for output in payload.outputs}
        if strange := sorted(wanted - set(arrays)):
            raise InferenceError(
                f"outputs {', '.join(strange)} are not what the model gives for these inputs; ask for some of "
                f"{', '.join(arrays)}."
            )
        outputs = [_encoded(name, array) for name, array in arrays.items() if name in wanted]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)


class _JoinedRequests(mlserver.MLModel):
    """Logits of several requests at once; MLServer's adaptive batching joins and divides them."""

    def __init__(self, settings: mlserver.ModelSettings, runtime: Runtime) -> None:
        super().__init__(settings)
        self._runtime = runtime
        # One batch at a time, which has all processors; meanwhile the event loop goes on and the next batch gathers.
        self._thread = ThreadPoolExecutor(1)
        # Without parallel workers MLServer shows what is in Prometheus' own registry, and nothing of its own.
        self._sizes = prometheus_client.Histogram(METRIC, "pictures classified at once", buckets=(1, 2, 4, 8, 16, 32))

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = [np.frombuffer(each.data.root, "float32").reshape(each.shape) for each in payload.inputs]
        self._sizes.observe(len(images[0]))
        # Checked when they are divided again, so that a request fails for its own logits only.
        run = functools.partial(self._runtime.unchecked_logits, images)
        logits = await asyncio.get_running_loop().run_in_executor(self._thread, run)
        return InferenceResponse(model_name=self.name, outputs=[_encoded(OUTPUT_NAME, logits)])


def _by_name(inputs: list[RequestInput]) -> dict[str, RequestInput]:
    given = {each.name: each for each in inputs}
    if set(given) not in ({BYTES_NAME}, set(INPUT_NAMES)) or len(given) != len(inputs):
        raise InvalidValueError(
            f"inputs {', '.join(each.name for each in inputs)} are not what the model takes; give either "
            f"{' and '.join(INPUT_NAMES)}, or {BYTES_NAME}."
        )
    return given


def _floats(given: RequestInput) -> np.ndarray:
    if given.datatype not in _NUMPY_TYPES:
        raise InvalidValueError(
            f"{given.name} is of datatype {Datatype(given.datatype).value}; give normalised values as FP32."
        )
    data = given.data.root
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], bytes):  # raw contents of gRPC
        array = np.frombuffer(data[0], _NUMPY_TYPES[given.datatype])
    else:
        try:
            array = np.asarray(data, _NUMPY_TYPES[given.datatype])
        except (ValueError, TypeError):
            raise InvalidValueError(
                f"{given.name} holds something else than numbers; give normalised values."
            ) from None
    if array.size != np.prod(given.shape):
        raise InvalidValueError(
            f"{given.name} of shape {given.shape} comes with {array.size} values; give as many as it has."
        )
    return array.reshape(given.shape)


def _contents(given: RequestInput) -> list[str | bytes]:
    if given.datatype != "BYTES":
        raise InvalidValueError(
            f"{given.name} is of datatype {Datatype(given.datatype).value}; give the bytes of files as BYTES."
        )
    contents = given.data.root
    if len(given.shape) == 2 and _is_list(contents):
        contents = [each for row in contents for each in (row if _is_list(row) else [row])]
    if not _is_list(contents) or not all(isinstance(each, (str, bytes)) for each in contents):
        raise InvalidValueError(f"{given.name} holds something else than text; give the bytes of files in base64.")
    if len(given.shape) not in (1, 2) or np.prod(given.shape) != len(contents):
        raise InvalidValueError(
            f"{given.name} of shape {given.shape} comes with {len(contents)} elements; give the shape [pictures]."
        )
    if not contents:
        raise InvalidValueError(EMPTY_BATCH)
    if len(contents) > MAX_IMAGES:
        raise InvalidValueError(
            f"{given.name} has {len(contents)} pictures, more than the {MAX_IMAGES} of a request; send several."
        )
    return list(contents)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _encoded(name: str, array: np.ndarray) -> ResponseOutput:
    kinds = {"f": "FP32", "i": "INT64", "b": "BOOL", "U": "BYTES"}
    return ResponseOutput(
        name=name, shape=list(array.shape), datatype=kinds[array.dtype.kind], data=array.ravel().tolist()
    )


def _described(runtime: Runtime) -> tuple[list[MetadataTensor], list[MetadataTensor]]:
    """MLServer's descriptions of inputs and outputs; a request holds some of them."""
    config = runtime.config
    class_names, top = config.num_classes, min(TOP, config.num_classes)
    images = [
        MetadataTensor(name=name, datatype="FP32", shape=[-1, *size, config.in_channels])
        for name, size in zip(INPUT_NAMES, config.image_sizes, strict=True)
    ]
    inputs: list[Any] = [*images, MetadataTensor(name=BYTES_NAME, datatype="BYTES", shape=[-1])]
    outputs = [
        MetadataTensor(name=name, datatype=datatype, shape=shape)
        for name, datatype, shape in (
            (OUTPUT_NAME, "FP32", [-1, class_names]),
            (PROBABILITIES, "FP32", [-1, -1]),
            (CLASS_IDS, "INT64", [-1, top]),
            (CLASS_NAMES, "BYTES", [-1, top]),
            (VALID, "BOOL", [-1]),
            (ERROR, "BYTES", [-1]),
        )
    ]
    return inputs, outputs

"""An exported CrossViT as a model of MLServer."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import io
from concurrent.futures import ThreadPoolExecutor

import mlserver
import numpy as np
import prometheus_client
from mlserver.batching import load_batching
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError, MLServerError
from mlserver.types import Datatype, InferenceRequest, InferenceResponse, MetadataTensor, RequestInput, ResponseOutput

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.preprocessing.predictions import TOP, resolve_class_names
from keras_crossvit.preprocessing.transforms import preprocess
from keras_crossvit.runtimes import Runtime, load_runtime
from keras_crossvit.runtimes.runtime import EMPTY_BATCH, INPUT_NAMES, OUTPUT_NAME
from keras_crossvit.runtimes.signature_names import BYTES_NAME, CLASS_IDS, CLASS_NAMES, PROBABILITIES, VALID
from keras_crossvit.serving.mlserver_setup import model_settings

_ERROR = "error"  # an output that TensorFlow Serving does not have: why an image is not valid
_MAX_IMAGES = 32  # per request: a file of a few hundred bytes becomes megabytes of normalized values
_BATCH_SIZE_METRIC = "images_per_batch"
_DATATYPES = {"f": "FP32", "i": "INT64", "b": "BOOL", "U": "BYTES"}


class CrossViTModel(mlserver.MLModel):
    """Classifies normalized inputs, or the bytes of image files.

    Each request is checked before it is batched with others, so a bad request never fails another one.

    Args:
        settings: MLServer's. `parameters.uri` is the exported file or folder, `parameters.extra` has `threads`,
            `max_batch_size` and `max_batch_time`.
    """

    async def load(self) -> bool:
        """Loads the runtime and describes the inputs and outputs."""
        options = dict(self.settings.parameters.extra)
        self._runtime = load_runtime(self.settings.parameters.uri, threads=options.pop("threads"))
        batching = model_settings(self.name, _BatchedRuntime, **options)
        self._batched = await load_batching(_BatchedRuntime(batching, self._runtime))
        config = self._runtime.config
        self._names = np.array(resolve_class_names(config.num_classes, self._runtime.class_names))
        self._top = min(TOP, config.num_classes)
        shapes = [(*size, config.in_channels) for size in config.image_sizes]
        self.inputs = [_describe(name, "FP32", *shape) for name, shape in zip(INPUT_NAMES, shapes, strict=True)]
        self.inputs = [*self.inputs, _describe(BYTES_NAME, "BYTES")]
        self.outputs = [
            _describe(OUTPUT_NAME, "FP32", config.num_classes),
            _describe(PROBABILITIES, "FP32", -1),
            _describe(CLASS_IDS, "INT64", self._top),
            _describe(CLASS_NAMES, "BYTES", self._top),
            _describe(VALID, "BOOL"),
            _describe(_ERROR, "BYTES"),
        ]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Returns logits and probabilities of normalized inputs, or the best classes of image files."""
        try:
            inputs = _inputs_by_name(payload.inputs)
            if set(inputs) == {BYTES_NAME}:
                return self._respond(payload, await self._classify_files(_file_contents(inputs[BYTES_NAME])))
            images = self._runtime.checked([_float_array(inputs[name]) for name in INPUT_NAMES])
        except ValueError as error:
            raise InferenceError(" ".join(str(error).split())) from error
        logits, probabilities = await self._classify(images)
        return self._respond(payload, {OUTPUT_NAME: logits, PROBABILITIES: probabilities})

    async def _classify_files(self, files: list[str | bytes]) -> dict[str, np.ndarray]:
        results = await asyncio.gather(*(asyncio.to_thread(self._read, i, file) for i, file in enumerate(files)))
        errors = [each if isinstance(each, str) else "" for each in results]
        images = [each for each in results if not isinstance(each, str)]
        valid = np.array([not error for error in errors])
        class_ids, best = np.full((len(files), self._top), -1), np.zeros((len(files), self._top), "float32")
        if images:
            _, probabilities = await self._classify([np.concatenate(each) for each in zip(*images, strict=True)])
            class_ids[valid] = np.argsort(-probabilities, axis=1, kind="stable")[:, : self._top]
            best[valid] = np.take_along_axis(probabilities, class_ids[valid], axis=1)
        names = np.where(class_ids < 0, "", self._names[class_ids])
        return {CLASS_IDS: class_ids, CLASS_NAMES: names, PROBABILITIES: best, VALID: valid, _ERROR: np.array(errors)}

    def _read(self, index: int, file: str | bytes) -> tuple[np.ndarray, ...] | str:
        """Returns both inputs of an image file, or the reason why it cannot be read."""
        try:
            contents = base64.b64decode(file, validate=True) if isinstance(file, str) else file
            return preprocess(read_image(io.BytesIO(contents)), self._runtime)
        except binascii.Error as error:
            return f"{BYTES_NAME}[{index}] is not base64 ({error}); encode the bytes of the file."
        except (OSError, ValueError) as error:
            return f"{BYTES_NAME}[{index}]: {' '.join(str(error).split())}"

    async def _classify(self, images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        inputs = [
            RequestInput(name=name, shape=list(image.shape), datatype="FP32", data=image.tobytes())
            for name, image in zip(INPUT_NAMES, images, strict=True)
        ]
        # Shielded: if a client disconnects, MLServer would drop the answers of its whole batch.
        response = await asyncio.shield(self._batched.predict(InferenceRequest(inputs=inputs)))
        logits = np.reshape(np.array(response.outputs[0].data.root, "float32"), response.outputs[0].shape)
        try:
            return logits, self._runtime.probabilities_of(logits)
        except ValueError as error:
            raise MLServerError(str(error), status_code=500) from error

    def _respond(self, payload: InferenceRequest, arrays: dict[str, np.ndarray]) -> InferenceResponse:
        wanted = set(arrays) if payload.outputs is None else {output.name for output in payload.outputs}
        if unknown := sorted(wanted - set(arrays)):
            raise InferenceError(f"These inputs have no outputs {', '.join(unknown)}; use any of {', '.join(arrays)}.")
        outputs = [_response_output(name, array) for name, array in arrays.items() if name in wanted]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)


class _BatchedRuntime(mlserver.MLModel):
    """Computes the logits of several requests at once; MLServer's adaptive batching joins and splits them."""

    def __init__(self, settings: mlserver.ModelSettings, runtime: Runtime) -> None:
        super().__init__(settings)
        self._runtime = runtime
        # One batch at a time uses all processors; meanwhile the event loop collects the next one.
        self._thread = ThreadPoolExecutor(1)
        # Without parallel workers MLServer exposes Prometheus' default registry, and no metrics of its own registry.
        self._sizes = prometheus_client.Histogram(_BATCH_SIZE_METRIC, "images per batch", buckets=(1, 2, 4, 8, 16, 32))

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = [np.frombuffer(each.data.root, "float32").reshape(each.shape) for each in payload.inputs]
        self._sizes.observe(len(images[0]))
        # Logits are checked after they are split, so that a request only fails for its own.
        run = functools.partial(self._runtime.unchecked_logits, images)
        logits = await asyncio.get_running_loop().run_in_executor(self._thread, run)
        return InferenceResponse(model_name=self.name, outputs=[_response_output(OUTPUT_NAME, logits)])


def _describe(name: str, datatype: str, *shape: int) -> MetadataTensor:
    return MetadataTensor(name=name, datatype=datatype, shape=[-1, *shape])


def _inputs_by_name(inputs: list[RequestInput]) -> dict[str, RequestInput]:
    named = {each.name: each for each in inputs}
    if set(named) not in ({BYTES_NAME}, set(INPUT_NAMES)) or len(named) != len(inputs):
        raise InvalidValueError(
            f"The model has no inputs {', '.join(each.name for each in inputs)}; send either "
            f"{' and '.join(INPUT_NAMES)}, or {BYTES_NAME}."
        )
    return named


def _float_array(tensor: RequestInput) -> np.ndarray:
    try:
        return NumpyCodec.decode_input(tensor)
    except (ValueError, TypeError, IndexError) as error:
        raise InvalidValueError(f"{tensor.name} does not hold numbers of shape {tensor.shape}: {error}.") from error


def _file_contents(tensor: RequestInput) -> list[str | bytes]:
    if tensor.datatype != "BYTES":
        datatype = Datatype(tensor.datatype).value
        raise InvalidValueError(f"{tensor.name} has the datatype {datatype}; send image files as BYTES.")
    array = np.array(tensor.data.root, dtype=object)
    files = array.ravel().tolist()
    if array.ndim not in (1, 2) or not all(isinstance(each, (str, bytes)) for each in files):
        raise InvalidValueError(f"{tensor.name} holds values that are not text; send image files in base64.")
    if np.prod(tensor.shape) != len(files):
        raise InvalidValueError(
            f"{tensor.name} has the shape {tensor.shape} and {len(files)} elements; correct either."
        )
    if not files:
        raise InvalidValueError(EMPTY_BATCH)
    if len(files) > _MAX_IMAGES:
        raise InvalidValueError(f"{tensor.name} has {len(files)} images; send at most {_MAX_IMAGES} per request.")
    return files


def _response_output(name: str, array: np.ndarray) -> ResponseOutput:
    datatype = _DATATYPES[array.dtype.kind]
    return ResponseOutput(name=name, shape=list(array.shape), datatype=datatype, data=array.ravel().tolist())

"""An exported CrossViT as a model of MLServer."""

from __future__ import annotations

import asyncio
import base64
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
from PIL import Image

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.preprocessing.predictions import TOP, resolve_class_names
from keras_crossvit.preprocessing.transforms import preprocess
from keras_crossvit.runtimes import Runtime
from keras_crossvit.runtimes.runtime import EMPTY_BATCH, OUTPUT_NAME
from keras_crossvit.runtimes.signature_names import BYTES_NAME, CLASS_IDS, CLASS_NAMES, PROBABILITIES, VALID
from keras_crossvit.serving.mlserver_setup import model_settings
from keras_crossvit.serving.servable import load_servable

# In Prometheus' default registry: without parallel workers MLServer exposes that one, not its own.
_BATCH_SIZES = prometheus_client.Histogram("images_per_batch", "images per batch", buckets=(1, 2, 4, 8, 16, 32))
# Outputs that TensorFlow Serving does not have: why an image is not valid, and whether its best class is too unlikely.
_ERROR, _UNSURE = "error", "unsure"
# Of these Pillow decodes the size that the header has; an icon may contain a larger image.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_DATATYPES = {"f": "FP32", "u": "UINT8", "i": "INT64", "b": "BOOL", "U": "BYTES"}


class CrossViTModel(mlserver.MLModel):
    """Classifies a model's inputs, or the bytes of image files.

    Each request is checked before it is batched with others, so a bad request never fails another one.

    Args:
        settings: MLServer's. `parameters.uri` is the exported file or folder, `parameters.extra` has `loading`
            (keywords of `load_runtime`), `max_batch_size`, `max_batch_time`, `max_images`, `max_pixels` and
            `decoding_threads`.
    """

    async def load(self) -> bool:
        """Loads the runtime and describes the inputs and outputs."""
        options = dict(self.settings.parameters.extra)
        load = functools.partial(load_servable, self.settings.parameters.uri, **options.pop("loading"))
        self._runtime = await asyncio.to_thread(load)  # while another model answers
        self._max_images: int = options.pop("max_images")
        self._max_pixels: int = options.pop("max_pixels")
        self._decoding_threads: int = options.pop("decoding_threads")
        self._decoders = ThreadPoolExecutor(self._decoding_threads)
        batching = model_settings(self.name, _BatchedRuntime, **options)
        self._batched = await load_batching(_BatchedRuntime(batching, self._runtime))
        config = self._runtime.config
        self._names = np.array(resolve_class_names(config.num_classes, self._runtime.class_names))
        self._top = min(TOP, config.num_classes)
        self._datatype = _DATATYPES[np.dtype(self._runtime.input_dtype).kind]
        self.inputs = [
            _describe(name, self._datatype, *size, config.in_channels)
            for name, size in zip(self._runtime.input_names, config.image_sizes, strict=False)
        ]
        self.inputs = [*self.inputs, _describe(BYTES_NAME, "BYTES")]
        self.outputs = [
            _describe(OUTPUT_NAME, "FP32", config.num_classes),
            _describe(PROBABILITIES, "FP32", -1),
            _describe(CLASS_IDS, "INT64", self._top),
            _describe(CLASS_NAMES, "BYTES", self._top),
            _describe(VALID, "BOOL"),
            _describe(_UNSURE, "BOOL"),
            _describe(_ERROR, "BYTES"),
        ]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Returns logits and probabilities of the model's inputs, or the best classes of image files."""
        try:
            _require_header_text(payload.id)
            inputs = _inputs_by_name(payload.inputs, names := self._runtime.input_names)
            if set(inputs) == {BYTES_NAME}:
                files = _file_contents(inputs[BYTES_NAME])
                self._require_images(BYTES_NAME, len(files))
                return self._respond(payload, await self._classify_files(files))
            images = self._runtime.checked([_array(inputs[name]) for name in names])
            self._require_images(names[0], len(images[0]))
        except ValueError as error:
            raise InferenceError(" ".join(str(error).split())) from error
        logits, probabilities = await self._classify(images)
        return self._respond(payload, {OUTPUT_NAME: logits, PROBABILITIES: probabilities})

    async def _classify_files(self, files: list[str | bytes]) -> dict[str, np.ndarray]:
        run = functools.partial(asyncio.get_running_loop().run_in_executor, self._decoders)
        contents = await run(self._contents, files)
        # So that images of other requests need not wait for all of these.
        turns = asyncio.Semaphore(self._decoding_threads)

        async def read(index: int, each: bytes | InvalidValueError) -> tuple[np.ndarray, ...] | str:
            async with turns:
                return await run(self._read, index, each)

        results = await asyncio.gather(*(read(i, each) for i, each in enumerate(contents)))
        errors = [each if isinstance(each, str) else "" for each in results]
        images = [each for each in results if not isinstance(each, str)]
        valid = np.array([not error for error in errors])
        class_ids, best = np.full((len(files), self._top), -1), np.zeros((len(files), self._top), "float32")
        if images:
            _, probabilities = await self._classify([np.concatenate(each) for each in zip(*images, strict=True)])
            class_ids[valid] = np.argsort(-probabilities, axis=1, kind="stable")[:, : self._top]
            best[valid] = np.take_along_axis(probabilities, class_ids[valid], axis=1)
        names = np.where(class_ids < 0, "", self._names[class_ids])
        found = {CLASS_IDS: class_ids, CLASS_NAMES: names, PROBABILITIES: best, VALID: valid}
        unsure = valid & (best[:, 0] < (self._runtime.calibration.threshold or 0))
        return {**found, _UNSURE: unsure, _ERROR: np.array(errors)}

    def _require_images(self, name: str, count: int) -> None:
        if count > self._max_images:
            raise InvalidValueError(
                f"{name} has {count} images; send at most {self._max_images} per request, or start the server with a "
                "larger --max-images."
            )

    def _contents(self, files: list[str | bytes]) -> list[bytes | InvalidValueError]:
        """Returns the contents of the files, or why they are not base64; raises if an image has too many pixels."""
        contents: list[bytes | InvalidValueError] = []
        for index, file in enumerate(files):
            label = f"{BYTES_NAME}[{index}]"
            try:
                decoded = base64.b64decode(file, validate=True) if isinstance(file, str) else file
            except ValueError as error:
                contents.append(InvalidValueError(f"{label} is not base64 ({error}); encode the bytes of the file."))
                continue
            if reason := _too_large(decoded, self._max_pixels):
                raise InvalidValueError(
                    f"{label} is too large ({reason}); send images of at most {self._max_pixels:,} pixels, or start "
                    "the server with a larger --max-pixels."
                )
            contents.append(decoded)
        return contents

    def _read(self, index: int, contents: bytes | InvalidValueError) -> tuple[np.ndarray, ...] | str:
        """Returns both inputs of an image file, or the reason why it cannot be read."""
        if isinstance(contents, InvalidValueError):
            return str(contents)
        try:
            return preprocess(read_image(io.BytesIO(contents), formats=_FORMATS), self._runtime)
        except (OSError, ValueError) as error:
            return f"{BYTES_NAME}[{index}]: {' '.join(str(error).split())}"

    async def _classify(self, images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        inputs = [
            RequestInput(name=name, shape=list(image.shape), datatype=self._datatype, data=image.tobytes())
            for name, image in zip(self._runtime.input_names, images, strict=True)
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

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        dtype = self._runtime.input_dtype
        images = [np.frombuffer(each.data.root, dtype).reshape(each.shape) for each in payload.inputs]
        _BATCH_SIZES.observe(len(images[0]))
        # Logits are checked after they are split, so that a request only fails for its own.
        run = functools.partial(self._runtime.unchecked_logits, images)
        logits = await asyncio.get_running_loop().run_in_executor(self._thread, run)
        return InferenceResponse(model_name=self.name, outputs=[_response_output(OUTPUT_NAME, logits)])


def _describe(name: str, datatype: str, *shape: int) -> MetadataTensor:
    return MetadataTensor(name=name, datatype=datatype, shape=[-1, *shape])


def _require_header_text(request_id: str | None) -> None:
    """Raises unless an id can be a header of the answer, where MLServer repeats it."""
    if request_id and not (request_id.isascii() and request_id.isprintable()):
        raise InvalidValueError(f"id {request_id[:80]!a} is not printable ASCII; send an id such as a UUID.")


def _inputs_by_name(inputs: list[RequestInput], names: tuple[str, ...]) -> dict[str, RequestInput]:
    named = {each.name: each for each in inputs}
    if set(named) not in ({BYTES_NAME}, set(names)) or len(named) != len(inputs):
        raise InvalidValueError(
            f"The model has no inputs {', '.join(each.name for each in inputs)}; send either "
            f"{' and '.join(names)}, or {BYTES_NAME}."
        )
    return named


def _array(tensor: RequestInput) -> np.ndarray:
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
    return files


def _too_large(contents: bytes, max_pixels: int) -> str:
    """Returns the number of pixels in an image's header if it is above the limit, otherwise an empty string."""
    try:
        with Image.open(io.BytesIO(contents), formats=_FORMATS) as image:
            pixels = image.width * image.height
    except Exception:  # beyond Pillow's own limit or damaged, which decoding reports for this image
        return ""
    return f"{pixels:,} pixels" if pixels > max_pixels else ""


def _response_output(name: str, array: np.ndarray) -> ResponseOutput:
    datatype = _DATATYPES[array.dtype.kind]
    return ResponseOutput(name=name, shape=list(array.shape), datatype=datatype, data=array.ravel().tolist())

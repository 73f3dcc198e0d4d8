"""`explain`: which parts of an image speak for a class, at both scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_crossvit._internal.checks import require_known, suggestion
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keras_compat import quantized_layers
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.model_paths import resolve_model_path
from keras_crossvit.explaining.ablation import ablation_model
from keras_crossvit.explaining.covering import Images, occlusion
from keras_crossvit.explaining.explanation import METHODS, Explanation
from keras_crossvit.explaining.propagation import mean_of_heads, propagate, relevance_function
from keras_crossvit.explaining.runtime_explainer import Grids, RuntimeExplainer
from keras_crossvit.models.config import BRANCHES, config_of
from keras_crossvit.models.dtype_policies import in_float32
from keras_crossvit.models.features import attention_maps
from keras_crossvit.models.graph import fusion_name
from keras_crossvit.models.loading import load_model
from keras_crossvit.preprocessing.transforms import ImageLike, as_sequence
from keras_crossvit.runtimes.keras_model import KerasRuntime
from keras_crossvit.runtimes.runtime import OUTPUT_NAME

BATCH_SIZE = 8
_DEFAULT_METHOD = "occlusion"  # docs/explain.md has the measurements
_Compute = Callable[[Images], tuple[np.ndarray, Grids]]  # from both inputs, the logits and the grids


@known_keywords_only
def explain(
    model: Any,
    images: ImageLike | Sequence[ImageLike],
    *,
    classes: str | int | Sequence[str | int] | None = None,
    method: str = "auto",
    crop_fraction: float | None = None,
) -> Explanation | list[Explanation]:
    """Explains which parts of images speak for a class, at both scales.

    ```python
    why = kc.explain(model, "photo.jpg")                                # the predicted class
    why = kc.explain(model, "photo.jpg", classes="owl")                 # a class by name
    why = kc.explain(model, "photo.jpg", classes=("owl", "cat"))        # why owl and not cat
    why.save("why.png")
    ```

    Args:
        model: A `CrossViT`, or the path of a checkpoint that describes its model or of a run folder.
        images: As in `preprocess`.
        classes: Name or number of the class to explain, or a pair of them: the first rather than the second. Defaults
            to None: the class that is predicted for each image.
        method: "occlusion" (what the logit loses when a cell is covered in both images, with cells of the size of the
            small and then of the large patches; a forward pass for each), "ablation" (what it loses without a patch in
            the last fusion, in closed form), "relevance" (gradient times attention, through all layers), or "rollout"
            and "attention" (of all layers and of the last fusions, the same for all classes). Defaults to "auto": the
            one that measured best, which is "occlusion".
        crop_fraction: As in `preprocess`. Defaults to None.

    Returns:
        An `Explanation`, or a list of them if `images` is a list or a batch.

    Raises:
        TypeError: the model is not a `CrossViT`.
        ValueError: the model has no classes, there is no such class or method, or an image cannot be taken.
        OSError: a file does not exist or cannot be read.

    Source: the exchange of the branches is the paper's, section 3.3; closed form, see `ablation_model`.
    """
    method = resolve_method(method)
    model = load_model(resolve_model_path(model)) if isinstance(model, (str, PathLike)) else model
    chosen = as_sequence(images)
    run_eagerly = len(chosen) <= 2 * BATCH_SIZE
    explainer = Explainer(model, classes=classes, method=method, crop_fraction=crop_fraction, run_eagerly=run_eagerly)
    explanations = []
    for start in range(0, len(chosen), BATCH_SIZE):
        explanations += explainer.explain(chosen[start : start + BATCH_SIZE])
    is_batch = isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) == 4
    return explanations if is_batch else explanations[0]


def resolve_method(method: str) -> str:
    """Returns the name of a method; that of the default for "auto"."""
    method = _DEFAULT_METHOD if method == "auto" else method
    require_known("method", method, METHODS)
    return method


class Explainer(RuntimeExplainer):
    """Explains batches of images with a `CrossViT`; arguments as in `explain`.

    With `run_eagerly`, nothing is traced, which is faster for a batch or two; JAX ignores it.
    """

    def __init__(
        self,
        model: Any,
        *,
        classes: Any = None,
        method: str,
        crop_fraction: float | None = None,
        run_eagerly: bool = False,
    ) -> None:
        if config_of(model).num_classes == 0:
            raise InvalidValueError(
                f"'{model.name}' has num_classes=0, so it has no class to explain; use a model with classes."
            )
        if not quantized_layers(model):  # what one patch contributes is below the rounding of half precision
            model = in_float32(model)
        super().__init__(KerasRuntime(model), crop_fraction=crop_fraction)
        self.method = method
        self._chosen = self._numbers(classes)
        self._run_eagerly = run_eagerly
        self._compute: _Compute = getattr(self, f"_by_{method}")(model)

    def compute(self, inputs: Images) -> tuple[np.ndarray, Grids]:
        """Returns the logits and the grids of a batch of both inputs."""
        return self._compute(inputs)

    def _numbers(self, classes: Any) -> tuple[int, ...]:
        if classes is None:
            return ()
        pair = (classes,) if isinstance(classes, (str, int, np.integer)) else tuple(classes)
        numbers = tuple(map(self._number, pair))
        if len(numbers) not in (1, 2) or len(set(numbers)) < len(numbers):
            raise InvalidValueError(f"classes {classes!r} is neither a class nor a pair of different classes.")
        return numbers

    def _number(self, name: str | int) -> int:
        if isinstance(name, str):
            if name in self._names:
                return list(self._names).index(name)
            raise InvalidValueError(f"The model has no class '{name}'; {suggestion(name, list(self._names))}")
        if not 0 <= name < len(self._names):
            raise InvalidValueError(f"The model has no class {name}; use 0 to {len(self._names) - 1}, or a name.")
        return int(name)

    def _directions(self, logits: Any) -> Any:
        """Returns for each image 1 at the class to explain, and -1 at the one that it is compared with."""
        if not self._chosen:
            return ops.one_hot(ops.argmax(logits, axis=-1), self.config.num_classes, dtype="float32")
        direction = np.zeros(self.config.num_classes, "float32")
        for number, sign in zip(self._chosen, (1.0, -1.0), strict=False):
            direction[number] = sign
        return ops.zeros_like(logits, dtype="float32") + direction

    def _by_ablation(self, model: Any) -> _Compute:
        logits = model.get_layer(OUTPUT_NAME).output
        last = model.get_layer(fusion_name(len(self.config.depth) - 1, 0)).input
        predict = self._compiled(model, ablation_model(model)([*last, self._directions(logits)]))

        def compute(images: Images) -> tuple[np.ndarray, Grids]:
            logits, found = predict(images)
            return logits, (found[BRANCHES[0]], found[BRANCHES[1]])

        return compute

    def _by_attention(self, model: Any) -> _Compute:
        names = [fusion_name(len(self.config.depth) - 1, branch) for branch in range(len(BRANCHES))]
        maps = attention_maps(model).output
        predict = self._compiled(model, {name: maps[name] for name in names})

        def compute(images: Images) -> tuple[np.ndarray, Grids]:
            logits, found = predict(images)
            means = mean_of_heads(found)  # the small patches are read by the large-patch branch
            return logits, self._on_grids([means[name] for name in reversed(names)])

        return compute

    def _by_rollout(self, model: Any) -> _Compute:
        predict = self._compiled(model, attention_maps(model).output)

        def compute(images: Images) -> tuple[np.ndarray, Grids]:
            logits, found = predict(images)
            return logits, self._on_grids(propagate(self.config, mean_of_heads(found), keep=0.5))

        return compute

    def _by_relevance(self, model: Any) -> _Compute:
        relevance = relevance_function(model, self._directions, run_eagerly=self._run_eagerly)

        def compute(images: Images) -> tuple[np.ndarray, Grids]:
            logits, maps = relevance(images)
            return logits, self._on_grids(propagate(self.config, maps, keep=1.0))

        return compute

    def _by_occlusion(self, model: Any) -> _Compute:
        def compute(images: Images) -> tuple[np.ndarray, Grids]:
            logits = self.runtime.logits(*images)
            losses: list[list[np.ndarray]] = [[], []]
            for small, large, direction in zip(*images, ops.convert_to_numpy(self._directions(logits)), strict=True):

                def score(*batch: np.ndarray, direction: np.ndarray = direction) -> np.ndarray:
                    return self.runtime.logits(*batch) @ direction

                for found, grid in zip(losses, self.config.patch_grids, strict=True):
                    found.append(occlusion(score, (small, large), grid))
            return logits, (np.stack(losses[0]), np.stack(losses[1]))

        return compute

    def _compiled(
        self, model: Any, outputs: dict[str, Any]
    ) -> Callable[[Sequence[np.ndarray]], tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Returns a function of both images that computes a model's logits and more outputs of its graph at once."""
        joined = keras.Model(model.inputs, {OUTPUT_NAME: model.get_layer(OUTPUT_NAME).output, **outputs})
        is_jax = keras.backend.backend() == "jax"
        joined.compile(jit_compile=is_jax, run_eagerly=self._run_eagerly and not is_jax)

        def predict(images: Sequence[np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            found = joined.predict_on_batch(list(images))
            return np.asarray(found.pop(OUTPUT_NAME), "float32"), found

        return predict

    def _on_grids(self, values: Sequence[np.ndarray]) -> Grids:
        """Returns the patches' values, without that of the class token, on the grids of both branches."""
        small, large = (
            each[:, 1:].reshape(-1, *grid) for each, grid in zip(values, self.config.patch_grids, strict=True)
        )
        return small, large

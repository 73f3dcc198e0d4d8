"""Making a checkpoint fit a model of other classes, image sizes or channels, where the caller asks for it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_crossvit.checkpoints.checkpoint import Checkpoint, Tensor
from keras_crossvit.checkpoints.names import head_names, position_embedding_names, stem_kernel_names
from keras_crossvit.checkpoints.resizing import adapt_input_channels, resize_position_embedding
from keras_crossvit.checkpoints.source import SourceFields, source_fields
from keras_crossvit.checkpoints.tensors import variables_by_timm_name
from keras_crossvit.config import BRANCHES

ADAPTATIONS = ("adapt_head", "adapt_positions", "adapt_channels")
LOADING_KEYWORDS = (*ADAPTATIONS, "allow_nonfinite")  # of load_checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What `load_checkpoint` did; printed, it is a line for the tensors kept and one for each thing done to them.

    Args:
        source: What messages call the checkpoint.
        kept: timm's names of the tensors that were taken as they are.
        adaptations: A line for each adaptation.
        skipped: timm's names of the model's own tensors that stayed as they were.
        source_names: The names in the source of all tensors that were taken, by timm's.
        prefix: What was left out before the names in the source, such as "model.", or "".
        conversions: A line for each dtype of the source that is not the model's.
    """

    source: str
    kept: tuple[str, ...]
    adaptations: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    source_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    prefix: str = ""
    conversions: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{len(self.kept)} tensors of {self.source} kept as they are."]
        if self.prefix:
            lines.append(f"Prefix '{self.prefix}' of their names left out.")
        return "\n".join([*lines, *self.conversions, *self.adaptations])


@dataclasses.dataclass(frozen=True)
class _Adaptation:
    """A mismatch and its remedy.

    Args:
        keyword: Keyword of `load_checkpoint` that asks for the remedy.
        mismatch: The mismatch in words.
        line: What the report says of the remedy.
        replaced: Names of the checkpoint's tensors that are not taken as they are.
        tensors: Those that the model is to get in their place.
        skipped: Names of the model's tensors that stay as they are.
    """

    keyword: str
    mismatch: str
    line: str
    replaced: tuple[str, ...]
    tensors: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    skipped: tuple[str, ...] = ()


def adapt(checkpoint: Checkpoint, model: Any, **asked_for: bool) -> tuple[Checkpoint, LoadReport]:
    """The checkpoint with all adaptations that the model needs.

    Args:
        checkpoint: An open checkpoint.
        model: The `CrossViT` that it is for.
        **asked_for: Whether the caller allows `adapt_head`, `adapt_positions` and `adapt_channels`.

    Returns:
        The adapted checkpoint, and the report.

    Raises:
        ValueError: an adaptation is needed and not asked for; the message names the keyword. Or the checkpoint is of
            something else.
    """
    variables = variables_by_timm_name(model)
    if not checkpoint.tensors.keys() & variables.keys():
        first = next(iter(checkpoint.tensors.values()), None)
        first = "it is empty" if first is None else f"its first is {first.name}"
        raise ValueError(
            f"{checkpoint.label} has no tensor by a name of the model's ({first}); give a checkpoint of a CrossViT, by "
            "timm's or the authors' names."
        )
    fields = source_fields(checkpoint, model.config, rather_square=asked_for["adapt_positions"])
    found = (
        _head(checkpoint, model, fields),
        _positions(checkpoint, model, fields),
        _channels(checkpoint, model, fields),
    )
    needed = [adaptation for adaptation in found if adaptation is not None]
    if refused := [adaptation for adaptation in needed if not asked_for[adaptation.keyword]]:
        mismatches = "; ".join(f"{adaptation.mismatch} ({adaptation.keyword}=True)" for adaptation in refused)
        raise ValueError(
            f"{checkpoint.label} does not fit the model, and no weight was changed: {mismatches}. "
            "Give the keyword in brackets to load_checkpoint() or to the model's function."
        )
    replaced = {name for adaptation in needed for name in adaptation.replaced}
    kept = tuple(name for name in checkpoint.tensors if name not in replaced)
    made = {
        name: dataclasses.replace(checkpoint.tensors[name], shape=array.shape, read=lambda array=array: array)
        for adaptation in needed
        for name, array in adaptation.tensors.items()
    }
    tensors = {**{name: checkpoint.tensors[name] for name in kept}, **made}
    report = LoadReport(
        source=checkpoint.label,
        kept=kept,
        adaptations=tuple(adaptation.line for adaptation in needed),
        skipped=tuple(name for adaptation in needed for name in adaptation.skipped),
        source_names={name: tensor.name for name, tensor in tensors.items()},
        prefix=checkpoint.prefix,
        conversions=_conversions(tensors, variables),
    )
    return dataclasses.replace(checkpoint, tensors=tensors), report


def take_class_names(model: Any, checkpoint: Checkpoint, report: LoadReport) -> None:
    """Gives a model that has no class names those of the head that it has just taken from a checkpoint."""
    classes = (checkpoint.model_config or {}).get("classes")
    took_head = set(head_names(model.config)) <= set(report.kept)
    if took_head and classes is not None and model.classes is None:
        model.classes = tuple(classes)


def _head(checkpoint: Checkpoint, model: Any, fields: SourceFields) -> _Adaptation | None:
    theirs, ours = fields.num_classes, model.config.num_classes
    other_names = None not in (fields.classes, model.classes) and fields.classes != tuple(model.classes)
    if theirs == ours and not other_names:
        return None
    names = head_names(model.config)
    mismatch = f"its head has {theirs} classes, the model's {ours}"
    if theirs == ours:
        mismatch = f"its {ours} classes have other names than the model's"
    left_out = f"the checkpoint's {theirs} classes left out" if theirs else "the checkpoint has none"
    line = f"Head renewed: {left_out}, the model's own of {ours} classes kept." if ours else f"Head: {left_out}."
    replaced = tuple(name for name in names if name in checkpoint.shapes)
    return _Adaptation("adapt_head", mismatch, line, replaced, skipped=names if ours else ())


def _positions(checkpoint: Checkpoint, model: Any, fields: SourceFields) -> _Adaptation | None:
    theirs, ours = fields.patch_grids, model.config.patch_grids
    changed = [b for b in range(len(BRANCHES)) if theirs[b] != ours[b]]
    if not changed:
        return None
    names = position_embedding_names()
    steps = ", ".join(f"{BRANCHES[b]} {_grid(theirs[b])} to {_grid(ours[b])}" for b in changed)
    resized = {
        names[b]: resize_position_embedding(checkpoint.read(names[b]), theirs[b], ours[b])
        for b in changed
        if names[b] in checkpoint.shapes
    }
    mismatch = f"its position embeddings are for other grids of patches, {steps}"
    return _Adaptation("adapt_positions", mismatch, f"Position embeddings resized: {steps}.", tuple(resized), resized)


def _channels(checkpoint: Checkpoint, model: Any, fields: SourceFields) -> _Adaptation | None:
    theirs, ours = fields.in_channels, model.config.in_channels
    if theirs == ours:
        return None
    names = stem_kernel_names(model.config)
    adapted = {name: adapt_input_channels(checkpoint.read(name), ours) for name in names if name in checkpoint.shapes}
    mismatch = f"its images have {theirs} channels, the model's {ours}"
    line = f"First convolutions adapted from {theirs} image channels to {ours}."
    return _Adaptation("adapt_channels", mismatch, line, tuple(adapted), adapted)


def _grid(grid: tuple[int, int]) -> str:
    return "x".join(map(str, grid))


def _conversions(tensors: Mapping[str, Tensor], variables: Mapping[str, Any]) -> tuple[str, ...]:
    dtypes = Counter(
        (tensor.dtype, variables[name].dtype)
        for name, tensor in tensors.items()
        if name in variables and tensor.dtype != variables[name].dtype
    )
    return tuple(f"{count} tensors converted from {theirs} to {ours}." for (theirs, ours), count in dtypes.items())

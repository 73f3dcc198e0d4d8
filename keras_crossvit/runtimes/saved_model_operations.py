"""Refuses SavedModels that have other operations than this package's, before TensorFlow loads them.

A SavedModel is a program: TensorFlow has operations that read and write files, and loading alone can run some.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError

_MAX_BYTES = 64 * 2**20
# Those of the exports with every option and activation, and others of their kind: computations on tensors only.
_OPERATIONS = """
Abs AddN AddV2 All Any ArgMax Assert BatchDatasetV2 BatchMatMulV2 BiasAdd Cast Ceil ClipByValue ConcatV2
ConcatenateDataset Const Conv2D Cumsum DatasetToSingleElement DecodeJpeg DecodePng DecodeRaw Einsum Elu EnsureShape
Equal Erf Erfc Exp ExpandDims Expm1 ExtractJpegShape Fill FilterDataset Floor FloorDiv FloorMod GatherV2 Greater
GreaterEqual Identity IdentityN If IgnoreErrorsDataset IsFinite LeakyRelu Less LessEqual Log LogSoftmax LogicalAnd
LogicalNot LogicalOr MatMul Max Maximum Mean Minimum Mul Neg NoOp NotEqual Pack Pad PadV2 ParallelMapDatasetV2
Placeholder Pow Prod Range ReadVariableOp RealDiv Relu Relu6 Reshape Reverse ReverseV2 RightShift Round Rsqrt
ScaleAndTranslate ScatterNd Select SelectV2 Selu Shape Sigmoid Size Slice Softmax Softplus Softsign Split SplitV
Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall StatelessIf StopGradient StridedSlice Sub Substr Sum
TakeDataset Tanh TensorDataset TensorSliceDataset Tile TopKV2 Transpose Unpack VarHandleOp ZerosLike
"""
# Only in the functions that write and read the variables' files. Loading does not call them, and no other may.
_SAVERS_OPERATIONS = """
AssignVariableOp DisableCopyOnRead MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename StaticRegexFullMatch
StringJoin
"""
_KINDS = {"user_object", "function", "bare_concrete_function", "variable", "constant"}


def require_known_operations(folder: Path) -> None:
    """Raises InvalidValueError if the SavedModel in a folder has anything that this package's do not have.

    Reads no more of the file than its description; nothing of it runs.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file, model = folder / "saved_model.pb", saved_model_pb2.SavedModel()
    if (size := file.stat().st_size) > _MAX_BYTES:
        raise InvalidValueError(f"'{file}' has {size:,} bytes, more than {_MAX_BYTES:,}; export the model again.")
    try:
        model.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise InvalidValueError(f"'{folder}' is not a complete SavedModel; export the model again.") from error
    if unknown := next(_unknown_parts(model), None):
        raise InvalidValueError(
            f"'{folder}' has {unknown}, which SavedModels of this package do not have. A SavedModel is a program: only "
            "if you would run any program of whoever made it, pass allow_any_operation=True (--allow-any-operation)."
        )


def _unknown_parts(model: Any) -> Iterator[str]:
    if len(model.meta_graphs) != 1:
        yield f"{len(model.meta_graphs)} graphs"
        return
    (graph,) = model.meta_graphs
    objects, library = graph.object_graph_def, graph.graph_def.library
    if not objects.nodes:  # TensorFlow would load it as it loads those of TensorFlow 1
        yield "no object graph"
    if graph.asset_file_def or library.gradient or library.registered_gradients:
        yield "assets or gradients"
    for each in objects.nodes:
        if each.WhichOneof("kind") not in _KINDS or each.saveable_objects or each.registered_saver:
            yield f"an object of the kind {each.WhichOneof('kind')}"
    saver_nodes = {graph.saver_def.save_tensor_name.partition(":")[0], graph.saver_def.restore_op_name}
    savers = {name for node in graph.graph_def.node if node.name in saver_nodes for name in _called([node])}
    others = [node for node in graph.graph_def.node if node.name not in saver_nodes]
    for function in library.function:
        if function.signature.name in savers:
            yield from _unknown_operations(function.node_def, _OPERATIONS + _SAVERS_OPERATIONS)
        else:
            others += function.node_def
    yield from _unknown_operations(others, _OPERATIONS)
    if savers & {*_called(others), *objects.concrete_functions}:
        yield "a function that writes its variables"


def _unknown_operations(nodes: Iterable[Any], known_names: str) -> Iterator[str]:
    known = set(known_names.split())
    yield from (f"the operation {node.op!r}" for node in nodes if node.op not in known)


def _called(nodes: Iterable[Any]) -> Iterator[str]:
    """Yields the names of the functions that nodes have as attributes."""
    for node in nodes:
        for value in node.attr.values():
            yield from (each.name for each in (value.func, *value.list.func) if each.name)

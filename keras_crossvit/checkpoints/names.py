"""Names of tensors: a pure map from our variables to timm's."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit.models.config import BRANCHES, STEM_STRIDES, CrossViTConfig

_VARIABLES = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
_BLOCK_LAYERS = {
    "attention_norm": "norm1",
    "attention/qkv": "attn.qkv",
    "attention/projection": "attn.proj",
    "mlp_norm": "norm2",
    "mlp/expansion": "mlp.fc1",
    "mlp/projection": "mlp.fc2",
}
_CROSS_ATTENTION_LAYERS = {"query": "wq", "key": "wk", "value": "wv", "projection": "proj"}
# Parts of names that PyTorch adds for several devices, compiled models, FSDP and gradient checkpointing.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


@known_keywords_only
def timm_name(variable_path: str, config: CrossViTConfig) -> str:
    """Returns the name in timm's state dict of one of our variables.

    Args:
        variable_path: Path of the variable in the model, such as "stage_2_large_patch_block_0/attention/qkv/kernel".
        config: Architecture of the model.

    Returns:
        The name, such as "blocks.2.blocks.1.0.attn.qkv.weight".

    Raises:
        ValueError: a CrossViT of this architecture has no such variable.

    Source: the state dict of timm.models.crossvit.CrossVit.
    """
    names = token_names()
    if variable_path in names:
        return names[variable_path]
    layer_path, _, variable = variable_path.rpartition("/")
    try:
        return f"{layer_names(config)[layer_path]}.{_VARIABLES[variable]}"
    except KeyError:
        raise InvalidValueError(f"A CrossViT of this configuration has no variable '{variable_path}'.") from None


@functools.lru_cache(maxsize=16)
def tensor_names(config: CrossViTConfig) -> frozenset[str]:
    """Returns all names in timm of tensors that a CrossViT of this architecture may have."""
    parts = set(_VARIABLES.values())
    return frozenset(token_names().values()) | {f"{layer}.{p}" for layer in layer_names(config).values() for p in parts}


def token_names() -> dict[str, str]:
    """Maps class tokens and position embeddings to timm's names."""
    names = {}
    for b, branch in enumerate(BRANCHES):
        names[f"{branch}_tokens/class_token"] = f"cls_token_{b}"
        names[f"{branch}_tokens/position_embedding"] = f"pos_embed_{b}"
    return names


@functools.lru_cache(maxsize=16)
def layer_names(config: CrossViTConfig) -> dict[str, str]:
    """Maps the paths of our layers that have variables to timm's names."""
    names = {}
    for b, branch in enumerate(BRANCHES):
        if config.multi_conv:  # timm's stem is a sequence with activations at the odd positions
            for i in range(len(STEM_STRIDES[config.patch_size[b]])):
                names[f"{branch}_embedding/convolution_{i}"] = f"patch_embed.{b}.proj.{2 * i}"
        else:
            names[f"{branch}_embedding/convolution_0"] = f"patch_embed.{b}.proj"
        for s, depth in enumerate(config.depth):
            for j in range(depth[b]):
                for ours, theirs in _BLOCK_LAYERS.items():
                    names[f"stage_{s}_{branch}_block_{j}/{ours}"] = f"blocks.{s}.blocks.{b}.{j}.{theirs}"
            names |= _fusion_layer_names(f"stage_{s}_{branch}_fusion", f"blocks.{s}", b, depth[2])
        names[f"{branch}_pooling/norm"] = f"norm.{b}"
        names[f"{branch}_head"] = f"head.{b}"
    return names


def _fusion_layer_names(ours: str, theirs: str, b: int, rounds: int) -> dict[str, str]:
    names = {
        f"{ours}/own_norm": f"{theirs}.projs.{b}.0",
        f"{ours}/to_partner": f"{theirs}.projs.{b}.2",
        f"{ours}/partner_norm": f"{theirs}.revert_projs.{b}.0",
        f"{ours}/to_own": f"{theirs}.revert_projs.{b}.2",
    }
    for k in range(max(1, rounds)):
        fusion = f"{theirs}.fusion.{b}.{k}" if rounds else f"{theirs}.fusion.{b}"  # timm does not number 0 rounds
        names[f"{ours}/attention_norm_{k}"] = f"{fusion}.norm1"
        for our_part, their_part in _CROSS_ATTENTION_LAYERS.items():
            names[f"{ours}/attention_{k}/{our_part}"] = f"{fusion}.attn.{their_part}"
    return names


def stem_kernel_names(config: CrossViTConfig) -> tuple[str, ...]:
    """Returns timm's names of the kernels that see the image, one per branch."""
    return tuple(f"{layer_names(config)[f'{branch}_embedding/convolution_0']}.weight" for branch in BRANCHES)


def position_embedding_names() -> tuple[str, ...]:
    """Returns timm's names of the position embeddings, one per branch."""
    return tuple(token_names()[f"{branch}_tokens/position_embedding"] for branch in BRANCHES)


def head_names(config: CrossViTConfig) -> tuple[str, ...]:
    """Returns timm's names of the heads' tensors: kernel and bias of each branch."""
    heads = [layer_names(config)[f"{branch}_head"] for branch in BRANCHES]
    return tuple(f"{head}.{part}" for head in heads for part in ("weight", "bias"))


def timm_spelling(tensor_name: str) -> str:
    """Returns a tensor's name as timm spells it, given timm's or the authors' spelling ("cls_token.0").

    The parts that PyTorch's wrappers add are removed, as in timm.models.clean_state_dict.
    """
    unwrapped = ".".join(part for part in tensor_name.split(".") if part not in _WRAPPERS)
    return re.sub(r"(^|\.)(cls_token|pos_embed)\.(\d+)$", r"\1\2_\3", unwrapped)


def prefixes(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Returns what is before known names, such as "model."; [""] if a name is known as it is."""
    found = [_prefix(name, known) for name in names]
    distinct = list(dict.fromkeys(prefix for prefix in found if prefix is not None))
    return [""] if "" in distinct else distinct


def _prefix(name: str, known: Collection[str]) -> str | None:
    """Returns what comes before the longest known ending of a name, or None if no ending is known."""
    starts = [0, *(dot.end() for dot in re.finditer(r"\.", name))]
    return next((name[:start] for start in starts if name[start:] in known), None)

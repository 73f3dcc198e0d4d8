"""Rules that hold for the names of every configuration's tensors."""

import re

from hypothesis import given
from hypothesis import strategies as st

from keras_crossvit.checkpoints.names import layer_names, prefixes, tensor_names, timm_name, timm_spelling, token_names
from tests.helpers.configurations import configurations


@given(configurations())
def test_the_map_to_timm_can_be_reversed(config):
    ours = [*token_names(), *(f"{layer}/{part}" for layer in layer_names(config) for part in ("kernel", "bias"))]
    theirs = {path: timm_name(path, config) for path in ours}
    assert len(set(theirs.values())) == len(ours)
    assert set(theirs.values()) == tensor_names(config)


@given(configurations(), st.data())
def test_the_authors_spelling_and_the_parts_of_wrappers_are_recognized(config, data):
    name = data.draw(st.sampled_from(sorted(tensor_names(config))))
    official = re.sub(r"^(cls_token|pos_embed)_", r"\1.", name)
    parts = official.split(".")
    place = data.draw(st.integers(0, len(parts) - (2 if official != name else 1)))
    parts.insert(place, data.draw(st.sampled_from(["module", "_orig_mod", "_fsdp_wrapped_module"])))
    assert timm_spelling(official) == timm_spelling(".".join(parts)) == name


@given(configurations(), st.lists(st.sampled_from(["model", "student", "net", "ema"]), max_size=3), st.data())
def test_a_common_prefix_is_found(config, words, data):
    known = tensor_names(config)
    prefix = "".join(f"{word}." for word in words)
    names = data.draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=5))
    assert prefixes([prefix + name for name in names], known) == [prefix]

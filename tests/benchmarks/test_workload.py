"""The grid of workloads, the runners that support them, and a model's operations."""

import pytest

from benchmarks import RUNNERS, Workload, count_macs, plan
from benchmarks.runners import select
from keras_crossvit.models.variants import VARIANTS, variant_config
from keras_crossvit.runtimes.formats import FORMATS
from tests.helpers.processes import run_python


def test_plan_returns_every_combination():
    planned = plan(models=["crossvit_9", "crossvit_tiny"], batch_sizes=[1, 4], precisions=["float32", "int8"])
    assert len(planned) == len(set(planned)) == 8
    assert Workload(model="crossvit_9", batch_size=4, precision="int8", threads=1) in planned


def test_image_size_keeps_the_ratio_of_both_inputs():
    assert Workload(image_size=480).config.image_sizes == ((480, 480), (448, 448))


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"mode": "dreaming"}, "dreaming"),
        ({"precisions": ["int4"]}, "int4"),
        ({"image_sizes": [250]}, "250"),
        ({"image_sizes": [240], "models": ["crossvit_15_dagger_408"]}, "crossvit_15_dagger_408"),
        ({"batch_sizes": [0]}, "0"),
        ({"threads": [0]}, "0"),
        ({"threads": [1, 4096]}, "4096"),
        ({"models": ["crossvit_10"]}, "crossvit_10"),
        ({"mode": "pipeline", "batch_sizes": [48]}, "48"),
    ],
)
def test_plan_names_a_wrong_value(arguments, value):
    with pytest.raises(ValueError, match=value):
        plan(**arguments)


def test_by_default_every_installed_runner_that_supports_the_workloads_is_selected(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)  # everything is installed
    names = {each.name for each in select(None, plan(mode="training"))}
    assert {"keras-tensorflow", "keras-jax", "timm-compiled"} <= names
    assert not names & {"litert", "pillow-timm-loader"}
    assert select(["keras-jax", "keras-jax"], plan()) == [RUNNERS["keras-jax"]]


@pytest.mark.parametrize(
    ("names", "arguments", "value"),
    [
        (["timm-eagre"], {}, "timm-eager"),
        (["litert"], {"mode": "training"}, "litert"),
        (["keras-jax", "litert"], {"mode": "training"}, "litert"),
        (["litert"], {"precisions": ["float32", "bfloat16"]}, "bfloat16"),
        (None, {"mode": "training", "precisions": ["int8"]}, "int8"),
    ],
)
def test_select_names_what_does_not_fit(names, arguments, value, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(ValueError, match=value):
        select(names, plan(**arguments))


def test_a_named_runner_without_its_libraries_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="timm, torch, openvino"):
        select(["timm-openvino"], plan())


@pytest.mark.parametrize(
    ("name", "format_name"), [("litert", "litert"), ("openvino", "openvino"), ("onnxruntime", "onnx")]
)
def test_runners_of_exports_have_the_suffix_and_libraries_of_the_format(name, format_name):
    assert RUNNERS[name].options["suffix"] == FORMATS[format_name].suffix
    assert set(FORMATS[format_name].libraries) <= set(RUNNERS[name].libraries)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_macs_are_timm_s_less_those_that_one_query_saves(name):
    config = variant_config(name)
    saved = 0
    for branch, depth in ((b, d) for d in config.depth for b in (0, 1)):
        channels, heads = config.embed_dim[1 - branch], config.num_heads[1 - branch]
        rows, columns = config.patch_grids[1 - branch]
        tokens = 1 + rows * columns
        # timm projects a key and a value of every token; the class token itself is in both counts.
        saved += max(1, depth[2]) * (2 * tokens * channels * channels - 2 * channels**2)
        saved -= max(1, depth[2]) * (2 * tokens * channels * heads - 2 * tokens * channels)
    # timm's figures have two decimals, and leave some of attention's products out: 3 % is both.
    assert (count_macs(config) + saved) / 1e9 == pytest.approx(VARIANTS[name].gmacs, rel=0.03)


def test_a_runner_starts_without_the_libraries_of_others():
    program = "import sys, benchmarks.process; print({'keras', 'tensorflow', 'torch'} & sys.modules.keys())"
    assert run_python("-c", program).stdout == "set()\n"

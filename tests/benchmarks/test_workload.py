"""The grid of work, who takes part, and how much work a picture is."""

import pytest

from benchmarks import RUNNERS, Workload, plan
from benchmarks.operations import count_macs
from benchmarks.runners import EXPORTED, select
from keras_crossvit.models.variants import VARIANTS, variant_config
from keras_crossvit.runtimes.formats import FORMATS


def test_plan_goes_through_every_combination():
    work = plan(models=["crossvit_9", "crossvit_tiny"], batch_sizes=[1, 4], precisions=["float32", "int8"], threads=[1])
    assert len(work) == len(set(work)) == 8
    assert Workload(model="crossvit_9", batch_size=4, precision="int8", threads=1) in work


def test_image_size_keeps_the_ratio_of_both_inputs():
    assert Workload(image_size=480).config.image_sizes == ((480, 480), (448, 448))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "dreaming"}, "There is no mode 'dreaming'; did you mean"),
        ({"precisions": ["int4"]}, "no precision 'int4'; did you mean 'int8'"),
        ({"image_sizes": [250]}, "image size 250 is not a multiple of 120"),
        ({"image_sizes": [240], "models": ["crossvit_15_dagger_408"]}, "is for the models of 240 pixels"),
        ({"batch_sizes": [0]}, "batch size 0 is too small"),
        ({"threads": [0]}, "threads 0 is too small"),
        ({"threads": [1, 4096]}, "threads 4096 are more than the"),
        ({"models": ["crossvit_10"]}, "crossvit_10"),
        ({"mode": "pipeline", "batch_sizes": [48]}, "does not divide 512 pictures"),
    ],
)
def test_a_mistake_is_named_before_anything_is_measured(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan(**arguments)


def test_only_contenders_that_can_do_the_work_take_part(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)  # all is installed
    names = {each.name for each in select(None, plan(mode="training"))}
    assert {"keras-tensorflow", "keras-jax", "timm-compiled"} <= names
    assert not names & {"litert", "import-keras"}
    with pytest.raises(ValueError, match="does build in bfloat16"):
        select(None, plan(mode="build", precisions=["bfloat16"]))


def test_a_misspelt_contender_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'timm-eager'"):
        select(["timm-eagre"], plan())


def test_contenders_that_cannot_do_the_work_are_refused():
    with pytest.raises(ValueError, match="No chosen contender does training"):
        select(["litert"], plan(mode="training"))


def test_work_that_is_for_no_contender_is_refused_and_so_are_contenders_without_work():
    with pytest.raises(ValueError, match="No chosen contender does inference in bfloat16"):
        select(["litert"], plan(precisions=["float32", "bfloat16"]))
    with pytest.raises(ValueError, match="None of this work is for litert; leave it out of --contenders"):
        select(["keras-jax", "litert"], plan(mode="training"))


def test_a_contender_that_is_named_twice_takes_part_once():
    assert select(["keras-jax", "keras-jax"], plan()) == [RUNNERS["keras-jax"]]


def test_a_named_contender_says_what_it_lacks(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="timm-openvino needs timm, torch, openvino, which are not installed"):
        select(["timm-openvino"], plan())
    assert RUNNERS["export-saved_model"].missing_libraries() == ["tensorflow"]


def test_exports_have_the_suffixes_and_libraries_of_their_formats():
    assert {name: suffix for name, (suffix, _) in EXPORTED.items()} == {name: f.suffix for name, f in FORMATS.items()}
    for name, (_, libraries) in EXPORTED.items():
        assert set(FORMATS[name].libraries) <= set(libraries)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_multiplications_are_timm_s_less_those_that_one_query_saves(name):
    config = variant_config(name)
    saved = 0
    for branch, depth in ((b, d) for d in config.depth for b in (0, 1)):
        channels, heads = config.embed_dim[1 - branch], config.num_heads[1 - branch]
        patch, (height, width) = config.patch_size[1 - branch], config.image_sizes[1 - branch]
        tokens = 1 + (height // patch) * (width // patch)
        # timm projects a key and a value of every token; the class token itself is in both counts.
        saved += max(1, depth[2]) * (2 * tokens * channels * channels - 2 * channels**2)
        saved -= max(1, depth[2]) * (2 * tokens * channels * heads - 2 * tokens * channels)
    # timm's figures have two decimals, and leave attention's products out of some: 3 % is both.
    assert (count_macs(config) + saved) / 1e9 == pytest.approx(VARIANTS[name].gmacs, rel=0.03)

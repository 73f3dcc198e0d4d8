import pytest

import keras_crossvit as kc
from keras_crossvit.models.variants import VARIANTS, get_variant, variant_name
from tests.helpers.models import TINY

OFFICIAL = {"240": "224", "408": "384"}  # the authors' names have the large-patch branch's image size


def aliases(name):
    timm_name = VARIANTS[name].timm_name
    family, _, size = timm_name.rpartition("_")
    authors_name = f"{family}_{OFFICIAL[size]}"
    return {
        name,
        name.upper(),
        timm_name,
        f"{timm_name}.in1k",
        f"timm/{timm_name}.in1k",
        f"hf_hub:timm/{timm_name}.in1k",
        f"hf-hub:timm/{timm_name}.in1k",
        f"https://huggingface.co/timm/{timm_name}.in1k",
        f"timm/{timm_name}",
        timm_name.replace("crossvit", "CrossViT"),
        authors_name,
        authors_name.upper(),
    }


def test_names_of_timm_and_the_authors_are_known():
    found = {alias: variant_name(alias) for name in VARIANTS for alias in aliases(name)}
    assert found == {alias: name for name in VARIANTS for alias in aliases(name)}
    assert len(found) == sum(len(aliases(name)) for name in VARIANTS)  # no name has two meanings


@pytest.mark.parametrize("alias", ["timm/crossvit_15_dagger_240.in1k", "CROSSVIT_15_DAGGER", "crossvit_15_dagger_224"])
def test_an_alias_builds_the_same_model(alias):
    assert get_variant(alias) is VARIANTS["crossvit_15_dagger"]
    assert kc.variant_config(alias, num_classes=3) == kc.variant_config("crossvit_15_dagger", num_classes=3)
    assert kc.create_model(alias, 3, **TINY).name == "crossvit_15_dagger"


@pytest.mark.parametrize(
    ("wrong", "proposed"),
    [
        ("crossvit_15_dager_240", "crossvit_15_dagger"),
        ("timm/CrossViT_15_dager_240.in1k", "crossvit_15_dagger"),
        ("crossvit15_dagger_240", "crossvit_15_dagger"),
        ("crossvit_15dagger_384", "crossvit_15_dagger_408"),
        ("crossvit_9_dagger_240.in21k", "crossvit_9_dagger"),
        ("crossvit_smal_240", "crossvit_small"),
        ("crossvit9", "crossvit_9"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest_of_its_family_and_size(wrong, proposed):
    with pytest.raises(ValueError, match=f"'{wrong}'.*'{proposed}'"):
        kc.variant_config(wrong)


@pytest.mark.parametrize(
    "wrong", ["crossvit_9_dagger_408", "crossvit_base_384", "crossvit_9_dagger_336", "vit_b_16_224"]
)
def test_an_unpublished_size_is_answered_with_the_list(wrong):
    with pytest.raises(ValueError, match=f"'{wrong}'.*crossvit_tiny, ") as raised:
        kc.create_model(wrong)
    assert "did you mean" not in str(raised.value)


@pytest.mark.parametrize("wrong", [None, 5, ["crossvit_9"], ""])
def test_other_values_are_not_a_model(wrong):
    with pytest.raises(ValueError, match="There is no model"):
        kc.variant_config(wrong)

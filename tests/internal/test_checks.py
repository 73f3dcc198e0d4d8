import pytest

from keras_crossvit._internal.checks import suggestion, require_known, resolve_threads


def test_threads_are_all_processors_unless_told():
    assert resolve_threads(None) >= 1
    assert resolve_threads(3) == 3
    with pytest.raises(ValueError, match="threads 0 is too small"):
        resolve_threads(0)


def test_an_unknown_name_is_answered_with_the_nearest_or_with_all():
    assert suggestion("finetun", ["finetune", "transfer"]) == "did you mean 'finetune'?"
    assert suggestion("xyz", ["finetune", "transfer"]) == "known are finetune, transfer."
    require_known("recipe", "transfer", ["finetune", "transfer"])
    with pytest.raises(ValueError, match="There is no recipe 'finetun'; did you mean 'finetune'"):
        require_known("recipe", "finetun", ["finetune", "transfer"])

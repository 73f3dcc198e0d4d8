import pytest

from keras_crossvit._internal.checks import require_known, resolve_threads, suggestion


def test_threads_default_to_all_processors():
    assert resolve_threads(None) >= 1
    assert resolve_threads(3) == 3
    with pytest.raises(ValueError, match="threads 0"):
        resolve_threads(0)


def test_unknown_names_get_the_nearest_or_all_known_names():
    assert suggestion("finetun", ["finetune", "transfer"]) == "did you mean 'finetune'?"
    assert suggestion("xyz", ["finetune", "transfer"]) == "known are finetune, transfer."
    require_known("recipe", "transfer", ["finetune", "transfer"])
    with pytest.raises(ValueError, match=r"'finetun'.*'finetune'"):
        require_known("recipe", "finetun", ["finetune", "transfer"])

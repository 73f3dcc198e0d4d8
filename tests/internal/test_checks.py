import pytest

from keras_crossvit._internal.checks import (
    require_at_most,
    require_integer,
    require_known,
    require_number,
    resolve_threads,
    suggestion,
)
from keras_crossvit._internal.errors import InvalidValueError


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


@pytest.mark.parametrize("number", [10**400, 16**10_000], ids=["beyond floats", "too long for Python to write"])
def test_integers_beyond_all_floats_are_refused(number):
    for check in (
        lambda: require_number("rate", number),
        lambda: require_integer("rate", number, minimum=0, maximum=5),
        lambda: require_integer("rate", -number, minimum=0),
        lambda: require_at_most(5, rate=number),
    ):
        with pytest.raises(InvalidValueError, match=f"rate of {number.bit_length()} bits"):
            check()

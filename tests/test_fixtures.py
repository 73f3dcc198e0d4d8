"""The stored reference values can be computed again."""

import pytest

from tests.helpers import reference, timm_reference

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not timm_reference.is_installed(), reason=f"needs timm: {timm_reference.INSTALLATION}"),
]
generate = pytest.importorskip("tests.fixtures.generate", exc_type=ImportError)
ROUNDING = 1e-5  # of float32 sums, which another processor or number of threads takes in another order


def test_a_model_gives_the_stored_values():
    assert generate.check_model("tiny_square") < ROUNDING


def test_preprocessing_interpolation_and_adaptation_give_the_stored_values():
    stored = reference.surroundings()
    assert generate.difference(generate.compute_surroundings(stored), stored) < ROUNDING


def test_other_weights_give_other_values(monkeypatch):
    monkeypatch.setattr(reference, "SEED", 1)
    assert generate.check_model("tiny_square") > 0.1

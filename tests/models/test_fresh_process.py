"""Files of models and of every layer give the same outputs in a fresh process."""

import keras
import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit import layers
from tests.helpers.backends import call
from tests.helpers.models import DEEPER, images, tiny
from tests.helpers.processes import run_python
from tests.layers.cases import CASES

LOAD_AND_CALL_ALL = """
import pathlib, sys
import keras, keras_crossvit as kc, numpy as np
from tests.helpers.backends import call
folder = pathlib.Path(sys.argv[1])
models = {path.stem: keras.saving.load_model(path) for path in folder.glob("*.keras")}
whole = models["whole"]
assert isinstance(whole, kc.CrossViT) and whole.class_names == tuple("abcde") and whole.config.embed_dim == (16, 24)
models["weights"] = kc.build_crossvit(whole.config)
models["weights"].load_weights(folder / "whole.weights.h5")
for name, model in models.items():
    with np.load(folder / f"{name}.inputs.npz") as stored:
        np.save(folder / f"{name}.npy", call(model, [stored[name] for name in sorted(stored.files)]))
"""


@pytest.mark.backends
def test_files_give_the_same_outputs_in_a_fresh_process(tmp_path):
    model = tiny(class_names=list("abcde"), drop_path_rate=0.2, **DEEPER)
    both = images(model)
    cases = {"whole": (model, both), "one_image": (kc.single_image(model), both[:1])}
    for name, case in CASES.items():
        symbolic = [keras.Input(shape[1:]) for shape in case.input_shapes]
        outputs = case.make()(symbolic if len(symbolic) > 1 else symbolic[0])
        cases[name] = keras.Model(symbolic, outputs), case.inputs() if len(symbolic) > 1 else [case.inputs()]
    raw = np.random.default_rng(7).integers(0, 256, (2, 60, 80, 3)).astype("float32")
    cases["preprocessing"] = _model_of_both_images(), [raw]
    for name, (each, inputs) in cases.items():
        each.save(tmp_path / f"{name}.keras")
        np.savez(tmp_path / f"{name}.inputs.npz", *inputs)
    model.save_weights(tmp_path / "whole.weights.h5")
    np.savez(tmp_path / "weights.inputs.npz", *both)
    run_python("-c", LOAD_AND_CALL_ALL, tmp_path)
    for name, (each, inputs) in (cases | {"weights": cases["whole"]}).items():
        one_rounding = 1e-6 if name in (*CASES, "preprocessing") else 0
        loaded = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_allclose(loaded, call(each, inputs), rtol=0, atol=one_rounding, err_msg=name)


def _model_of_both_images():
    """A model of images of any size with both outputs of `Preprocessing` in one vector."""
    raw = keras.Input((None, None, 3))
    both = layers.Preprocessing(kc.variant_config("crossvit_9", img_size=(48, 32)))(raw)
    return keras.Model([raw], keras.layers.Concatenate()([keras.layers.Flatten()(each) for each in both]))

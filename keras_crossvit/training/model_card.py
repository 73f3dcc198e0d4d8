"""The model card of a run, in the format of the Hugging Face Hub: what the model is, for whoever gets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from keras_crossvit._internal.model_paths import read_run_settings
from keras_crossvit._internal.optional import require_library
from keras_crossvit._internal.stored_json import OrNone, read_json
from keras_crossvit._internal.user_text import json_text, markdown_text, one_line
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.preprocessing.transforms import preprocessing_facts
from keras_crossvit.runtimes.formats import FLOAT32, FORMATS
from keras_crossvit.training.templates import open_template

_METRICS = {  # of evaluation.json: their names on the hub and in the card
    "top1": ("accuracy", "top-1 accuracy"),
    "top5": ("accuracy", "top-5 accuracy"),
    "mean_average_precision": ("mean_average_precision", "mean average precision"),
    "subset_accuracy": ("accuracy", "all classes of an image correct"),
}
_FORM = {
    "images": int,
    "loss": float,
    "calibration_error": float,
    "per_class": [{"class": str, "images": int, "precision": OrNone(float), "recall": OrNone(float)}],
}


def model_card(
    run: str | PathLike,
    model: CrossViT,
    *,
    address: str | None = None,
    license: str | None = None,  # noqa: A002
    exports: Sequence[Mapping[str, str]] = (),
) -> str:
    """Returns the model card of a finished run, Markdown with a YAML header.

    Args:
        run: The run folder.
        model: Its best model.
        address: Where the model is published, "hf://USER/NAME". Defaults to None: it is loaded from the run folder.
        license: The license's identifier on the hub, such as "apache-2.0". Defaults to None: the card names none.
        exports: For each exported file that is published beside it its name, `file`, and how it was checked, `check`.
            Defaults to none.

    Raises:
        MissingFileError: `run` is not a run folder.
        InvalidValueError: its settings or its evaluation are damaged.

    Source: https://huggingface.co/docs/hub/model-cards
    """
    run = Path(run)
    settings = read_run_settings(run)
    file = run / "evaluation" / "evaluation.json"
    evaluation = read_json(file, _FORM, "evaluate the run again") if file.is_file() else None
    metrics = {name: evaluation[name] for name in _METRICS if evaluation and evaluation.get(name) is not None}
    data = Path(settings["data"]).name
    markup = require_library("markupsafe", "train").Markup  # of Jinja
    template = open_template("model_card.md.jinja", autoescape=False, safe_text=markdown_text)
    card = template.render(
        settings=settings,
        config=model.config,
        data=data,
        evaluation=evaluation,
        metrics={_METRICS[name][1]: value for name, value in metrics.items()},
        calibration=model.calibration,
        preprocessing=preprocessing_facts(model.config),
        tolerance=FORMATS["litert"].precisions[FLOAT32],
        address=address,
        path=markup(one_line(address or run.as_posix())),
        license=license,
        exports=exports,
    )
    return f"{front_matter(_facts(settings['model'], data, metrics, license))}\n{card}"


def front_matter(facts: Mapping[str, Any]) -> str:
    """Returns the YAML with which a card of the hub begins: JSON after each name."""
    return "---\n" + "".join(f"{key}: {json_text(value)}\n" for key, value in facts.items()) + "---\n"


def _facts(name: str, data: str, metrics: dict[str, float], license: str | None) -> dict[str, Any]:  # noqa: A002
    """Returns what the hub reads of a card."""
    facts: dict[str, Any] = {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["keras", "keras_crossvit", "crossvit", "image-classification"],
    }
    if license is not None:
        facts["license"] = license
    if metrics:
        measured = [
            {"type": kind, "value": metrics[key], "name": label}
            for key, (kind, label) in _METRICS.items()
            if key in metrics
        ]
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"name": data, "type": "imagefolder", "split": "validation"},
            "metrics": measured,
        }
        facts["model-index"] = [{"name": name, "results": [result]}]
    return facts

"""A page that shows a run: figures, pictures and settings in one file that can be sent around."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_crossvit._internal.files import printable, write_text
from keras_crossvit._internal.model_paths import read_run_settings
from keras_crossvit.evaluation.results import EvaluationResult, format_value
from keras_crossvit.training.callbacks import format_duration
from keras_crossvit.training.run_folder import RunFolder

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #667085; --line: #e4e7ec; --page: #f7f8fa; --card: #fff;
  --accent: #2f6fab; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebf0; --soft: #98a2b3; --line: #333b47; --page: #14181f;
  --card: #1c222b; --accent: #7db3e3; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .75rem; }
p { margin: .25rem 0 .75rem; }
.soft { color: var(--soft); overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 1.25rem 0; }
.card, section { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1rem; }
section { margin: 1rem 0; }
.card b { display: block; font-size: 1.2rem; line-height: 1.3; color: var(--accent); }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.scroll { overflow-x: auto; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; border-radius: .4rem; background: #fff; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
pre { overflow-x: auto; font-size: .85rem; margin: .5rem 0 0; }
summary { cursor: pointer; font-weight: 600; }
"""


def write_report(
    folder: RunFolder,
    history: Sequence[Mapping[str, float]],
    evaluation: EvaluationResult | None,
    unreadable: Sequence[tuple[str, str]] = (),
    missing: Mapping[str, str] | None = None,
) -> None:
    """Writes `report.html` of a run whose pictures have been drawn; whole or not at all.

    Args:
        folder: The run's folder.
        history: A row per epoch.
        evaluation: The best model on held-out pictures, or None.
        missing: Names of drawings that could not be made, and why. Defaults to None: all could.
        unreadable: Files that were left out, and why. Defaults to none.
    """
    missing = missing or {}
    settings = read_run_settings(folder.path)
    title = f"{settings['model']} on {Path(settings['data']).name}"
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<p class=soft>{_subtitle(settings)}</p>",
        _cards(settings, history, evaluation),
        _section("Learning curves", _image(folder.learning_curves, "Losses and metrics by epoch", missing)),
    ]
    if evaluation is not None:
        parts += [_evaluation(folder, evaluation, missing)]
    parts += [
        _section(
            "What the model is fed",
            "<p class=soft>Augmented pictures of the first epoch, as both branches see them.</p>"
            + _image(folder.contact_sheet, "Augmented pictures", missing),
        ),
        _left_out(unreadable),
        _folded("Every epoch", f"<div class=scroll>{_table(history)}</div>"),
        _folded(
            "Settings",
            f"<p>{_text(settings['recipe']['source'])}</p>"
            f"<pre>{_text(json.dumps(settings, indent=2, ensure_ascii=False))}</pre>",
        ),
    ]
    write_text(
        folder.report,
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>",
    )


def _subtitle(settings: Mapping[str, Any]) -> str:
    images = settings["images"]
    (small, large) = settings["architecture"]["img_size"]
    return _text(
        f"{images['training']:,} pictures to learn from and {images['validation']:,} held out in "
        f"{len(settings['class_names'])} classes, at {small} and {large} pixels"
    )


def _cards(
    settings: Mapping[str, Any], history: Sequence[Mapping[str, float]], evaluation: EvaluationResult | None
) -> str:
    cards = []
    if evaluation is not None:
        cards += [(name, f"{value:.2%}") for name, value in evaluation.headline.items()]
        cards.append(("calibration error", f"{evaluation.calibration_error:.2%}"))
    else:
        metrics = [name for name in history[-1] if name.endswith("accuracy")]
        cards += [(f"{name.replace('_', ' ')}, last", f"{history[-1][name]:.2%}") for name in metrics]
    cards += [
        ("epochs", f"{len(history)} of {settings['recipe']['epochs']}"),
        ("time", format_duration(sum(row["seconds"] for row in history))),
    ]
    fastest = max(row["images_per_second"] for row in history)
    if fastest:  # it is 0 where an epoch has but one step
        cards.append(("training", f"{fastest:.0f} images/s"))
    return (
        "<div class=cards>" + "".join(f"<div class=card><b>{_text(v)}</b>{_text(k)}</div>" for k, v in cards) + "</div>"
    )


def _evaluation(folder: RunFolder, evaluation: EvaluationResult, missing: Mapping[str, str]) -> str:
    images = [_image(folder.evaluation / name, text, missing) for name, text in evaluation.plots.items()]
    table = _table([{name: format_value(value) for name, value in row.items()} for row in evaluation.worst_first])
    return _section(
        "Held-out pictures",
        f"<div class=pictures>{''.join(images)}</div>"
        f"<details><summary>Every class, worst first</summary><div class=scroll>{table}</div></details>",
    )


def _left_out(unreadable: Sequence[tuple[str, str]]) -> str:
    if not unreadable:
        return ""
    rows = [{"file": file, "problem": problem} for file, problem in unreadable]
    return _folded(f"Pictures left out, since they cannot be read: {len(rows)}", _table(rows))


def _section(title: str, content: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{content}</section>"


def _folded(title: str, content: str) -> str:
    return f"<section><details><summary>{_text(title)}</summary>{content}</details></section>"


def _image(path: Path, description: str, missing: Mapping[str, str]) -> str:
    if path.name in missing:
        return f"<p>{_text(description)}: {path.name} could not be drawn ({_text(missing[path.name])}).</p>"
    encoded = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{_text(description)}' src='data:image/png;base64,{encoded}'>"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{_text(name.replace('_', ' '))}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(_figure(value))}</td>" for value in row.values()) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _text(value: str) -> str:
    return html.escape(printable(str(value)))

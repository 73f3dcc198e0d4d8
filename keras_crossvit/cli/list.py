"""`keras-crossvit list`."""

from __future__ import annotations

import argparse

from keras_crossvit.cli.options import add_json, print_json

HELP = "List the published models with image sizes, parameters, GMACs and ImageNet accuracy."
EXAMPLES = ("", "--json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_crossvit.models.variants import VARIANTS

    if arguments.json:
        fields = ("timm_name", "parameters", "gmacs", "paper_top1", "timm_top1", "timm_top5")
        rows = VARIANTS.items()
        print_json(
            [
                {"name": name, "img_size": each.config.img_size, **{field: getattr(each, field) for field in fields}}
                for name, each in rows
            ]
        )
        return
    print(f"{'':57}{'paper':>7}{'timm':>16}")
    print(f"{'model':24}{'sizes':>11}{'parameters':>14}{'GMACs':>8}{'top-1':>7}{'top-1':>8}{'top-5':>8}")
    for name, variant in VARIANTS.items():
        sizes = ", ".join(str(size) for size in variant.config.img_size)
        accuracy = f"{variant.paper_top1:>7.1f}{variant.timm_top1:>8.2f}{variant.timm_top5:>8.2f}"
        print(f"{name:24}{sizes:>11}{variant.parameters:>14,}{variant.gmacs:>8.2f}{accuracy}")

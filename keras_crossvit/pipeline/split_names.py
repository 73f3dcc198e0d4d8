"""Names of splits, however a collection spells them: `Training`, `test_set`, `images_train`, `val2017`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from keras_crossvit._internal.errors import InvalidValueError

TRAINING, VALIDATION, TEST = "training", "validation", "test"
EVALUATION = "evaluation"  # the test split beside a validation split, and else the validation split
_SPLITS = {
    TRAINING: "train|training|trainval|trn",
    VALIDATION: "val|valid|validation|dev|development|heldout|holdout",
    TEST: "test|testing|tst",
    EVALUATION: "eval|evaluation",
}
# What stands beside the word for a split and says nothing of it; the letters are of `x_train`, `train_v2`.
_REST = (
    "(?:sets?|data|datasets?|images?|imgs?|pictures?|pics?|photos?|splits?|subsets?|part|folders?|dir|files?|samples?|"
    "examples?|classes|labell?ed|new|all|full|final|raw|copy|version|the|my|v|x)"
)


def split_kinds(names: Iterable[str]) -> dict[str, str]:
    """Which of the names in a folder are those of splits, and of which.

    Other words may stand beside a split's if they are the same of training and another split: `pets_train` is a name of
    a split beside `pets_test`, and alone it is not.

    Args:
        names: All names in the folder.

    Returns:
        `TRAINING`, `VALIDATION`, `TEST` or `EVALUATION` by name, without names of anything else.
    """
    read = {name: parts for name in names if (parts := _read(name))}
    kinds = defaultdict(set)
    for kind, others in read.values():
        kinds[others].add(kind)
    return {
        name: kind
        for name, (kind, others) in read.items()
        if not others or (TRAINING in kinds[others] and len(kinds[others]) > 1)
    }


def refuse_splits_as_classes(names: Sequence[str], where: str) -> None:
    """Raises ValueError where all classes have names of splits, training among them; `where` says whose they are."""
    kinds = split_kinds(names)
    if len(set(kinds.values())) > 1 and TRAINING in kinds.values() and len(kinds) == len(names):
        named = " and ".join(f"'{name}'" for name in names)
        raise InvalidValueError(
            f"the classes of {where} would be {named}, which are names of splits; put the images of each class into a "
            "folder of its name in each split, or rename a class that is called so."
        )


def _read(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The split that a name has a word for, and its other words that matter; None without such a word."""
    kinds, others = set(), []
    for word in re.findall(r"[^\W\d_]+", name.casefold()):
        kind = next(
            (kind for kind, words in _SPLITS.items() if re.fullmatch(f"{_REST}*(?:{words}){_REST}*", word)), None
        )
        if kind is not None:
            kinds.add(kind)
        elif not re.fullmatch(f"{_REST}+", word):
            others.append(word)
    if kinds == {TRAINING, VALIDATION}:  # both of them: train_val
        kinds = {TRAINING}
    return (kinds.pop(), tuple(others)) if len(kinds) == 1 else None

"""Recognizes the names of splits in any usual spelling: `Training`, `test_set`, `images_train`, `val2017`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from keras_crossvit._internal.errors import InvalidValueError

TRAINING, VALIDATION, TEST = "training", "validation", "test"
EVALUATION = "evaluation"  # means the test split beside a validation split, and the validation split otherwise
_WORDS = {
    TRAINING: "train|training|trainval|trn",
    VALIDATION: "val|valid|validation|dev|development|heldout|holdout",
    TEST: "test|testing|tst",
    EVALUATION: "eval|evaluation",
}
# Words beside the split's word that carry no meaning; the letters are those of `x_train` and `train_v2`.
_FILLERS = (
    "(?:sets?|data|datasets?|images?|imgs?|pictures?|pics?|photos?|splits?|subsets?|part|folders?|dir|files?|samples?|"
    "examples?|classes|labell?ed|new|all|full|final|raw|copy|version|the|my|v|x)"
)
# Longer ones are names of no split. A pattern of repeated words takes time that doubles with each.
_LONGEST_WORD = 40


def split_kinds(names: Iterable[str]) -> dict[str, str]:
    """Returns which of the names in a folder are names of splits, and of which.

    Other words may stand beside the split's word if they are the same for training and another split: `pets_train` is
    a split beside `pets_test`, but not by itself.

    Args:
        names: All names in the folder.

    Returns:
        `TRAINING`, `VALIDATION`, `TEST` or `EVALUATION` by name, without the other names.
    """
    parsed = {name: parts for name in names if (parts := _parse(name))}
    kinds = defaultdict(set)
    for kind, others in parsed.values():
        kinds[others].add(kind)
    return {
        name: kind
        for name, (kind, others) in parsed.items()
        if not others or (TRAINING in kinds[others] and len(kinds[others]) > 1)
    }


def refuse_splits_as_classes(names: Sequence[str], where: str) -> None:
    """Raises ValueError if all class names are names of splits, including training."""
    kinds = split_kinds(names)
    if len(set(kinds.values())) > 1 and TRAINING in kinds.values() and len(kinds) == len(names):
        named = " and ".join(f"'{name}'" for name in names)
        raise InvalidValueError(
            f"The classes of {where} would be {named}, which are names of splits. Put the images of each class into a "
            "folder of its name in each split, or rename one of the classes."
        )


def _parse(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Returns the split that a name has a word for, and its other words with a meaning; None without such a word."""
    kinds, others = set(), []
    for word in re.findall(r"[^\W\d_]+", name.casefold()):
        if len(word) > _LONGEST_WORD:
            others.append(word)
            continue
        patterns = {kind: f"{_FILLERS}*(?:{words}){_FILLERS}*" for kind, words in _WORDS.items()}
        kind = next((kind for kind, pattern in patterns.items() if re.fullmatch(pattern, word)), None)
        if kind is not None:
            kinds.add(kind)
        elif not re.fullmatch(f"{_FILLERS}+", word):
            others.append(word)
    if kinds == {TRAINING, VALIDATION}:  # as in train_val
        kinds = {TRAINING}
    return (kinds.pop(), tuple(others)) if len(kinds) == 1 else None

"""What is written as a table of labels is read as it was."""

import csv
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_crossvit.pipeline.label_table import read_label_table
from keras_crossvit.pipeline.split_names import TRAINING, VALIDATION, split_kinds

# Names with commas, quotes and other scripts; a table's cells have no white space at their ends, and no line breaks.
names = (
    st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" ,;\"'"), min_size=1, max_size=12)
    .map(str.strip)
    .filter(lambda name: name and name.lower() not in ("file", "split") and not name.startswith("\ufeff"))
)


@given(st.lists(names, min_size=1, max_size=5, unique=True), st.data())
def test_classes_files_and_labels_are_read_as_written(class_names, data):
    rows = data.draw(
        st.lists(
            st.lists(st.sampled_from([0, 1]), min_size=len(class_names), max_size=len(class_names)),
            min_size=1,
            max_size=5,
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["file", *class_names], *([f"{i}.jpg", *row] for i, row in enumerate(rows))])
        table = read_label_table(Path(folder), Path(folder))
        assert table.class_names == class_names
        assert table.files == [str(Path(folder, f"{i}.jpg")) for i in range(len(rows))]
    np.testing.assert_array_equal(table.labels, rows)


@given(
    st.text("abcdefghij", min_size=1, max_size=8),
    st.sampled_from(["_", "-", " "]),
    st.sampled_from([str.upper, str.title, str.lower]),
)
def test_a_split_is_recognized_beside_another_with_the_same_words(word, joint, spell):
    assume(not split_kinds([word]))
    training, validation = (spell(f"{word}{joint}{split}") for split in ("train", "val"))
    assert split_kinds([training, validation]) == {training: TRAINING, validation: VALIDATION}
    assert not split_kinds([training])

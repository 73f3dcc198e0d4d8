import pytest

from keras_crossvit.explaining.gallery import Gallery


def test_what_a_killed_command_has_begun_is_removed(tmp_path):
    (tmp_path / "out" / ".unfinished-1").mkdir(parents=True)
    Gallery(tmp_path / "out", {})
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="already exists"):
        Gallery(tmp_path, {})

"""Names from files, tables, and atomic writing under kills, interrupts and links."""

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from keras_crossvit._internal.errors import OperationError
from keras_crossvit._internal.files import atomic_write, inside, remove_unfinished


@pytest.mark.parametrize(
    "name", ["a.jpg", "cats/1.jpg", "./a.jpg", "not there.jpg", "写真 $x$.jpg", "..a", "link", "loop"]
)
def test_names_inside_a_folder_are_joined(tmp_path, name):
    (tmp_path / "cats").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "cats")
    (tmp_path / "loop").symlink_to("loop")
    assert inside(tmp_path, name, tmp_path / "names.csv") == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../a.jpg", "cats/../../a.jpg", "cats/..", "/etc/passwd", "//server/a", "a\0.jpg"),
        *("\ud800.jpg", "C:a.jpg", "C:/a.jpg", "C:\\a.jpg", "..\\a.jpg", "cats\\a.jpg", "\\\\server\\a"),
        *("out", "out/a.jpg", "up/b.jpg", "self"),
        *(None, 3, ["a.jpg"]),
    ],
)
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    (folder / "up").symlink_to(os.pardir)
    (folder / "self").symlink_to(os.curdir)
    with pytest.raises(ValueError, match="names") as refused:
        inside(folder, name, folder / "names.csv")
    assert repr(name) in str(refused.value)
    assert str(folder / "names.csv") in str(refused.value)


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert inside(tmp_path / "link", "a.jpg", "here") == tmp_path / "link" / "a.jpg"


def test_errors_may_name_a_line_and_stay_short(tmp_path):
    with pytest.raises(ValueError, match=r"^'labels.csv', line 3 names ") as refused:
        inside(tmp_path, "../" + "a" * 100_000, "'labels.csv', line 3")
    assert len(str(refused.value)) < 1000


GROUPS = {
    "a file": ["model.onnx"],
    "a file with a note": ["model.tflite", "model.tflite.export_report.json"],
    "a file with a part": ["model.xml", "model.bin"],
    "a file with a part and a note": ["model.xml", "model.bin", "model.xml.export_report.json"],
}


class Cut(BaseException):
    pass


def write(folder, names, content):
    with atomic_write(folder / names[0]) as unfinished:
        for name in names:
            unfinished.with_name(name).write_text(content)


def contents(folder, names):
    return [(folder / name).read_text() if (folder / name).exists() else None for name in names]


def cut_at(monkeypatch, number, *, killed):
    """Lets the move of this number fail, and of a process that is killed everything after it."""
    moves = itertools.count(1)
    replace = Path.replace

    def cut(self, target):
        count = next(moves)
        if count == number or (killed and count > number):
            raise Cut
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", cut)
    if killed:
        monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
        monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)


@pytest.mark.parametrize("names", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("existed", [True, False])
def test_a_kill_between_two_moves_never_mixes_old_and_new(names, number, existed, tmp_path, monkeypatch):
    if existed:
        write(tmp_path, names, "old")
    with monkeypatch.context() as patch:
        cut_at(patch, number, killed=True)
        try:
            write(tmp_path, names, "new")
        except Cut:
            assert contents(tmp_path, names) != ["new"] * len(names)
        else:
            assert contents(tmp_path, names) == ["new"] * len(names)
    main, *companions = contents(tmp_path, names)
    if main is not None:
        assert set(companions) <= {main, None}
        assert names[1:2] != ["model.bin"] or companions[0] == main
    else:
        assert not existed or "model.bin" in names


@pytest.mark.parametrize("names", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("existed", [True, False])
def test_an_interrupt_between_two_moves_leaves_old_or_new(names, number, existed, tmp_path, monkeypatch):
    if existed:
        write(tmp_path, names, "old")
    before = contents(tmp_path, names)
    with monkeypatch.context() as patch:
        cut_at(patch, number, killed=False)
        try:
            write(tmp_path, names, "new")
        except Cut:
            main, *companions = contents(tmp_path, names)
            is_new = main == "new" and set(companions) <= {"new", None}  # the note is not there yet
            assert [main, *companions] == before or is_new
    assert not list(tmp_path.glob(".unfinished-*"))


def test_a_second_exclusive_writer_of_a_path_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    with atomic_write(path, exclusive=True) as unfinished:
        with pytest.raises(OperationError, match=r"Another process is writing '.*model\.onnx'"):
            write_exclusively(path, "second")
        write_exclusively(path.with_name("model.onnx.txt"), "other")  # another path is no obstacle
        unfinished.write_text("first")
    assert path.read_text() == "first"
    write_exclusively(path, "third")
    assert path.read_text() == "third"
    assert not list(tmp_path.glob(".unfinished-*"))


def test_a_relative_path_has_one_exclusive_writer(tmp_path, monkeypatch):
    made = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **options: str(Path(made(**options)).resolve()))  # as Python 3.12
    monkeypatch.chdir(tmp_path)
    write_exclusively(Path("model.onnx"), "written")
    assert Path("model.onnx").read_text() == "written"


def write_exclusively(path, content):
    with atomic_write(path, exclusive=True) as unfinished:
        unfinished.write_text(content)


def test_leftovers_of_a_killed_writer_are_not_another_process(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Cut), atomic_write(tmp_path / "model.onnx", exclusive=True):
            raise Cut
    assert list(tmp_path.glob(".unfinished-*"))
    write_exclusively(tmp_path / "model.onnx", "new")
    assert (tmp_path / "model.onnx").read_text() == "new"


def test_a_folder_is_not_replaced_and_the_old_file_stays(tmp_path):
    (tmp_path / "model.xml").write_text("old")
    (tmp_path / "model.bin" / "deep").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write(tmp_path, GROUPS["a file with a part"], "new")
    assert (tmp_path / "model.xml").read_text() == "old"
    assert (tmp_path / "model.bin" / "deep").is_dir()


@pytest.mark.parametrize("names", GROUPS.values(), ids=GROUPS)
def test_links_are_replaced_not_followed(names, tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out").mkdir()
    for name, target in zip(names, ("precious", "nowhere", "precious"), strict=False):
        (tmp_path / "out" / name).symlink_to(tmp_path / target)
    write(tmp_path / "out", names, "new")
    assert contents(tmp_path / "out", names) == ["new"] * len(names)
    assert not any((tmp_path / "out" / name).is_symlink() for name in names)
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_what_a_killed_process_left_below_a_folder_is_removed(tmp_path):
    (tmp_path / "files" / ".unfinished-1").mkdir(parents=True)
    (tmp_path / "elsewhere" / ".unfinished-2").mkdir(parents=True)
    (tmp_path / "files" / "link").symlink_to(tmp_path / "elsewhere")
    remove_unfinished(tmp_path / "files")
    assert [each.name for each in (tmp_path / "files").iterdir()] == ["link"]
    assert (tmp_path / "elsewhere" / ".unfinished-2").exists()

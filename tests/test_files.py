import os

import pytest

from keras_crossvit.files import inside, shown_name


@pytest.mark.parametrize(
    "name", ["a.jpg", "cats/1.jpg", "./a.jpg", "not there.jpg", "写真 $x$.jpg", "..a", "link", "loop"]
)
def test_a_name_inside_a_folder_is_its_path(tmp_path, name):
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
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    (folder / "up").symlink_to(os.pardir)
    (folder / "self").symlink_to(os.curdir)
    with pytest.raises(ValueError, match="names") as refused:
        inside(folder, name, folder / "names.csv")
    assert repr(name) in str(refused.value)
    assert str(folder / "names.csv") in str(refused.value)


def test_a_folder_that_is_a_link_holds_what_lies_there(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert inside(tmp_path / "link", "a.jpg", "here") == tmp_path / "link" / "a.jpg"


def test_an_error_may_say_the_line_and_stays_short(tmp_path):
    with pytest.raises(ValueError, match=r"^'labels.csv', line 3 names ") as refused:
        inside(tmp_path, "../" + "a" * 100_000, "'labels.csv', line 3")
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("price $\\foo$", "price $\\foo$"),
        ("from $5 to $10", "from $5 to $10"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\x1b[2Jred\x9b", r"\x1b[2Jred\x9b"),
        ("caf\udce9", r"caf\udce9"),
        ("\u202egpj\u2066\u200f", r"\u202egpj\u2066\u200f"),
        ("a\u2028b", r"a\u2028b"),
        ("写真\u3000می\u200cکنم שלום 👩\u200d🔬", "写真\u3000می\u200cکنم שלום 👩\u200d🔬"),
        ("a" * 22 + "b" * 10, "a" * 22 + "b" * 10),
        ("a" * 200 + "b" * 50, "a" * 21 + "…" + "b" * 10),
    ],
)
def test_a_name_is_shown_on_one_line_as_it_is_written(name, shown):
    assert shown_name(name) == shown


def test_a_name_may_be_cut_to_any_length():
    for length in range(1, 40):
        assert len(shown_name("a" * 250, length)) == length

"""Names of strangers on a terminal, in tables, JSON and YAML, errors and log messages."""

import csv
import json
import logging

import pytest
import yaml

from keras_crossvit._internal.errors import FileError, InvalidValueError, MissingFileError
from keras_crossvit._internal.files import write_table
from keras_crossvit._internal.log import log_to_stdout, logger
from keras_crossvit._internal.user_text import csv_cell, json_text, one_line, printable, shown_name, utf_8

HIDDEN = (
    "\x1b]0;title\x07",
    "\x9b2J",
    "\u202egpj",
    "\u2066a\u2069",
    "a\x7f",
    "a\x85b",
    "a\u2028b",
    "\x00",
    "\udce9",
    "a\x0bb",
)


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
def test_names_are_shown_on_one_printable_line(name, shown):
    assert shown_name(name) == shown


def test_names_are_shortened_to_any_length():
    for length in range(1, 40):
        assert len(shown_name("a" * 250, length)) == length


@pytest.mark.parametrize("name", HIDDEN)
def test_nothing_hidden_is_left_in_a_text(name):
    for safe in (one_line(name), printable(name), csv_cell(name), json_text([name]), json_text({name: 1})):
        assert safe.isprintable()
    assert json.loads(json_text({name: name})) == {name: name}
    utf_8(name).encode()


def test_only_several_lines_keep_line_feeds():
    assert printable("a\nb\r\n\tc") == "a\nb\\r\n\\tc"
    assert one_line("a\nb") == "a\\nb"
    assert "\n" in json_text({"a\nb": 1}, indent=1)


@pytest.mark.parametrize("name", ["yes", "null", "1e3", "a: b", "# a", "{a}", "\u202eb", "a\nb", "*a", "写真", "'\"\\"])
def test_yaml_reads_the_same_text(name):
    assert yaml.safe_load(f"name: {json_text(name)}") == {"name": name}


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ('=HYPERLINK("http://a")', '\'=HYPERLINK("http://a")'),
        ("+1", "'+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("\u3000=1", "'\u3000=1"),
        ("\uff1d1", "'\uff1d1"),
        ("\t=1", "\\t=1"),
        ("\r=1", "\\r=1"),
        ("\n=1", "\\n=1"),
        ("a;=1;-2", "a;'=1;'-2"),
        ("a-b=c", "a-b=c"),
        ("'=", "'="),
        ("", ""),
        (-0.5, -0.5),
        (None, None),
    ],
)
def test_no_cell_starts_a_formula(name, cell):
    assert csv_cell(name) == cell


def test_tables_hold_no_formula_or_control_character(tmp_path):
    write_table(tmp_path / "table.csv", [{"=head": "=1+1", "b": -1.5}, {"b": 2, "=head": "\u202e\r\n@x"}])
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["'=head", "b"], ["'=1+1", "-1.5"], ["\\u202e\\r\\n@x", "2"]]


@pytest.mark.parametrize("kind", [InvalidValueError, MissingFileError, FileError])
def test_errors_are_printable_lines(kind):
    error = kind("class '\x1b[31m\u202eb\ndog' is empty")
    assert str(error) == "class '\\x1b[31m\\u202eb\\ndog' is empty"
    assert str(FileError(28, "a\x07b")) == "[Errno 28] a\\x07b"


def test_log_messages_are_printable_whatever_prints_them(capsys, caplog):
    caplog.set_level(logging.INFO, logger="keras_crossvit")
    with log_to_stdout():
        logger.info("class '%s' of %d%%", "\x1b[2J\nepoch 9/9", 50)
        logger.info("two\nlines\x9b100%")
        logger.info("failed: %s", OSError("\u202ea\nb"))
    expected = ["class '\\x1b[2J\\nepoch 9/9' of 50%", "two", "lines\\x9b100%", "failed: \\u202ea\\nb"]
    shown = capsys.readouterr().out.splitlines() or "\n".join(caplog.messages).splitlines()
    assert shown == expected

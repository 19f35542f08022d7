"""Annotation files: what is malformed is named with its file, however it is malformed, and nothing is guessed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guidance.data.reading.files import (
    as_box,
    as_integer,
    as_number,
    box_from_text,
    read_csv,
    read_json,
    read_text,
)
from guidance.data.reading.xml_files import read_xml_annotation
from tests.support.data.layouts import OBJECT, write_text


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), (" -2.5 ", -2.5), ("+.5", 0.5), ("7.", 7.0), ("1e3", 1000.0)])
def test_decimal_numbers(text: str, value: float) -> None:
    assert as_number(text) == value


@pytest.mark.parametrize("text", ["", "1_0", "nan", "inf", "-Infinity", "٣", "0x10", "1,5", "1 2", "1e", "--1"])
def test_what_python_alone_takes_for_a_number_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="no decimal number"):
        as_number(text)
    with pytest.raises(ValueError, match="no whole number"):
        as_integer(text)
    with pytest.raises(ValueError, match=r"here is .*, expected four finite numbers"):
        box_from_text(["1", "2", "3", text], "here")


@pytest.mark.parametrize(
    "value",
    ["1234", [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, "4"], [1, 2, 3, True], [1, 2, 3, None], [1, 2, 3, 10**400],
     [1, 2, 3, float("nan")], [1, 2, 3, float("inf")], {"x": 1}, 5, None, [[1], 2, 3, 4]],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_a_box_is_a_list_of_four_finite_numbers(value: object) -> None:
    with pytest.raises(ValueError, match=r"^here is .*, expected four finite numbers$") as raised:
        as_box(value, "here")
    assert len(str(raised.value)) < 200


def test_a_box_of_text_and_of_numbers() -> None:
    assert as_box((1, 2.5, 3, -4), "x") == box_from_text(["1", "2.5", "3", "-4"], "x") == (1.0, 2.5, 3.0, -4.0)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbf1 2\n")
    assert read_text(tmp_path / "x.txt") == "1 2\n"
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "x.json") == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "not valid JSON .*nested too deep"),
        (b'{"a": ' * 100_000, "not valid JSON .*nested too deep"),
        (b"1" * 5000, "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
    ],
    ids=["list", "dict", "number", "bytes", "half", "empty"],
)
def test_malformed_json_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.json is {message}") as raised:
        read_json(tmp_path / "x.json")
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n" + b"x" * 200_000 + b",2\n", r"line \d of .*x\.csv is no CSV \(field larger"),
        (b"a,c\n1,2\n", "has no column b; expected the columns a, b"),
        (b"", "has no column a, b"),
        (b"a,b\n\xff,2\n", r"x\.csv is no text in UTF-8 \(byte 4\)"),
    ],
    ids=["long", "columns", "empty", "bytes"],
)
def test_malformed_tables_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_csv(tmp_path / "x.csv", ("a", "b"))


XML = "<annotation>{size}" + OBJECT.format(name="cat", difficult=0, box=(1, 2, 3, 4)) + "</annotation>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<?xml version='1.0' encoding='nope'?>" + XML, "not well-formed XML .*nope"),
        ("<?xml version='1.0' encoding='utf-7'?>" + XML, "not well-formed XML"),
        ("<annotation>", "not well-formed XML"),
        ("", "not well-formed XML"),
        ('<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + XML, "declares a document type"),
        (XML.replace("<xmin>1", "<xmin>1_0"), "no <bndbox> with numbers"),
        (XML.replace("<ymax>4</ymax>", ""), "no <bndbox> with numbers"),
        (XML.replace(">cat<", ">cow<"), "class 'cow' in .* is not one of ours: cat"),
    ],
)
def test_malformed_xml_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s).*x\.xml.*{message}|{message}"):
        read_xml_annotation(write_text(tmp_path / "x.xml", content), {"cat": 0}, "ours")


@pytest.mark.parametrize(
    ("size", "expected"),
    [("", None), ("<size><width>30</width><height>20</height></size>", (20, 30)), ("<size><width>0</width></size>", None),
     ("<size><width>0</width><height>20</height></size>", None), ("<size><width>x</width><height>2</height></size>", None)],
)  # fmt: skip
def test_the_size_of_an_annotation_may_be_missing(tmp_path: Path, size: str, expected: tuple[int, int] | None) -> None:
    found = read_xml_annotation(write_text(tmp_path / "x.xml", XML.format(size=size)), {"cat": 0}, "ours")
    assert found.size == expected
    assert [item.box for item in found.objects] == [(1, 2, 3, 4)]


def test_what_is_no_file_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_text, read_json):
        with pytest.raises(ValueError, match=r"pipe is no file but a folder, a pipe or a device"):
            read(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"annotation .*pipe is no file"):
        read_xml_annotation(tmp_path / "pipe", {}, "ours")
    with pytest.raises(ValueError, match=r"annotation .*none does not exist"):
        read_xml_annotation(tmp_path / "none", {}, "ours")

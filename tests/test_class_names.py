import pytest

from rexnet.class_names import class_name, match_classes, readable_names


def test_the_name_of_a_class_is_composed_text() -> None:
    assert class_name("cafe\u0301 12") == "caf\xe9 12"
    for text in ("caf\udce9", "a\nb", "\x1b[2J"):
        with pytest.raises(ValueError, match=r"is not UTF-8 text|contains control characters"):
            class_name(text)


def test_names_that_differ_in_marks_or_symbols_are_different() -> None:
    assert match_classes(("\u0915\u093f", "C++"), ("\u0915\u0940", "C"), 2) == []
    assert match_classes(("cafe\u0301", "\U0001f408"), ("\U0001f408", "Caf\xe9"), 2) == [(0, 1), (1, 0)]


def test_the_same_text_comes_before_similar_text() -> None:
    assert match_classes(("a-b", "A_B"), ("A_B", "a-b", "c"), 3) == [(0, 1), (1, 0)]


def test_names_match_apart_from_case_and_punctuation() -> None:
    assert match_classes(("Black_footed-Albatross", "crow"), ("crow", "black footed albatross"), 2) == [(0, 1), (1, 0)]


def test_names_that_two_classes_share_match_neither() -> None:
    assert match_classes(("a b", "c"), ("a_b", "A-B", "c"), 3) == [(1, 2)]


def test_imagenets_classes_go_by_number_and_by_each_english_name() -> None:
    names = ("n01440764", "Carassius_auratus", "daisy", "crane", "my own class")
    assert match_classes(names, None, 1000) == [(0, 0), (1, 1), (2, 985)]


def test_a_source_that_tells_no_names_matches_nothing() -> None:
    assert match_classes(("daisy",), None, 999) == []


def test_people_read_english_names_where_imagenet_has_numbers() -> None:
    assert readable_names(("n01440764", "n03126707", "my own class")) == ("tench", "crane (n03126707)", "my own class")
    assert readable_names(("tench", "7")) == ("tench", "7")

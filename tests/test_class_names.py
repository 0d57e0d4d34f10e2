from rexnet.class_names import match_classes, readable_names


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

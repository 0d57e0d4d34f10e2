"""Holds the limits that keep the code small and its rooms apart; `pytest -s tests/test_house.py` prints the figures."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "rexnet"
FILES = sorted(SOURCE.rglob("*.py"))

LINES = 16_925  # of everything outside the optional rooms
ROOMS = {
    "remote": (610, "src/rexnet/data/remote"),
    "engines": (200, "src/rexnet/engines"),
    "studies": (2_015, "src/rexnet/studies", "src/rexnet/cli/study_*", "src/rexnet/cli/sweep_*", "configs/studies"),
    "detection": (
        2_310,
        "src/rexnet/detection",
        "src/rexnet/config/detection_schema.py",
        "src/rexnet/cli/detector_*",
        "configs/detect",
    ),
}  # optional rooms with limits of their own, and all that belongs to them
CONFIG_SIGNATURES = 30  # functions that take the whole Config; all others take the values they need

QUESTION = re.compile(r"\s*(What|Whether|How|Which|Where)\b")
LIGHTNING = re.compile(
    r"\b(fit_loop|epoch_loop|val_loop|batch_progress|_child_processes|_evaluation_loop|_broadcast_sigterm\w*)\b"
    r"|\b_\w+_connector\b|\b(trainer|strategy|launcher)\._[a-z]"
)
VAGUE = re.compile(r"(^|_)(utils?|helpers?|common|misc)(_|$)")


def test_the_product_stays_small() -> None:
    templates = [path for suffix in (".jinja", ".css") for path in SOURCE.rglob(f"*{suffix}")]
    product = [*FILES, *templates, *(ROOT / "configs").rglob("*.yaml")]
    room_of = {
        path: room
        for room, (_, *patterns) in ROOMS.items()
        for pattern in patterns
        for found in ROOT.glob(pattern)
        for path in (found, *found.rglob("*"))
    }
    lines = Counter[str]()
    for path in product:
        lines[room_of.get(path, "product")] += len(path.read_text().splitlines())
    limits = {"product": LINES} | {room: limit for room, (limit, *_) in ROOMS.items()}
    print("", *(f"{lines[room]:,} lines of {room}, at most {limit:,}" for room, limit in limits.items()), sep="\n")
    assert all(lines[room] <= limit for room, limit in limits.items())


def test_few_functions_take_the_whole_config() -> None:
    found = [f"{place(path)}: {name}" for path in FILES for name in takers_of_config(path)]
    print(f"\n{len(found)} signatures take the whole Config, at most {CONFIG_SIGNATURES}", *found, sep="\n  ")
    assert len(found) <= CONFIG_SIGNATURES


def test_docstrings_name_the_thing_or_begin_with_a_verb() -> None:
    found = [f"{place(path)}: {text}" for path in FILES for text in docstrings(path) if QUESTION.match(text)]
    print(f"\n{len(found)} docstrings begin with a question word, at most 0", *found, sep="\n  ")
    assert found == []


def test_one_file_touches_the_internals_of_lightning() -> None:
    found = [place(path) for path in FILES if LIGHTNING.search(without_docstrings(path))]
    print(f"\n{len(found)} file touches Lightning's internals, at most 1", *found, sep="\n  ")
    assert found == ["system/lightning_internals.py"]


def test_each_name_says_which_file_it_is() -> None:
    names = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert [name for name, number in names.items() if number > 1] == []
    assert [place(path) for path in FILES if any(VAGUE.search(part.removesuffix(".py")) for part in path.parts)] == []


def place(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def takers_of_config(path: Path) -> Iterator[str]:
    """Yields the functions with an argument annotated `Config`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if any(ast.unparse(each.annotation) in ("Config", "'Config'") for each in arguments if each.annotation):
                yield node.name


def docstrings(path: Path) -> Iterator[str]:
    """Yields every string that stands alone as a statement: docstrings of modules, classes, functions and fields."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text.partition("\n")[0]


def without_docstrings(path: Path) -> str:
    """Returns the code of a file without comments and docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                node.value = ast.Constant(value=None)
    return ast.unparse(tree)

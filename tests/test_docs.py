"""What README and docs/ promise: every link leads somewhere, every command line is one that the program takes."""

import re
import shlex
from pathlib import Path

import pytest

from rexnet.cli import parse
from rexnet.config import load_config
from rexnet.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def commands() -> list[tuple[str, bool]]:
    """Every shown command line of ours, and whether the page shows its refusal."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            joined = block.replace("\\\n", " ")
            for line, after in re.findall(r"^(?:\(\d\) |    )?\$ (.*)\n(?=(.*))", joined, re.MULTILINE):
                found.append((line, after.startswith("error:")))
    ours = r"(?:\w+=\w+ )*(?:rexnet |(?:python|torchrun --nproc-per-node \d) (?:train|evaluate)\.py)"
    return [(line, refused) for line, refused in found if re.match(ours, line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in headings(linked), target
    for named in re.findall(r"[` ]((?:src|tests|benchmarks|docs|configs)/[\w/.]+)`?", page.read_text()):
        assert (ROOT / named).exists(), named


def test_the_pages_show_every_command() -> None:
    shown = {re.search(r"rexnet (\w+)|(train|evaluate)\.py", line).group(1) for line, _ in commands()}
    assert shown >= {"train", "evaluate", "predict", "report", "export", "publish", "runs", "models", "data", "doctor"}


@pytest.mark.parametrize(("line", "refused"), commands())
def test_a_shown_command_is_one_that_the_program_takes(line: str, refused: bool) -> None:
    words = shlex.split(line, comments=True)
    start = next(number for number, word in enumerate(words) if word == "rexnet" or word.endswith(".py"))
    arguments = [*([words[start][:-3]] if words[start].endswith(".py") else []), *words[start + 1 :]]
    options = parse(arguments)
    config = getattr(options, "config", None)
    if config is None or not hasattr(options, "overrides"):
        return
    if refused:
        with pytest.raises(ConfigError):
            load_config(config, options.overrides)
    else:
        load_config(config, options.overrides)

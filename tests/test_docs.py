"""Holds the promises of README, CONTRIBUTING, docs/ and recipe headers: links lead somewhere, commands parse."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
import yaml

from rexnet.cli import COMMANDS, build_parser, main, parse
from rexnet.config import RunConfig, load_config
from rexnet.errors import ConfigError
from rexnet.studies.sweep_space import parse_space

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
OURS = re.compile(r"(?:\w+=\w+ )*(?:rexnet |(?:python|torchrun(?: +--[\w-]+ \S+)+) +(?:train|evaluate)\.py)")


def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def console_lines() -> list[tuple[str, bool]]:
    """Every shown command line, and whether the page shows its refusal."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            joined = block.replace("\\\n", " ")
            for line, after in re.findall(r"^(?:\(\d\) |    )?\$ (.*)\n(?=(.*))", joined, re.MULTILINE):
                found.append((line, after.startswith("error:")))
    return found


def commands() -> list[tuple[str, bool]]:
    """Every shown command line of ours, also those in the headers of recipes and in help texts."""
    recipes = [path.read_text() for path in (ROOT / "configs").rglob("*.yaml")]
    headers = [line for text in recipes for line in re.findall(r"^# Command +(.*)$", text, re.MULTILINE)]
    helps = [command.epilog for command in subcommands(build_parser()).values() if command.epilog]
    examples = [text.removeprefix("example: ").partition(";")[0] for text in helps]
    lines = [*console_lines(), *((line, False) for line in (*headers, *examples))]
    return [(line, refused) for line, refused in lines if OURS.match(line)]


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    groups = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return groups[0] if groups else {}


def scripts() -> list[str]:
    """Every shown command line of a benchmark."""
    return [line for line, _ in console_lines() if line.startswith("python benchmarks/")]


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
        assert (ROOT / named).exists() or "NAME" in named, named


def test_the_pages_show_every_command() -> None:
    shown = {re.search(r"rexnet (\w+)|(train|evaluate)\.py", line).group(1) for line, _ in commands()}
    assert shown >= {*COMMANDS} - {"ray"}  # in docs/scale.md, with a cluster


@pytest.mark.parametrize(("line", "refused"), commands())
def test_a_shown_command_is_one_that_the_program_takes(line: str, refused: bool) -> None:
    words = shlex.split(line, comments=True)
    start = next(number for number, word in enumerate(words) if word == "rexnet" or word.endswith(".py"))
    arguments = [*([words[start][:-3]] if words[start].endswith(".py") else []), *words[start + 1 :]]
    options = parse(arguments)
    config = getattr(options, "config", None)
    if config is None or not hasattr(options, "overrides"):
        return
    if words[start + 1] == "sweep":
        parse_space(config, options.overrides)
        return
    if refused:
        with pytest.raises(ConfigError):
            load_config(config, options.overrides, RunConfig)
    else:
        load_config(config, options.overrides, RunConfig)


@pytest.mark.parametrize(
    "page", PAGES[:2] + PAGES[3:], ids=lambda page: page.name
)  # a changelog names what was removed
def test_commands_within_the_text_exist_with_their_options(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`(rexnet [^`]+)`", text):
        parser = build_parser()
        for word in span.split()[1:]:
            if word.startswith("--"):
                assert word in parser._option_string_actions, span
            if subcommands(parser):
                assert word in subcommands(parser), span
                parser = subcommands(parser)[word]


def test_pods_run_a_command_that_the_program_takes() -> None:
    job, volume = (yaml.safe_load((ROOT / "deploy" / name).read_text()) for name in ("trainjob.yaml", "volume.yaml"))
    trainer = job["spec"]["trainer"]
    assert trainer["command"] == ["torchrun", "train.py"]
    options = parse(["train", *trainer["args"]])
    config = load_config(options.config, options.overrides)
    assert config.data.batch_size % (trainer["numNodes"] * trainer["numProcPerNode"]) == 0
    pod = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]["template"]
    claim = pod["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claim == volume["metadata"]["name"]


@pytest.mark.parametrize("line", scripts())
def test_a_shown_benchmark_exists_with_its_options(line: str) -> None:
    _, script, *arguments = shlex.split(line, comments=True)
    source = (ROOT / script).read_text()
    for option in (word for word in arguments if word.startswith("--")):
        assert f'"{option}"' in source, option


def test_a_shown_error_is_what_the_command_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    command, message = re.search(r"^\$ python (train\.py .*)\n(error: (?:.*\n)+?)\$ ", text, re.MULTILINE).groups()
    monkeypatch.chdir(ROOT)  # where configs/ is found by this name
    assert main(["train", *shlex.split(command)[1:]]) == 2
    assert capsys.readouterr().err == message

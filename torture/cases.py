"""The cases of `make torture`; each yields its name, True if the promise was kept, and a figure."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from rexnet.checkpoints.checkpoint import read_checkpoint
from rexnet.checkpoints.durable import find_damage
from rexnet.errors import CheckpointError
from rexnet.training.checkpoint_io import DurableCheckpointIO
from torture.elastic import elastic
from torture.runs import ROOT, command, end, environment, only_run, outcome, ranks, same, start, train

Outcome = tuple[str, bool, str]
TERM, INT, USR1, KILL = (int(getattr(signal, f"SIG{name}")) for name in ("TERM", "INT", "USR1", "KILL"))


def resumes(folder: Path, images: Path) -> Iterator[Outcome]:
    """Stops and resumes a run; the result must equal that of an uninterrupted run."""
    full = ("trainer.early_stopping_patience=9", "trainer.keep_best=2")
    plans: dict[str, tuple[tuple[str, ...], list[dict[str, Any]], tuple[str, ...]]] = {
        "in the first epoch": (full, [{"step": 0, "act": TERM}], ()),
        "at an epoch's last step": (full, [{"step": 2, "act": TERM}], ()),
        "in validation": (full, [{"step": 3, "act": TERM, "place": "validation"}], ()),
        "at an epoch's first step": (full, [{"step": 3, "act": TERM}], ()),
        "three times, with gradient accumulation": (
            (*full, "trainer.accumulate=2"),
            [{"step": 1, "act": TERM}, {"step": 4, "act": INT}, {"step": 6, "act": USR1, "place": "validation"}],
            (),
        ),
        "with AdamW, without EMA": (
            ("optimizer.name=adamw", "optimizer.lr=0.001", "schedule.warmup_lr=0", "ema=null"),
            [{"step": 4, "act": TERM}],
            (),
        ),
        "with 2 loader processes, then none": (
            ("data.num_workers=2",),
            [{"step": 4, "act": TERM}],
            ("data.num_workers=0",),
        ),
        "with loader processes restarted every epoch": (
            ("data.num_workers=2", "data.persistent_workers=false"),
            [{"step": 4, "act": TERM}],
            (),
        ),
        "with loader processes started by forkserver": (
            ("data.num_workers=1", "data.start_method=forkserver"),
            [{"step": 4, "act": TERM}],
            (),
        ),
        "with 2 processes": (("trainer.devices=2",), [{"step": 4, "rank": 1, "act": TERM}], ()),
    }
    wholes: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, (name, (settings, faults, later)) in enumerate(plans.items()):
        if settings not in wholes:
            straight = folder / f"whole{number}"
            assert train(straight, images, *settings).returncode == 0
            wholes[settings] = outcome(only_run(straight))
        stopped, codes, more = folder / f"stopped{number}", [], {}
        for fault in faults:
            codes.append(train(stopped, images, *settings, FAULT=fault, **more).returncode == 128 + fault["act"])
            more = {"RESUME": str(only_run(stopped))}
        codes.append(train(stopped, images, *settings, *later, **more).returncode == 0)
        equal = same(wholes[settings], outcome(only_run(stopped)))
        yield f"stopped {name}, resumed: equal bits", all(codes) and equal, "equal" if equal else "DIFFERENT"


def kills(folder: Path, images: Path) -> Iterator[Outcome]:
    """Kills a run at ten random moments and resumes it from its newest intact checkpoint."""
    rng, settings = random.Random(0), ("schedule.epochs=30", "data.num_workers=1")
    assert train(folder / "straight", images, *settings).returncode == 0
    done = 0
    for _ in range(10):
        runs = list((folder / "killed").glob("*/checkpoints/last.ckpt"))
        more = {"RESUME": str(runs[0].parents[1])} if runs else {}
        process = start(command(folder / "killed", images, *settings), "Run folder", **more)
        time.sleep(rng.uniform(0.5, 4))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, KILL)
        process.communicate()
        done += 1
        if not runs:
            for empty in (folder / "killed").glob("*"):
                if not (empty / "checkpoints" / "last.ckpt").exists():
                    empty.rename(folder / f"empty{done}")
    runs = list((folder / "killed").glob("*/checkpoints/last.ckpt"))
    more = {"RESUME": str(runs[0].parents[1])} if runs else {}
    finished = train(folder / "killed", images, *settings, **more).returncode == 0
    equal = finished and same(outcome(only_run(folder / "straight")), outcome(only_run(folder / "killed")))
    yield f"killed at {done} random moments and resumed each time: equal bits", equal, "equal" if equal else "DIFFERENT"


def signals(folder: Path, images: Path) -> Iterator[Outcome]:
    """Sends SIGTERM to two processes, started by Lightning or by torchrun."""
    settings = ("trainer.devices=2", "schedule.epochs=999", "data.num_workers=1")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    plans = [("Lightning", target) for target in ("process 0", "process 1", "both", "the whole group")]
    plans += [("torchrun", target) for target in ("process 1", "its agent")]
    for number, (launcher, target) in enumerate(plans):
        arguments = command(folder / str(number), images, *settings)
        if launcher == "torchrun":
            arguments = [*torchrun, *arguments[1:]]
        process = start(arguments, "epoch   1/")
        by_rank = ranks(process)
        chosen = {"process 0": [by_rank[0]], "process 1": [by_rank[1]], "both": [by_rank[0], by_rank[1]]}
        for pid in chosen.get(target, []):
            os.kill(pid, TERM)
        if target == "the whole group":
            os.killpg(process.pid, TERM)
        if target == "its agent":
            process.terminate()
        code, seconds, said = end(process)
        last = only_run(folder / str(number)) / "checkpoints" / "last.ckpt"
        good = "Stopped by SIGTERM" in said and "ORPHANS" not in said and find_damage(last) is None and seconds <= 10
        expected = 143 if launcher == "Lightning" else 1  # torchrun reports its own
        name = f"SIGTERM to {target} ({launcher}, 2 processes): ends within 10 s, saved, no process left"
        yield name, good and code == expected, f"{seconds:.1f} s, exit code {code}"


def losses(folder: Path, images: Path) -> Iterator[Outcome]:
    """Loses one of two processes; the other must not wait for it."""
    settings = ("trainer.devices=2", "schedule.epochs=999")
    for rank, act in ((0, KILL), (1, KILL), (0, "raise"), (1, "raise")):
        arguments = command(folder / f"{rank}{act}", images, *settings)
        process = start(arguments, "Run folder", FAULT={"step": 4, "rank": rank, "act": act})
        code, seconds, said = end(process)
        what = "raises an error" if act == "raise" else "is killed"
        name = f"process {rank} of 2 {what}: all end, no process left"
        yield name, code not in (0, -1) and "ORPHANS" not in said, f"{seconds:.0f} s with start-up, exit code {code}"


def numbers(folder: Path, images: Path) -> Iterator[Outcome]:
    """Trains on NaN images."""
    one = train(folder / "one", images, FAULT={"step": 4, "act": "nan"})
    run = only_run(folder / "one")
    skipped = len((run / "skipped_steps.jsonl").read_text().splitlines())
    yield "one step of NaN: skipped, the run continues", one.returncode == 0 and skipped == 1, f"{skipped} skipped"
    for world in (1, 2):
        settings = (f"trainer.devices={world}", "trainer.max_bad_steps=3")
        fault = {"step": 4, "until": 99, "rank": world - 1, "act": "nan"}
        many = train(folder / f"many{world}", images, *settings, FAULT=fault)
        files = list(only_run(folder / f"many{world}").glob("checkpoints/*.ckpt"))
        states = [torch.load(file, weights_only=True)["state_dict"] for file in files]
        bad = sum(not all(value.isfinite().all() for value in state.values()) for state in states)
        good = many.returncode == 1 and bad == 0 and "3 steps in a row" in many.stderr
        where = "with 1 process" if world == 1 else f"on one of {world} processes"
        name = f"persistent NaN {where}: stopped after 3 steps, no non-finite file written"
        yield name, good, f"{bad} of {len(files)} files not finite" if bad else f"all {len(files)} files finite"


def content(megabytes: int, seed: int) -> dict[str, Any]:
    """Returns the content of a checkpoint of about this size."""
    generator = torch.Generator().manual_seed(seed)
    return {"rexnet": {}, "state_dict": {"w": torch.randn(megabytes * 250_000, generator=generator)}}


def same_values(path: Path, expected: dict[str, Any]) -> bool:
    """Returns True if a checkpoint loads with the expected weights, or is refused."""
    try:
        return torch.equal(read_checkpoint(path)["state_dict"]["w"], expected["state_dict"]["w"])
    except CheckpointError:
        return True


def saves(folder: Path, images: Path) -> Iterator[Outcome]:
    """Kills a process while it saves, with TMPDIR on another file system; damages files; fills and locks the disk."""
    rng, path, damaged, contents = random.Random(0), folder / "last.ckpt", 0, [content(10, seed) for seed in range(2)]
    io = DurableCheckpointIO()
    io.save_checkpoint(contents[0], path)
    os.environ["TMPDIR"] = "/dev/shm"
    for _ in range(50):
        pid = os.fork()
        if pid == 0:
            while True:
                for each in contents:
                    io.save_checkpoint(each, path)
        time.sleep(rng.uniform(0.0, 0.3))
        os.kill(pid, KILL)
        os.waitpid(pid, 0)
        damaged += find_damage(path) is not None
    del os.environ["TMPDIR"]
    yield "SIGKILL while saving, 50 times: last.ckpt is intact", damaged == 0, f"{damaged} of 50 damaged"
    io.save_checkpoint(content(1, 0), path)
    whole, missed, found = path.read_bytes(), 0, 0
    for place in (rng.randrange(8 * len(whole)) for _ in range(200)):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        found += find_damage(path) is not None
        missed += not (find_damage(path) or same_values(path, content(1, 0)))  # some bits of an archive mean nothing
    yield "200 flipped bits: found, or no value changes", missed == 0, f"{found} of 200 found, {missed} values changed"
    missed = 0
    for size in range(0, len(whole), len(whole) // 200):
        path.write_bytes(whole[:size])
        missed += find_damage(path) is None
    yield "truncated at 200 lengths: found", missed == 0, f"{missed} missed"
    path.write_bytes(whole)
    yield from disks(folder, io)


def disks(folder: Path, io: DurableCheckpointIO) -> Iterator[Outcome]:
    """Saves to a disk of 6 MB that fills up, and to one that becomes read-only, if this user may mount."""
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], check=False).returncode:
        return
    try:
        io.save_checkpoint(content(2, 0), disk / "last.ckpt")
        before = (disk / "last.ckpt").read_bytes()
        for name, size, prepare in (
            ("full disk", 5, []),
            ("read-only disk", 1, ["mount", "-o", "remount,ro", str(disk)]),
        ):
            if prepare:
                subprocess.run(prepare, check=True)
            try:
                io.save_checkpoint(content(size, 1), disk / "last.ckpt")
                said = "no error"
            except CheckpointError as error:
                said = str(error)
            kept = (disk / "last.ckpt").read_bytes() == before and find_damage(disk / "last.ckpt") is None
            files = len(list(disk.iterdir()))
            yield (
                f"{name}: an error, the previous file is unchanged",
                kept and "untouched" in said,
                f"{files} file{'s' if files > 1 else ''}, {'intact' if kept else 'DAMAGED'}",
            )
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def slurm(folder: Path, images: Path) -> Iterator[Outcome]:
    """Runs docs/slurm.sbatch with replacements of srun and scontrol, and sends the signals that SLURM sends."""
    tools, settings = folder / "bin", ["schedule.epochs=12", "data.num_workers=1"]
    tools.mkdir()
    (tools / "srun").write_text('#!/bin/bash\nshift\nexec "$@"\n')
    (tools / "python").write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    (tools / "scontrol").write_text(f'#!/bin/bash\necho "$@" >> {folder}/requeued\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    job = {"SLURM_JOB_ID": "77", "SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "1", "OMP_NUM_THREADS": "1"}
    small = [word for word in command(folder, images)[3:] if not word.startswith("trainer.runs_dir")]
    arguments = ["bash", str(ROOT / "docs" / "slurm.sbatch"), "--config", "finetune/folder.yaml", *small, *settings]
    inside = os.environ | job | {"PATH": f"{tools}:{os.environ['PATH']}"}
    codes, where = [], folder / "work"
    where.mkdir()
    for name in ("train.py", "configs"):
        (where / name).symlink_to(ROOT / name)
    for number, words in ((USR1, "epoch   1/"), (TERM, "epoch   4/")):
        process = subprocess.Popen(
            arguments,
            cwd=where,
            env=inside,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if words in line:
                break
        os.killpg(process.pid, number)  # to the script, the step and its loader processes, as SLURM does
        process.communicate()
        codes.append(process.returncode)
    last = subprocess.run(arguments, cwd=where, env=inside, check=False)
    requeued = (folder / "requeued").read_text().splitlines() == ["requeue 77"] * 2
    straight = train(folder / "straight", images, *settings)
    equal = straight.returncode == 0 and same(
        outcome(only_run(folder / "straight")), outcome(where / "runs" / "job-77")
    )
    good = codes == [138, 143] and last.returncode == 0 and requeued and equal
    figure = f"exit codes {codes[0]} and {codes[1]}; {'requeued both times' if requeued else 'NOT REQUEUED'}"
    yield "SLURM job signaled twice, requeued twice: equal bits", good, figure


def cluster(folder: Path, images: Path) -> Iterator[Outcome]:
    """Runs docs/slurm.sbatch on a real SLURM with two nodes, where that can be installed."""
    settings = ("schedule.epochs=40", "trainer.keep_best=1")
    arguments = command(folder, images, *settings)[3:]
    script = [str(ROOT / "torture" / "slurm.sh"), str(folder), sys.executable, "--config", "finetune/folder.yaml"]
    done = subprocess.run([*script, *arguments], env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr.strip())
        if done.returncode != 3:
            yield "real SLURM, 2 nodes", False, f"exit code {done.returncode}"
        return
    seconds = {line.split()[1]: f"{float(line.split()[2]):.0f} s" for line in done.stdout.splitlines()}
    yield (
        "real SLURM, job on 2 nodes gets SIGUSR1: saved, requeued, resumed",
        True,
        f"{seconds['signal']} to save and end, {seconds['requeue']} from the new start to the third epoch",
    )
    straight = train(folder / "straight", images, *settings, "trainer.devices=2")
    equal = straight.returncode == 0 and same(
        outcome(only_run(folder / "straight")), outcome(only_run(folder / "runs"))
    )
    yield (
        "real SLURM, a node is killed: SLURM requeues, the job resumes and completes; equal bits",
        equal,
        f"{seconds['loss']} until SLURM notices, {seconds['return']} from the new start to the next epoch",
    )


ALL = (saves, numbers, resumes, signals, losses, slurm, kills, elastic, cluster)

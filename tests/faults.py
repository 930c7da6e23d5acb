"""Fault campaign: whatever befalls a run, it ends with the bytes of an undisturbed one.

`python -m tests.faults` takes hours with its 50 moments, `--moments 4` under one. It is no test and
no part of CI. `--only kill full` chooses, `--csv` adds its rows to `figures/results/faults.csv`.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from ddid.files import read_json
from ddid.notebook import environment

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "figures" / "results" / "faults.csv"
COMPARED = {".csv", ".json", ".npz", ".png", ".jpg", ".safetensors"}
OF_A_RUN = {"state.json", "environment.json", "parameters.json"}  # times and places
KILLS = 4  # of one folder, before it may end
DAY = 86400
STUDY = """
profile: smoke
notebooks: [01_bias_analysis, 03_adversarial_meta_training]
set: {effect_steps: 0, refit_steps: 2}
variants: {none: {recipes: none}, metric_at: {recipes: metric_at}}
columns: [variant, recipe, measure, value]
gather: [{record: 03_adversarial_meta_training.recipes, levels: [recipe, measure]}]
"""
OTHER_CLOCK = """
import os, time
shift, now, now_ns = float(os.environ["SHIFT"]), time.time, time.time_ns
time.time = lambda: now() + shift
time.time_ns = lambda: now_ns() + int(shift * 1e9)
"""


@dataclass
class Job:
    """A command that writes a folder, and what an undisturbed one leaves there."""

    name: str
    command: list[str]
    place: Path
    clean: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def start(self, folder: Path, **env: str) -> subprocess.Popen[bytes]:
        """Start, or go on with, the work in `folder`; it heads a process group of its own."""
        log = self.place.joinpath(f"{folder.name}.log").open("ab")
        command = [sys.executable, "-m", "ddid", *self.command, "--out", str(folder)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
        return subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
        )

    def told(self, folder: Path) -> str:
        """The last line that was printed."""
        text = self.place.joinpath(f"{folder.name}.log").read_text(errors="replace")
        return (text.strip().splitlines() or [""])[-1]

    def undisturbed(self) -> None:
        """Run it in peace, and remember what it left."""
        folder, begin = self.place / f"{self.name}_clean", time.monotonic()
        self.finish(folder)
        self.seconds, self.clean = time.monotonic() - begin, contents(folder)
        print(f"{self.name}: {len(self.clean)} files in {self.seconds:.0f} s", flush=True)

    def finish(self, folder: Path, **env: str) -> None:
        """Go on to the end, deleting the files that a sentence asks to delete."""
        for _ in range(5):
            if self.start(folder, **env).wait() == 0:
                return
            said = self.told(folder)
            named = [path for path in folder.rglob("*") if path.is_file() and str(path) in said]
            print(f"    {said}", flush=True)
            assert named, f"{self.name} does not go on: {said}"
            for path in named:
                path.unlink()
        raise AssertionError(f"{self.name} does not end")

    def same(self, folder: Path) -> bool:
        """Whether a folder holds what the undisturbed one does, and no temporaries."""
        found = contents(folder)
        wrong = {k for k in found.keys() | self.clean.keys() if found.get(k) != self.clean.get(k)}
        wrong |= {str(path) for path in folder.rglob("*.writing-*")}
        for name in sorted(wrong):
            print(f"    differs: {name}", flush=True)
        return not wrong


def contents(folder: Path) -> dict[str, str]:
    """Digests of the files that are results."""
    return {str(p.relative_to(folder)): digest(p) for p in results(folder)}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def results(folder: Path) -> list[Path]:
    """Files whose bytes the seed determines; not pictures of times, and not what is set aside."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        aside = {"figures", "before", "decoded"} & set(parts) or any(p[0] == "." for p in parts)
        if path.is_file() and path.suffix in COMPARED and path.name not in OF_A_RUN and not aside:
            found.append(path)
    return found


def kill(process: subprocess.Popen[bytes], whole: bool) -> None:
    """Kill -9 the process group, or the `whole` tree with the kernels, which are not in it."""
    tree = psutil.Process(process.pid).children(recursive=True) if whole else []
    os.killpg(process.pid, signal.SIGKILL)
    for child in tree:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def ends_before(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        return process.wait(seconds) is not None
    except subprocess.TimeoutExpired:
        return False


def disturbed(
    job: Job,
    moments: int,
    draw: random.Random,
    disturb: Callable[[subprocess.Popen[bytes], Path], None],
    place: Path,
    env: Callable[[], dict[str, str]] = dict,
) -> int:
    """Disturb runs at random moments, at most `KILLS` each; returns how many were harmless."""
    left, harmless = moments, 0
    while left > 0:
        folder, count = place / f"{job.name}_{left}", 0
        while count < min(KILLS, left):
            process, wait = job.start(folder, **env()), draw.uniform(0, job.seconds / 2)
            if ends_before(process, wait):
                break
            kept = finished(folder)
            disturb(process, folder)
            count += 1
            print(f"  {job.name}: moment {moments - left + count}, {wait:.0f} s", flush=True)
            lost = kept.items() - finished(folder).items()
            assert not lost, f"finished work is gone: {lost}"
        job.finish(folder, **env())
        same = job.same(folder)
        harmless, left = harmless + count * same, left - count
        if same:
            shutil.rmtree(folder)
    return harmless


def finished(folder: Path) -> dict[str, str]:
    """Results of the notebooks that ended."""
    states = [path for path in folder.rglob("*/state.json") if "before" not in path.parts]
    ended = [path.parent for path in states if read_json(path).get("finished")]
    return {str(path): digest(path) for each in ended for path in results(each)}


def killed(job: Job, moments: int, draw: random.Random) -> int:
    return disturbed(job, moments, draw, lambda p, _: kill(p, draw.random() < 0.5), job.place)


def full_disk(job: Job, moments: int, draw: random.Random) -> int:
    """A file takes all the room there is until the run stops."""

    def fill(process: subprocess.Popen[bytes], folder: Path) -> None:
        ballast = folder.parent / "ballast"
        with ballast.open("wb") as stream:
            while process.poll() is None:
                room, size = os.statvfs(folder.parent), os.fstat(stream.fileno()).st_size
                if room.f_bavail:
                    os.posix_fallocate(stream.fileno(), size, room.f_bavail * room.f_frsize)
                time.sleep(0.05)
        ballast.unlink()
        print(f"    {job.told(folder)}", flush=True)

    with small_disk(job.place / "disk") as disk:
        return disturbed(job, moments, draw, fill, disk)


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(place)]
    subprocess.run(mount, check=True)  # not root: `unshare -rm python -m tests.faults`
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def corrupted(job: Job, moments: int, draw: random.Random) -> int:
    """Of a finished run, a file is cut or one bit of it turned, at the same time of change."""
    folder, harmless = job.place / f"{job.name}_clean", 0
    for _ in range(moments):
        kinds: dict[tuple[str, str], list[Path]] = {}
        for path in [*results(folder), *folder.glob("*/state.json"), *folder.glob("decoded/*")]:
            kinds.setdefault((path.parent.name, path.suffix), []).append(path)
        path = draw.choice(draw.choice(sorted(kinds.values())))
        was, content = path.stat(), bytearray(path.read_bytes())
        place, cut = draw.randrange(len(content)), draw.random() < 0.3
        content[place] ^= 1 << draw.randrange(8)
        path.write_bytes(content[:place] if cut else content)
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
        how = "cut at" if cut else "a bit turned in"
        print(f"  {path.relative_to(folder)}: {how} byte {place}", flush=True)
        job.finish(folder)
        harmless += job.same(folder)
    return harmless


def other_clock(job: Job, moments: int, draw: random.Random) -> int:
    """Killed runs go on with the clock set back or forward, among files of the future."""
    (job.place / "sitecustomize.py").write_text(OTHER_CLOCK)

    def env() -> dict[str, str]:
        python = os.pathsep.join([str(job.place), os.environ.get("PYTHONPATH", str(ROOT))])
        return {"PYTHONPATH": python, "SHIFT": str(draw.uniform(-400, 400) * DAY)}

    def disturb(process: subprocess.Popen[bytes], folder: Path) -> None:
        kill(process, whole=True)
        for path in folder.rglob("*"):
            if path.is_file():
                os.utime(path, times=(then := time.time() + draw.uniform(-9, 9) * DAY, then))

    return disturbed(job, moments, draw, disturb, job.place, env)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=50, help="of every fault, default 50")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="+", help="kill, sweep, full, corrupt, clock; default all")
    parser.add_argument("--csv", action="store_true", help=f"add the rows to {RESULTS.name}")
    parser.add_argument("more", nargs="*", help="options of `ddid run`, say -- --only 01 02")
    options = parser.parse_args()
    rows, draw = [], random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        place = Path(folder)
        (place / "study.yaml").write_text(STUDY)
        run = Job("run", ["run", "smoke", "--resume", *options.more], place)
        sweep = Job("sweep", ["sweep", str(place / "study.yaml"), "--workers", "2"], place)
        faults = {
            "kill": ("kill -9, smoke run", killed, run),
            "sweep": ("kill -9, sweep on two workers", killed, sweep),
            "full": ("full disk", full_disk, run),
            "corrupt": ("a file cut or a bit turned", corrupted, run),
            "clock": ("clock set back or forward", other_clock, run),
        }
        for fault in options.only or faults:
            name, fault_of, job = faults[fault]
            if not job.clean:
                job.undisturbed()
            begin = time.monotonic()
            same = fault_of(job, options.moments, draw)
            seconds = round(time.monotonic() - begin)
            rows.append([name, options.moments, same, seconds, environment()["hardware"]])
    table = pd.DataFrame(rows, columns=["fault", "moments", "same_bytes", "seconds", "hardware"])
    if options.csv:
        known = pd.read_csv(RESULTS) if RESULTS.is_file() else table[:0]
        table = pd.concat([known[~known["fault"].isin(table["fault"])], table])
        table.to_csv(RESULTS, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()

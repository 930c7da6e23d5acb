"""Command line of ddid: run the notebooks, audit a model, examine an installation."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ddid import __version__
from ddid.errors import InputError
from ddid.progress import progress_bars

FACTORY = "PACKAGE.MODULE:FACTORY"
SETTINGS: dict[str, Any] = {"action": "append", "default": [], "dest": "settings"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, 2 for bad input."""
    options = vars(_parser().parse_args(arguments))
    try:
        status = options.pop("command")(**options) or 0
        sys.stdout.flush()
        return status
    except InputError as error:
        sys.stderr.write(f"ddid: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(
            "ddid: interrupted; what is finished is kept, the same goes on (a run: with --resume)\n"
        )
        return 130
    except BrokenPipeError:  # `| head` has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still held
        return 141


def _parser() -> argparse.ArgumentParser:
    """A command's options are the arguments of its function."""
    parser = argparse.ArgumentParser(prog="ddid", description=__doc__)
    parser.add_argument("--version", action="version", version=f"ddid {__version__}")
    command = partial(_add_command, parser.add_subparsers(required=True, metavar="COMMAND"))

    run = command(_run, "run the six notebooks under a profile")
    run("profile", metavar="PROFILE", help="smoke, demo, bench, market, paper or a YAML file")
    run("--out", default="", metavar="DIR", help="run folder (default runs/PROFILE)")
    run("--set", **SETTINGS, metavar="NOTEBOOK.PARAMETER=VALUE", help="override one; repeatable")
    run("--only", nargs="+", default=[], metavar="NOTEBOOK", help="say 03 04; default all")
    run("--resume", action="store_true", help="go on with an existing run folder")
    run("--overwrite", action="store_true", help="delete what is there first")

    sweep = command(_sweep, "run a study: many runs of the notebooks, one table")
    sweep("study", metavar="STUDY", help="of notebooks/studies, or a YAML file")
    sweep("--scheduler", default="", metavar="ADDRESS", help="of a Dask cluster")
    sweep("--workers", type=int, default=0, metavar="N", help="default one a core")
    sweep("--out", default="", metavar="DIR", help="default runs/STUDY")
    sweep("--csv", default="", metavar="FILE", help="table (default in DIR)")
    sweep("--set", **SETTINGS, metavar="PARAMETER=VALUE", help="overrule the study's; repeatable")

    audit = command(_audit, "can a model's robustness be believed?")
    audit("--model", required=True, metavar=FACTORY)
    audit("--weights", default="", metavar="FILE", help="passed to the factory")
    audit("--data", required=True, metavar="ROOT", help="folder or CSV manifest")
    audit("--out", required=True, metavar="DIR", help="where the report goes")
    audit("--surrogate", default="", metavar=FACTORY, help="for transfer; called without weights")
    audit("--size", nargs=2, type=int, default=[256, 128], metavar=("H", "W"))
    audit("--queries", type=int, default=0, metavar="N", help="default all")
    audit("--eps", type=float, default=8, metavar="LEVELS", help="of 255, default 8")
    audit("--steps", type=int, default=15, metavar="N", help="each at least eps/8, default 15")

    explore = command(_explore, "attack explorer of a run, as a page")
    explore("run", metavar="RUN", help="run folder, say runs/demo")
    explore("--port", type=int, default=8866, help="on this machine; default 8866")
    explore("--no-browser", action="store_false", dest="browser", help="do not open one")

    doctor = command(_doctor, "check the installation and a data folder")
    doctor("--data", default="", metavar="ROOT", help="data folder or CSV manifest")

    command(_list, "every recipe and attack, a line each")

    init = command(_init, "copy notebooks and profiles to work on")
    init("folder", metavar="DIR", help="they go to DIR/notebooks, runs to DIR/runs")

    command(_tables, "fill the pages' tables, and draw their figures, from figures/results")
    return parser


def _add_command(commands: Any, function: Callable[..., int | None], purpose: str) -> Any:
    new = commands.add_parser(function.__name__.strip("_"), help=purpose)
    new.set_defaults(command=function)
    return new.add_argument


def _run(**options: Any) -> None:
    from ddid.pipeline import run_profile
    from ddid.summary import run_text

    sys.stdout.write(run_text(run_profile(**options)))


def _sweep(study: str, settings: Sequence[str], **options: Any) -> None:
    from ddid.profiles import parse_setting
    from ddid.study import read_study
    from ddid.sweep import run_study

    overruling = dict(map(parse_setting, settings))
    table = run_study(read_study(study), settings=overruling, progress=progress_bars(), **options)
    sys.stdout.write(f"{len(table)} rows\n")


def _audit(**options: Any) -> int:
    from ddid.page import audit_run
    from ddid.summary import audit_text

    result = audit_run(**options)
    sys.stdout.write(f"\n{audit_text(result)}report: {options['out']}/audit.html\n")
    return 1 if result["flags"] else 0


def _explore(**options: Any) -> None:
    from ddid.page import serve

    serve(**options)


def _doctor(data: str) -> None:
    from ddid.doctor import examine

    sys.stdout.write("\n".join(examine(data)) + "\n")


def _list() -> None:
    from ddid.summary import names_text

    sys.stdout.write(names_text())


def _init(folder: str) -> None:
    from ddid.notebook import copy_notebooks

    target = copy_notebooks(folder)
    print(f"notebooks are in {target}\nnow: cd {target.parent} && ddid run demo, or jupyter lab")


def _tables() -> None:
    from ddid.notebook import check_parameters
    from ddid.pipeline import run_notebooks

    with TemporaryDirectory() as folder:
        run_notebooks({"tables": check_parameters("tables", {"out": folder})}, Path(folder))


if __name__ == "__main__":
    sys.exit(main())

"""Command line of ddid: run the notebooks, audit a model, examine an installation."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ddid import __version__
from ddid.errors import InputError
from ddid.progress import progress_bars


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except InputError as error:
        sys.stderr.write(f"ddid: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("ddid: interrupted; what is finished is kept, --resume goes on\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ddid", description=__doc__)
    parser.add_argument("--version", action="version", version=f"ddid {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_sweep(commands)
    _add_audit(commands)
    _add_explore(commands)
    _add_doctor(commands)
    _add_init(commands)
    purpose = "fill the pages' tables, and draw their figures, from figures/results"
    tables = commands.add_parser("tables", help=purpose)
    tables.set_defaults(command=_tables)
    return parser


def _add_run(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser("run", help="run the six notebooks under a profile")
    run.add_argument("profile", metavar="PROFILE", help="smoke, demo, bench, paper or a YAML file")
    run.add_argument("--out", default="", metavar="DIR", help="run folder (default runs/PROFILE)")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="NOTEBOOK.PARAMETER=VALUE",
        help="override one parameter; repeatable",
    )
    run.add_argument(
        "--only", nargs="+", default=[], metavar="NOTEBOOK", help="say 03 04; default all"
    )
    run.add_argument("--resume", action="store_true", help="go on with an existing run folder")
    run.add_argument("--overwrite", action="store_true", help="delete an existing run folder first")
    run.set_defaults(command=_run)


def _add_sweep(commands: argparse._SubParsersAction) -> None:
    sweep = commands.add_parser("sweep", help="run a study: many runs of the notebooks, one table")
    sweep.add_argument("study", metavar="STUDY", help="of notebooks/studies, or a YAML file")
    sweep.add_argument("--scheduler", default="", metavar="ADDRESS", help="of a Dask cluster")
    sweep.add_argument("--workers", type=int, default=0, metavar="N", help="default one a core")
    sweep.add_argument("--out", default="", metavar="DIR", help="default runs/STUDY")
    sweep.add_argument("--csv", default="", metavar="FILE", help="table (default in DIR)")
    sweep.add_argument("--partial", action="store_true", help="write it though runs stopped")
    sweep.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="PARAMETER=VALUE",
        help="overrule the study's; repeatable",
    )  # fmt: skip
    sweep.set_defaults(command=_sweep)


def _add_audit(commands: argparse._SubParsersAction) -> None:
    audit = commands.add_parser("audit", help="can a model's robustness be believed?")
    audit.add_argument("--model", required=True, metavar="PACKAGE.MODULE:FACTORY")
    audit.add_argument("--weights", default="", metavar="FILE", help="passed to the factory")
    audit.add_argument("--data", required=True, metavar="ROOT", help="folder or CSV manifest")
    audit.add_argument("--out", required=True, metavar="DIR", help="where the report goes")
    audit.add_argument("--surrogate", default="", metavar="PACKAGE.MODULE:FACTORY")
    audit.add_argument("--size", nargs=2, type=int, default=[256, 128], metavar=("H", "W"))
    audit.add_argument("--queries", type=int, default=0, metavar="N", help="default all")
    audit.add_argument("--eps", type=float, default=8, metavar="LEVELS", help="of 255, default 8")
    audit.add_argument("--steps", type=int, default=15, metavar="N", help="of eps/8, default 15")
    audit.set_defaults(command=_audit)


def _add_explore(commands: argparse._SubParsersAction) -> None:
    explore = commands.add_parser("explore", help="attack explorer of a run, as a page")
    explore.add_argument("run", metavar="RUN", help="run folder, say runs/demo")
    explore.add_argument("--port", type=int, default=8866, help="on this machine; default 8866")
    explore.add_argument("--no-browser", action="store_true", help="do not open one")
    explore.set_defaults(command=_explore)


def _add_doctor(commands: argparse._SubParsersAction) -> None:
    doctor = commands.add_parser("doctor", help="check the installation and a data folder")
    doctor.add_argument("--data", default="", metavar="ROOT", help="data folder or CSV manifest")
    doctor.set_defaults(command=_doctor)


def _add_init(commands: argparse._SubParsersAction) -> None:
    init = commands.add_parser("init", help="copy notebooks and profiles to work on")
    init.add_argument("folder", metavar="DIR", help="they go to DIR/notebooks, runs to DIR/runs")
    init.set_defaults(command=_init)


def _run(options: argparse.Namespace) -> int:
    from ddid.pipeline import run_profile
    from ddid.tables import summary

    root = run_profile(
        options.profile,
        options.out,
        options.settings,
        only=options.only,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    sys.stdout.write(summary(root))
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from ddid.profiles import parse_setting
    from ddid.study import read_study
    from ddid.sweep import run_study

    table = run_study(
        read_study(options.study),
        Path(options.out).absolute() if options.out else "",
        Path(options.csv).absolute() if options.csv else "",
        settings=dict(map(parse_setting, options.settings)),
        scheduler=options.scheduler,
        workers=options.workers,
        partial=options.partial,
        progress=progress_bars(),
    )
    sys.stdout.write(f"{len(table)} rows\n")
    return 0


def _audit(options: argparse.Namespace) -> int:
    from ddid.page import audit_run, audit_text

    names = ("model", "data", "out", "weights", "surrogate", "queries", "eps", "steps")
    given = {name: getattr(options, name) for name in names}
    result = audit_run(**given, size=tuple(options.size))
    sys.stdout.write(f"\n{audit_text(result)}report: {options.out}/audit.html\n")
    return 1 if result["flags"] else 0


def _explore(options: argparse.Namespace) -> int:
    from ddid.page import serve

    serve(Path(options.run).absolute(), options.port, browser=not options.no_browser)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from ddid.doctor import examine

    sys.stdout.write("\n".join(examine(options.data)) + "\n")
    return 0


def _init(options: argparse.Namespace) -> int:
    from ddid.notebook import copy_notebooks

    target = copy_notebooks(options.folder)
    sys.stdout.write(
        f"notebooks are in {target}\nnow: cd {target.parent} && ddid run demo, or jupyter lab\n"
    )
    return 0


def _tables(options: argparse.Namespace) -> int:
    from ddid.tables import update_pages

    sys.stdout.write(f"changed: {', '.join(update_pages()) or 'nothing'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Read runs of lmms-eval, so that they can be scored here; write logs for Inspect's viewer."""

from __future__ import annotations

import argparse
from pathlib import Path

from mpar2.items import benchmark_names


def configure(parser: argparse.ArgumentParser) -> None:
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    importer = tasks.add_parser("from-lmms-eval", help="samples that lmms-eval wrote with --log_samples to a run")
    importer.add_argument("files", nargs="+", metavar="SAMPLES.jsonl", help="of one task, one for each model")
    importer.add_argument(
        "--name", action="append", default=[], help="of the arm; once for each file (default: its folder)"
    )
    importer.add_argument("--benchmark", choices=benchmark_names(), help="whose own questions --data has")
    importer.add_argument("--data", metavar="PATH", help="the benchmark's question file; items are joined to it")
    importer.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run's new folder")
    write = tasks.add_parser("to-inspect", help="a run to logs for `inspect view --log-dir DIR`, one for each arm")
    write.add_argument("run", metavar="RUN", help="a run folder, a zip of one, or an items.jsonl")
    write.add_argument("--scores", metavar="PATH", help="CAFE's scores of the run, shown beside its accuracy")
    write.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the logs go")


def run(options: argparse.Namespace) -> int:
    if options.task == "to-inspect":
        from mpar2.inspect_log import write_inspect_logs

        for path in write_inspect_logs(options.run, options.out, options.scores):
            print(path)
        return 0
    from mpar2.items import read_items
    from mpar2.lmms_eval import SamplesError, import_samples

    if bool(options.data) != bool(options.benchmark):
        raise SamplesError("--benchmark and --data belong together: give both, or neither")
    items = read_items(options.benchmark, options.data) if options.data else None
    metrics = import_samples(options.files, options.out, names=options.name, items=items)
    for problem in metrics["problems"]:
        print(f"note: {problem}")
    for name, arm in metrics["arms"].items():
        print(f"{name}: official {100 * arm['official']['estimate']:.1f} % of {metrics['items']} items")
    print(f"{options.out} (mpar2 rescore {options.out}, mpar2 cafe score {options.out})")
    return 0

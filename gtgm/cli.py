"""The GTGM companion on the command line: the stages that the notebooks run."""

from __future__ import annotations

import argparse
import ast
import os
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from gtgm import __version__, paths, surroundings
from gtgm.cli_batch import add_commands as add_batch_commands
from gtgm.cli_data import add_command as add_data_command
from gtgm.cli_doctor import add_command as add_doctor_command
from gtgm.cli_export import add_command as add_export_command
from gtgm.cli_segment import add_command as add_segment_command
from gtgm.errors import DataError, GTGMError, SettingsError
from gtgm.faults import explained
from gtgm.show import show_neurons, show_scores

EPILOG = """examples:
  gtgm reproduce --dry-run                     what would run, and for how long
  gtgm status                                  what of it is done
  gtgm data list                               the 13 datasets of the paper, and FIB-25
  gtgm segment scan.nii.gz labels.nii.gz --weights runs/.../finetune/...
"""


class _Parser(argparse.ArgumentParser):
    """A parser that adds its options when it is used: to import what they allow takes seconds."""

    def __init__(self, *args: Any, options: Callable | None = None, **kwargs: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(*args, formatter_class=formatter, allow_abbrev=False, **kwargs)
        self._options = options

    def _complete(self) -> None:
        add, self._options = self._options, None
        if add:
            add(self)

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        self._complete()
        return super().parse_known_args(*args, **kwargs)

    def format_help(self) -> str:
        self._complete()
        return super().format_help()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``gtgm``; returns the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        threads = surroundings.threads()
        if threads:
            os.environ["OMP_NUM_THREADS"] = str(threads)  # Accelerate reads no more than one number
        if "set" in options:  # a stage, which may load models
            os.environ.update(surroundings.home_below(options.runs or paths.runs_dir()))
        with explained():
            return options.run(options) or 0
    except GTGMError as error:
        print(f"gtgm: {error}", file=sys.stderr)
        if isinstance(error, DataError) and getattr(options, "data", "") and "set" in options:
            print("`gtgm data verify NAME` lists all problems of a dataset.", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """The parser with every command."""
    parser = _Parser(prog="gtgm", description=__doc__, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"gtgm {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_data_command(partial(_command, commands), _command)
    _add_pool_stage(
        commands,
        "caption",
        "write captions of a pool's training volumes (stage 1)",
        "gtgm caption Task04_Hippocampus --data data --set text.captioner=describe",
    )
    _add_pool_stage(
        commands,
        "pretrain",
        "train an image encoder on patches and captions (stage 2)",
        "gtgm pretrain Task04_Hippocampus --data data --set pretrain.steps=500",
    )
    _add_finetune(commands)
    _add_evaluate(commands)
    add_segment_command(partial(_command, commands))
    add_batch_commands(partial(_command, commands))
    _add_publish(commands)
    add_export_command(partial(_command, commands), _command)
    add_doctor_command(partial(_command, commands))
    return parser


def _command(
    commands: Any,
    name: str,
    run: Callable,
    about: str,
    example: str,
    options: Callable | None = None,
) -> Any:
    parser = commands.add_parser(
        name, help=about, description=about, epilog=f"example:\n  {example}", options=options
    )
    parser.set_defaults(run=run)
    return parser


def _data_options(parser: argparse.ArgumentParser) -> None:
    from gtgm.settings import PROFILES, PROTOCOLS

    parser.add_argument("--profile", choices=PROFILES, default="cpu", help="sizes (default: cpu)")
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default="corrected", help="(default: corrected)"
    )
    parser.add_argument("--fold", type=int, default=0, help="held-out fold, 0 to 4 (default: 0)")
    parser.add_argument("--data", default="", help="folder of real datasets, beside $GTGM_DATA")
    parser.add_argument("--runs", default="", help="working folder (default: runs)")


def _study_options(parser: argparse.ArgumentParser) -> None:
    from gtgm.settings import BACKBONES

    _data_options(parser)
    parser.add_argument("--backbone", choices=BACKBONES, default="unet", help="(default: unet)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and draws (default: 0)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="STAGE.NAME=VALUE",
        help="change a setting, such as pretrain.steps=500; may be repeated",
    )


def _method_option(parser: argparse.ArgumentParser) -> None:
    from gtgm.methods import METHODS

    parser.add_argument("--method", choices=METHODS, default="gtgm", help="(default: gtgm)")


def _study(options: argparse.Namespace, datasets: Sequence[str], *stages: str) -> Any:
    """The study of a command that runs these stages."""
    from gtgm.datasets.dataset import find
    from gtgm.settings import memory_preset
    from gtgm.stages import Study

    memory = getattr(options, "memory", None)
    changes = memory_preset(int(memory), options.backbone) if memory else {}
    asked = _changes(options.set)
    for stage, values in asked.items():
        changes = changes | {stage: {**changes.get(stage, {}), **values}}
    study = Study(
        tuple(datasets),
        options.profile,
        options.protocol,
        options.backbone,
        options.fold,
        options.seed,
        options.data,
        options.runs,
        changes,
        getattr(options, "method", "gtgm"),
    )
    for stage in asked.keys() - set(stages):
        raise SettingsError(
            f"--set {stage}.{', '.join(asked[stage])} would change nothing here",
            expected=f"settings of {', '.join(stages)}",
            fix="leave it out",
        )
    used = [*datasets, getattr(options, "dataset", datasets[0])]
    for name in dict.fromkeys(used) if options.data else ():
        if find(name, options.data) is None:
            print(f"note: {name} is not in {options.data}; a phantom is used", file=sys.stderr)
    return study


def _changes(items: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``["pretrain.steps=5"]`` → ``{"pretrain": {"steps": 5}}``; values are Python literals."""
    changes: dict[str, dict[str, Any]] = {}
    for item in items:
        name, equals, text = item.partition("=")
        stage, dot, setting = name.partition(".")
        if not equals or not dot:
            raise SettingsError(
                f"--set {item!r} cannot be read",
                expected="STAGE.NAME=VALUE, such as pretrain.lr=1e-4",
            )
        try:
            value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        except (ValueError, SyntaxError):
            value = text
        changes.setdefault(stage, {})[setting] = value
    return changes


def _add_pool_stage(commands: Any, name: str, about: str, example: str) -> None:
    _command(commands, name, partial(_pool_stage, name), about, example, _pool_options)


def _pool_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("datasets", nargs="+")
    _method_option(parser)
    _study_options(parser)


def _pool_stage(name: str, options: argparse.Namespace) -> int:
    from gtgm import stages
    from gtgm.settings import POOL_STAGES

    begun = time.time()
    run = getattr(stages, name)(_study(options, options.datasets, *POOL_STAGES))
    show_scores(run.result)
    _show_folder("written to", run.folder, begun)
    return 0


def _show_folder(what: str, folder: Path, begun: float) -> None:
    """Where a run lies, and whether it was finished before."""
    before = (folder / "result.json").stat().st_mtime < begun
    print(f"{what} {folder}" + (" (finished before, not run again)" if before else ""))


def _add_finetune(commands: Any) -> None:
    _command(
        commands,
        "finetune",
        _finetune,
        "fine-tune on few labels and score the held-out fold (stage 3); EM: neurons",
        "gtgm finetune Task04_Hippocampus --method gtgm --fraction 0.1 --data data",
        _finetune_options,
    )


def _finetune_options(parser: argparse.ArgumentParser) -> None:
    from gtgm.settings import MEMORY

    parser.add_argument("dataset")
    _method_option(parser)
    parser.add_argument(
        "--fraction",
        type=_fraction,
        help="share of labels, such as 0.1 or 10%% (default: 1; EM: 0.75)",
    )
    parser.add_argument("--draw", type=int, default=0, help="number of the label draw (default: 0)")
    parser.add_argument(
        "--pool", nargs="+", help="datasets of the pretraining (default: the dataset itself)"
    )
    parser.add_argument(
        "--memory",
        choices=MEMORY,
        help="GB of the GPU: chunks and checkpointing with which the paper's sizes fit",
    )
    _study_options(parser)


def _fraction(text: str) -> float:
    try:
        return float(Decimal(text.removesuffix("%")) / (100 if text.endswith("%") else 1))
    except ArithmeticError:
        raise argparse.ArgumentTypeError(f"{text!r} is no share such as 0.1 or 10%") from None


def _finetune(options: argparse.Namespace) -> int:
    from gtgm.datasets import registry
    from gtgm.settings import POOL_STAGES
    from gtgm.stages import finetune, run_neurons
    from gtgm.stages.finetuning import run_folder
    from gtgm.stages.study import EM_FRACTION

    begun, neurons = time.time(), registry.get(options.dataset).modality == "EM"
    last = "neurons" if neurons else "finetune"
    study = _study(options, options.pool or [options.dataset], *POOL_STAGES, last)
    if neurons:
        fraction = EM_FRACTION if options.fraction is None else options.fraction
        run = run_neurons(study, options.dataset, options.method, fraction, options.draw)
        show_neurons(run.result)
        _show_folder("weights, affinities and segmentations:", run.folder, begun)
        return 0
    fraction = 1.0 if options.fraction is None else options.fraction
    job = (study, options.dataset, options.method, fraction, options.draw)
    show_scores(finetune(*job))
    _show_folder("weights and predictions:", run_folder(*job), begun)
    return 0


def _add_evaluate(commands: Any) -> None:
    _command(
        commands,
        "evaluate",
        _evaluate,
        "score a trained segmenter on the held-out fold, or a published segmentation of neurons",
        "gtgm evaluate Task04_Hippocampus --weights runs/.../finetune/... --data data\n"
        "  gtgm evaluate FIB25 --segmentation ffn.npz --name 'FFN (Januszewski et al. 2018)' "
        "--data data",
        _evaluate_options,
    )


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--weights", type=Path, help="folder of a segmenter")
    given.add_argument("--segmentation", type=Path, help=".npz with 'segmentation' (z, y, x), EM")
    parser.add_argument("--name", default="published segmentation", help="whose segmentation it is")
    parser.add_argument("--remark", default="", help="what a reader must know to compare")
    parser.add_argument("--skeletons", type=Path, help="folder of SWC files, for the run length")
    _data_options(parser)
    parser.set_defaults(backbone="unet", seed=0, set=[])  # nothing is trained


def _evaluate(options: argparse.Namespace) -> int:
    from gtgm import metrics
    from gtgm.inference import load_class_segmenter
    from gtgm.stages.finetuning import evaluate

    study = _study(options, [options.dataset])
    if options.segmentation:
        from gtgm.stages.published import score_published_file

        show_neurons(
            score_published_file(
                study,
                options.dataset,
                options.segmentation,
                options.name,
                options.remark,
                options.skeletons,
            )
        )
        print(
            "as it is: unassigned voxels are one object; nearest segment: they are given to it; "
            "assigned voxels: they do not count, which is easier."
        )
        return 0
    network, about = load_class_segmenter(options.weights)
    info = study.open(options.dataset).info
    if list(info.classes) != about["classes"] or len(info.channels) != len(about["channels"]):
        raise SettingsError(
            f"was trained for {', '.join(about['classes'])} on {len(about['channels'])} channel(s)",
            where=options.weights,
            expected=f"{', '.join(info.classes)} on {len(info.channels)} channel(s)",
        )
    if about["fold"] != options.fold:
        raise SettingsError(
            f"held out fold {about['fold']}, and may have been trained on fold {options.fold}",
            where=options.weights,
            expected=f"--fold {about['fold']}",
        )
    test = study.split(options.dataset).test(options.fold)
    rows = evaluate(study, options.dataset, network, about, test)
    for name, value in metrics.summarise(rows).items():
        print(f"{name:<28} {'undefined' if value is None else f'{value:.4f}'}")
    return 0


def _add_publish(commands: Any) -> None:
    parser = _command(
        commands,
        "publish",
        _publish,
        "copy results and figures of runs to results/, render tables, findings and README",
        "gtgm publish runs/demo/cpu",
    )
    parser.add_argument("chosen", nargs="+", help="run folders, result files or ids")


def _publish(options: argparse.Namespace) -> int:
    from gtgm.publishing import publish_all

    for path in publish_all(options.chosen):
        print(path)
    return 0


if __name__ == "__main__":
    from gtgm.__main__ import main as start

    sys.exit(start())

"""The ``snojoe`` command. What a command needs is imported when it runs: torch takes seconds."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from snojoe.model.architectures import TRUNKS, is_timm, layer_names
from snojoe.support.errors import SnojoeError
from snojoe.support.memory import tune_memory
from snojoe.support.text import human_size

if TYPE_CHECKING:
    from snojoe.measures.metrics import FloatArray
    from snojoe.model.decision import Decision

MODEL_HELP = (
    "model directory (default: every seed of models/sn<L>, L being the sn_layers of params.yaml); "
    "of several, the mean score decides"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status = options.call(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever reads has seen enough (| head); Python is not to complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (SnojoeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="snojoe",
        description="Multi-label out-of-distribution detection with spectral normalised joint "
        "energy. The exit status is 2 where a command cannot do its work.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for add in (
        _add_init,
        _add_repro,
        _add_dag,
        _add_detect,
        _add_drift,
        _add_calibrate,
        _add_export,
        _add_layers,
        _add_data_check,
    ):
        add(commands)
    return parser


def _add_init(commands: Commands) -> None:
    command = commands.add_parser(
        "init",
        help="a project of your own, from folders of images",
        description="Look at labelled images, say what is there and what is doubtful, and make a "
        "folder in which `dvc repro` trains and measures a detector for them. The images stay "
        "where and as they are.",
    )
    command.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="the project's folder (default: this one)",
    )
    command.add_argument(
        "--id",
        required=True,
        nargs="+",
        action="extend",
        type=Path,
        metavar="PATH",
        help="labelled images: a folder or archive in a format of docs/own-data.md, or a table of "
        "labels",
    )
    command.add_argument(
        "--ood",
        default=[],
        nargs="+",
        action="extend",
        type=Path,
        metavar="PATH",
        help="images of other things, to measure with: a folder or tar for each set",
    )
    command.add_argument(
        "--meaning",
        default=[],
        nargs="+",
        action="extend",
        type=_meaning,
        metavar="LABEL=WHAT",
        help="what a label says that may be no class: class, negative (annotated, and none of the "
        "classes) or unannotated",
    )
    command.add_argument(
        "--weights",
        metavar="WEIGHTS",
        help="initial weights: a file whose name begins with its network's (mobilenet_v2-....pth), "
        "a name of torchvision's (IMAGENET1K_V1, downloaded), or none",
    )
    command.add_argument(
        "--sn-layers",
        nargs="*",
        type=int,
        metavar="L",
        help="train with spectral normalisation on the first L layers, too, to compare (snojoe "
        "layers; without a number: all but the last, as in the paper)",
    )
    command.add_argument(
        "--force", action="store_true", help="replace the dvc.yaml and params.yaml that are there"
    )
    command.set_defaults(call=init)


def _add_repro(commands: Commands) -> None:
    command = commands.add_parser(
        "repro",
        help="what dvc repro does, with stages side by side",
        description="Run every stage of the project here that is not up to date, side by side "
        "where they do not read from one another.",
    )
    command.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="stages at a time (default: as many as there are cores, or GPUs)",
    )
    command.set_defaults(call=repro)


def _add_dag(commands: Commands) -> None:
    command = commands.add_parser(
        "dag",
        help="dvc.yaml anew, after another set or depth in params.yaml",
        description="Write the dvc.yaml of the project here from its params.yaml, each set and "
        "each depth of which it names. Nothing is run.",
    )
    command.set_defaults(call=dag)


def _add_detect(commands: Commands) -> None:
    command = commands.add_parser(
        "detect",
        help="whether images are in- or out-of-distribution, what is in them, and why",
        description="Print for each image its joint energy, the decision, the labels above their "
        "thresholds, and each label's share of the energy. The first line, on standard error, says "
        "what the threshold promises and what is known of it.",
        epilog="Exit status: 0 if every image is in-distribution, 1 if one is "
        "out-of-distribution, 2 if one cannot be read or nothing could be done.",
    )
    command.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="image, folder, quoted pattern, or - for a list of these on standard input",
    )
    command.add_argument(
        "--model", nargs="+", action="extend", type=Path, metavar="DIR", help=MODEL_HELP
    )
    _add_accept(command)
    command.add_argument(
        "--confidence",
        type=_share,
        metavar="SHARE",
        help="with which at least that share of new in-distribution images is accepted, given the "
        "images that the model is calibrated on (default: that share is met on average)",
    )
    _add_score(command)
    command.add_argument(
        "--fdr",
        type=_share,
        metavar="SHARE",
        help="decide about all images at once instead: of those that are flagged, on average at "
        "most this share is in-distribution (Benjamini and Hochberg); the output comes at the end",
    )
    command.add_argument(
        "--engine",
        choices=["torch", "onnx"],
        default="torch",
        help="what computes the network: onnx, ONNX Runtime, is mostly faster on CPUs (needs the "
        "extra onnx; default: torch)",
    )
    _add_run_code(command)
    command.add_argument("--format", choices=["table", "csv", "json", "jsonl"], default="table")
    command.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write a page as well, to look at, sort and filter the images in a browser",
    )
    command.set_defaults(call=detect)


def _add_drift(commands: Commands) -> None:
    command = commands.add_parser(
        "drift",
        help="whether the images in logs of detect are still like those that it is calibrated on",
        description="Read what `snojoe detect --format jsonl` wrote, and test each day's share of "
        "flagged images against what the threshold promises, each day's p-values for uniformity, "
        "and with --reference how often each label is seen. All p-values are corrected together.",
        epilog="Exit status: 0 if nothing has drifted, 1 if something has, 2 if a log cannot be "
        "read.",
    )
    command.add_argument("logs", nargs="+", type=Path, metavar="LOG")
    command.add_argument(
        "--reference",
        type=Path,
        metavar="LOG",
        help="a log of images that are as they should be, such as those of val",
    )
    command.add_argument(
        "--level",
        type=_share,
        default=0.05,
        metavar="SHARE",
        help="how often drift may be found where there is none (default: 0.05)",
    )
    command.add_argument("--plot", type=Path, metavar="PNG", help="write a picture as well")
    command.set_defaults(call=drift)


def _add_calibrate(commands: Commands) -> None:
    command = commands.add_parser(
        "calibrate",
        help="a new threshold for a model, from in-distribution images of your own",
        description="Let the threshold of a model follow from images that are like those which it "
        "will see, and show nothing that it shall refuse. No training; the weights stay as they "
        "are. Several models that decide together are each calibrated on the same images.",
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="model directory")
    command.add_argument(
        "paths", nargs="+", metavar="PATH", help="image, folder or quoted pattern, as in detect"
    )
    measured = command.add_mutually_exclusive_group()
    measured.add_argument(
        "--hold-out",
        type=_share,
        metavar="SHARE",
        help="share of the images that is kept to measure the false alarms on",
    )
    measured.add_argument(
        "--test", nargs="+", default=[], metavar="PATH", help="other images, to measure them on"
    )
    _add_run_code(command)
    command.set_defaults(call=calibrate)


def _add_export(commands: Commands) -> None:
    command = commands.add_parser(
        "export",
        help="a model as an ONNX file",
        description="Write one model with its threshold as an ONNX file: a uint8 image of any "
        "height and width (H, W, 3) in; probabilities, energy, in_distribution, score and p_value "
        "out. It takes the extra: pip install -e '.[onnx]'.",
    )
    command.add_argument("--onnx", required=True, type=Path, metavar="FILE")
    command.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="model directory (default: the first seed of models/sn<L>)",
    )
    _add_accept(command)
    _add_score(command)
    _add_run_code(command)
    command.set_defaults(call=export)


def _add_layers(commands: Commands) -> None:
    command = commands.add_parser(
        "layers",
        help="what sn_layers counts",
        description="Print index, name and number of normalised weights of each counted layer.",
    )
    command.add_argument(
        "arch",
        nargs="?",
        default="resnet101",
        type=_arch,
        metavar="ARCH",
        help=f"{', '.join(TRUNKS)}, or timm/<name>",
    )
    command.set_defaults(call=layers)


def _add_data_check(commands: Commands) -> None:
    command = commands.add_parser(
        "data-check",
        help="which archives are there, which are missing and where they come from",
        description="Print the state of every archive that a parameter file names. The exit "
        "status is 1 where one is missing that you have to bring.",
    )
    command.add_argument("params", nargs="?", default="params.yaml")
    command.set_defaults(call=data_check)


def _add_accept(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--accept",
        type=_share,
        default=0.95,
        metavar="SHARE",
        help="share of new in-distribution images that is to be accepted (default: 0.95)",
    )


def _add_score(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--score",
        default="joint_energy",
        metavar="NAME",
        help="what decides, by the names of metrics/table2.csv, such as nn_guide (default: "
        "joint_energy, for which the model directory is enough; others need what the score stage "
        "stored, see docs/detector.md); auto: what pseudo-OOD images made of val would choose",
    )


def _add_run_code(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--run-code",
        action="store_true",
        help="allow the code in the directory of a network of one's own (model.arch: own) to run",
    )


def init(options: argparse.Namespace) -> None:
    """Make a project."""
    from snojoe_project.init import init

    init(
        options.folder,
        options.id,
        options.ood,
        weights=options.weights,
        sn_layers=options.sn_layers,
        meanings=dict(options.meaning),
        force=options.force,
    )


def repro(options: argparse.Namespace) -> None:
    """Run a project; does not return."""
    from snojoe_project.repro import repro

    repro(options.jobs)


def dag(_: argparse.Namespace) -> None:
    """Write dvc.yaml anew."""
    from snojoe_project.init import rewrite_dag

    rewrite_dag(Path())


def detect(options: argparse.Namespace) -> int:
    """Print detections; returns 0 (all in-distribution), 1 (not all) or 2 (not all readable)."""
    folders = _model_folders(options.model)
    _quiet_libraries()
    tune_memory()
    from snojoe.data.left_out import describe
    from snojoe.data.pseudo_ood import SEEN
    from snojoe.detect.formats import (
        FORMATS,
        OOD,
        UNREADABLE,
        Results,
        decided_together,
        outcome,
        write_table,
    )
    from snojoe.detect.image_detector import load_detector
    from snojoe.detect.image_files import LeftOut, image_files
    from snojoe.detect.scores import AUTO
    from snojoe.model.folder import read_config

    if options.html:
        from snojoe.detect.page import page_writer

    # Names that are not UTF-8 go out as the bytes that came in.
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    detector = load_detector(
        folders,
        options.accept,
        options.confidence,
        options.score,
        engine=options.engine,
        run_code=options.run_code,
    )
    decision = detector.decision
    chosen = f"auto: {decision.score}; " if options.score == AUTO else ""
    if chosen and any(read_config(Path(folder)).saw_pseudo_ood for folder in folders):
        chosen += f"{SEEN}; "
    first, *others = _said(
        decision, detector.measured, options.accept, options.confidence, options.fdr
    )
    said = [f"{_count(len(folders), 'model')}; {chosen}{first}", *others]
    _tell("\n".join(said))
    left_out: LeftOut = {}
    files: Iterable[str] = image_files(options.paths, left_out)
    if names := () if "-" in options.paths else list(files):
        files = names  # of standard input the first are wanted before the last are known
    outcomes: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        results: Results = ((str(path), result) for path, result in detector.stream(files))
        if options.html:
            page = stack.enter_context(
                page_writer(
                    options.html, decision, said, left_out, together=options.fdr is not None
                )
            )
            results = page.seen_by(detector, files)
        if options.fdr is not None:
            results = decided_together(results, options.fdr)

        def counted() -> Results:
            for name, result in results:
                outcomes[outcome(result)] += 1
                if options.html:
                    page.add(name, result)
                yield name, result

        write = FORMATS[options.format]
        if options.format == "table":
            write = partial(write_table, names=names)
        write(counted(), decision, sys.stdout)
    parts = [f"{count} {what}" for what, count in outcomes.items()]
    if left_out:
        _tell(describe(left_out))
    _tell(f"{_count(outcomes.total(), 'image')}: {', '.join(parts)}")
    if options.html:
        _tell(f"{options.html}: {human_size(options.html.stat().st_size)}, open it in a browser")
    return 2 if outcomes[UNREADABLE] else int(OOD in outcomes)


def drift(options: argparse.Namespace) -> int:
    """Print what has drifted; returns 1 where something has."""
    from snojoe.detect.drift import describe, find_drift, read_log

    log = read_log(options.logs)
    reference = read_log([options.reference]) if options.reference else None
    found = find_drift(log, reference, options.level)
    for line in describe(found):
        print(line)
    if log.unreadable:
        _tell(f"{_count(log.unreadable, 'image')} could not be read, and took no part")
    if log.unfinished:
        _tell(f"{_count(log.unfinished, 'last line')} without an end, left out")
    if options.plot:
        from snojoe.results.plots import plot_drift

        days = found.days
        plot_drift(
            options.plot,
            [day.date for day in days],
            [day.flagged / day.images for day in days],
            [(day.low / day.images, day.high / day.images) for day in days],
            [min(day.flagged_p, day.uniformity_p) <= options.level for day in days],
            [log.days[day.date] for day in days],
            log.n,
        )
    return int(bool(found.found))


def calibrate(options: argparse.Namespace) -> int:
    """Calibrate a model; returns 2 where an image could not be read."""
    (folder,) = _model_folders([options.model])
    _quiet_libraries()
    tune_memory()
    from snojoe.data.left_out import describe
    from snojoe.detect.calibrate import calibrate, scores_of
    from snojoe.detect.image_detector import load_detector
    from snojoe.detect.image_files import LeftOut, image_files
    from snojoe.detect.scores import stored_scorers
    from snojoe.measures.conformal import share_interval
    from snojoe.model.decision import ACCEPT, JOINT_ENERGY

    left_out: LeftOut = {}
    detector = load_detector(folder, run_code=options.run_code)
    scorers = stored_scorers(folder)
    found = scores_of(detector, scorers, image_files(options.paths, left_out))
    test = scores_of(detector, {}, image_files(options.test, left_out))
    if options.hold_out:
        found, test = found.held_out(options.hold_out)
    tau = calibrate(folder, found, ", ".join(options.paths))
    decision = load_detector(folder, run_code=options.run_code).decision
    first, *others = _said(decision, {}, ACCEPT)
    print("\n".join([f"{folder}: {first}", *others]))
    if by := [score for score in found.values if score != JOINT_ENERGY]:
        print(f"for --score, on the same images: {', '.join(by)}")
    if n := len(test.energies):
        alarms = int((test.energies < tau).sum())
        low, high = (100 * share for share in share_interval(alarms, n))
        print(
            f"false alarms on {_count(n, 'image')} that it is not calibrated on: {alarms}, "
            f"{100 * alarms / n:.1f}% [{low:.1f}, {high:.1f}]"
        )
    for line in (unreadable := [*found.unreadable, *test.unreadable]):
        _tell(f"not used: {line}")
    if left_out:
        _tell(describe(left_out))
    return 2 if unreadable else 0


def _said(
    decision: Decision,
    measured: Mapping[str, FloatArray],
    accept: float,
    confidence: float | None = None,
    fdr: float | None = None,
) -> list[str]:
    """What decides, what it did to the images that it was measured on, and what it promises."""
    from snojoe.measures.conformal import accepted_interval, conformal_rank

    n = len(decision.calibration)
    those = f"the {n:,} of {decision.source} that it is calibrated on"
    if fdr is not None:
        return [
            f"out-of-distribution: chosen among all images, so that on average at most "
            f"{100 * fdr:.6g}% of them are like {those}; the output comes at the end"
        ]
    rank = max(1, conformal_rank(n, accept, confidence))
    average = 100 * (n + 1 - rank) / (n + 1)
    low, high = (100 * share for share in accepted_interval(n, rank))
    return [
        f"in-distribution: {_threshold(decision)}{_known(measured, decision.tau)}",
        f"promised: accepts {average:.1f}% of new images like {those} ({low:.1f} to {high:.1f}% by "
        "their draw)",
    ]


def _threshold(decision: Decision) -> str:
    from snojoe.model.decision import JOINT_ENERGY

    if decision.score == JOINT_ENERGY:
        return f"energy >= {decision.tau:.2f}"
    return f"{decision.score} >= {decision.tau:.4g}"


def _known(measured: Mapping[str, FloatArray], tau: float) -> str:
    """What a threshold does to the images that the models were measured on."""
    if not measured:
        return ""
    from snojoe.detectors.store import ID
    from snojoe.measures.conformal import share_interval

    accepted, n = int((measured[ID] >= tau).sum()), len(measured[ID])
    low, high = (100 * share for share in share_interval(accepted, n))
    caught = [
        f"{100 * float((scores < tau).mean()):.1f}% of {name}"
        for name, scores in measured.items()
        if name != ID
    ]
    return (
        f"; accepted {100 * accepted / n:.1f}% [{low:.1f}, {high:.1f}] of "
        f"{_count(n, 'test image')}, caught {', '.join(caught)}"
    )


def export(options: argparse.Namespace) -> None:
    """Write an ONNX file and say how far it is from PyTorch."""
    folder = _model_folders([options.model] if options.model else None)[0]
    _quiet_libraries()
    from snojoe.detect.export import export_onnx

    difference = export_onnx(
        folder, options.onnx, options.accept, options.score, run_code=options.run_code
    )
    size = human_size(options.onnx.stat().st_size)
    print(f"{options.onnx}: {folder}, {size}; differs from PyTorch by at most {difference:.0e}")


def layers(options: argparse.Namespace) -> None:
    """Print the counted layers of an architecture."""
    from snojoe.model.classifier import build_classifier
    from snojoe.spectral_norm import normalized_weights

    model = build_classifier(options.arch, num_classes=20)
    names = layer_names(options.arch)
    counts = [len(normalized_weights(model, depth)) for depth in range(len(names) + 1)]
    width = max(len(name) for name in names)
    print(f"{'sn_layers':>9}  {'layer':<{width}}  weights in it  normalised")
    print(f"{0:>9}  {'(none)':<{width}}  {'':>13}  {0:>10}")
    for depth, name in enumerate(names, start=1):
        inside = counts[depth] - counts[depth - 1]
        print(f"{depth:>9}  {name:<{width}}  {inside:>13}  {counts[depth]:>10}")


def data_check(options: argparse.Namespace) -> int:
    """Print the state and the labels of all archives; returns 1 where the user has to act."""
    from snojoe.data.inventory import inventory
    from snojoe.params import load_params

    params = load_params(options.params)
    text, complete = inventory(params, Path("data/raw"), Path(".checkpoints/downloads"))
    print(text)
    return 0 if complete else 1


def _model_folders(named: list[Path] | None) -> list[Path]:
    """Model directories, looked for before torch is imported."""
    from snojoe.model.folder import CONFIG

    folders = named or _default_models()
    for folder in folders:
        if not (folder / CONFIG).is_file():
            raise SnojoeError(f"{folder}: not a model directory: it has no {CONFIG}")
    return folders


def _default_models() -> list[Path]:
    from snojoe.experiment import Folders
    from snojoe.params import load_params

    if not Path("params.yaml").exists():
        raise SnojoeError("no params.yaml here: expected --model DIR, a model directory")
    params = load_params()
    # Not whatever lies there: models of earlier parameters may.
    folders = [Folders(Path()).model(params.sn_layers, seed) for seed in params.seeds]
    for folder in folders:
        if not folder.exists():
            raise SnojoeError(f"{folder}: no model yet; expected --model DIR, or `dvc repro` first")
    return folders


def _quiet_libraries() -> None:
    """Set what belongs to the process, not to the package."""
    # See stages/_run.py: threads that spin while they wait would take time from those that decode.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What is wrong with an image stands in the output, beside its name.
    warnings.filterwarnings("ignore", module="PIL")


def _arch(text: str) -> str:
    if text in TRUNKS or is_timm(text):
        return text
    raise argparse.ArgumentTypeError(
        f"invalid choice: {text!r} (choose from {', '.join(TRUNKS)}, timm/<name>)"
    )


def _meaning(text: str) -> tuple[str, str]:
    label, _, what = text.rpartition("=")
    if label and what in ("class", "negative", "unannotated"):
        return label, what
    raise argparse.ArgumentTypeError(f"expected LABEL=negative, say; got {text!r}")


def _share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) <= 1:
            return value
    raise argparse.ArgumentTypeError(f"expected a share in (0, 1], such as 0.95; got {text!r}")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _tell(line: str) -> None:
    print(line, file=sys.stderr)

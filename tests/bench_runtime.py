"""Every shipped network on the very inputs that one study gives it, by each CPU runtime: time, ratio to eager, same answers?

Eager float32 in the layout that `models.runtime` uses; the same under bfloat16 autocast; ONNX Runtime where `onnx`, `onnxscript` and
`onnxruntime` are installed; torch.compile on demand (`--compile`), since its first call takes longer than a whole study.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from dicom_io.study import Study
from inference.analyze import Engine, analyze

Runner = Callable[[torch.Tensor], torch.Tensor]
SAME_CLASS = 0.9995
"""A faster runtime could replace eager float32 only where at least this share of pixels keeps its class, and
no probability moves by more than `LARGEST_CHANGE`."""
LARGEST_CHANGE = 0.02
_REPEATS = 2


@dataclass(frozen=True)
class Measured:
    """One network under one runtime: seconds for all inputs of a study, share of equal classes, largest change of a probability."""

    network: str
    runtime: str
    seconds: float
    first_s: float
    same: float
    change: float


def networks_of(engine: Engine) -> dict[str, Any]:
    """The networks of an engine by name, as modules."""
    found: dict[str, Any] = {}
    for reader in (engine.sagittal, engine.axial, engine.recess, engine.grader):
        while reader is not None:
            found[reader.card.name] = reader.network
            reader = getattr(reader, "partner", None)
    return found


def inputs_of(engine: Engine, study: Study) -> dict[str, list[torch.Tensor]]:
    """What each network is given while `study` is analysed."""
    seen: dict[str, list[torch.Tensor]] = {}
    hooks = []
    for name, network in networks_of(engine).items():
        mine = seen.setdefault(name, [])
        hooks.append(network.register_forward_pre_hook(lambda _, given, mine=mine: mine.append(given[0].clone())))
    analyze(study, engine=engine)
    for hook in hooks:
        hook.remove()
    return {name: inputs for name, inputs in seen.items() if inputs}


def eager(network: Any) -> Runner:
    """As shipped."""
    return lambda images: network(images)


def bfloat16(network: Any) -> Runner:
    """Autocast on the CPU; layout as given (channels last)."""

    def run(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return network(images).float()

    return run


def compiled(network: Any) -> Runner:
    """torch.compile with shapes left open."""
    made = torch.compile(network, dynamic=True)
    return lambda images: made(images)


def onnx(network: Any, example: torch.Tensor) -> Runner | None:
    """ONNX Runtime in float32; None where what it needs is not installed."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - the exporter needs it
    except ImportError:
        return None
    buffer = io.BytesIO()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        # batch and size stay open: slices differ from study to study
        size = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
        torch.onnx.export(
            network,
            (example.contiguous(),),
            str(path),
            dynamo=True,
            dynamic_shapes=(size,),
            external_data=False,
            verbose=False,
        )
        buffer.write(path.read_bytes())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.contiguous().numpy()})[0])


def measure(name: str, inputs: Sequence[torch.Tensor], runners: dict[str, Runner]) -> list[Measured]:
    """Each runner on all inputs, in turns; answers are compared with those of the first."""
    best = dict.fromkeys(runners, float("inf"))
    first: dict[str, float] = {}
    answers: dict[str, list[torch.Tensor]] = {}
    with torch.inference_mode():
        for _ in range(_REPEATS + 1):  # the first round warms up
            for runtime, run in runners.items():
                start = time.perf_counter()
                answers[runtime] = [run(images) for images in inputs]
                spent = time.perf_counter() - start
                if runtime in first:
                    best[runtime] = min(best[runtime], spent)
                else:
                    first[runtime] = spent
    base = answers[next(iter(runners))]
    return [
        Measured(name, runtime, best[runtime], first[runtime], *_compared(base, answers[runtime]))
        for runtime in runners
    ]


def _compared(base: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> tuple[float, float]:
    """Share of places with the same class, and the largest change of a probability; a grader's answers are each yes or no."""
    same, count, change = 0, 0, 0.0
    for one, two in zip(base, other, strict=True):
        if one.dim() == 4:
            equal = one.argmax(1) == two.argmax(1)
            apart = (one.softmax(1) - two.softmax(1)).abs()
        else:
            equal, apart = (one > 0) == (two > 0), (one.sigmoid() - two.sigmoid()).abs()
        same, count = same + int(equal.sum()), count + equal.numel()
        change = max(change, float(apart.max()))
    return same / count, change


def measure_all(engine: Engine, study: Study, *, with_compile: bool = False) -> tuple[list[Measured], list[str]]:
    """All networks under all runtimes, and what could not be measured."""
    measured, missing = [], []
    networks = networks_of(engine)
    for name, inputs in inputs_of(engine, study).items():
        runners: dict[str, Runner] = {
            "eager float32": eager(networks[name]),
            "eager bfloat16": bfloat16(networks[name]),
        }
        exported = onnx(networks[name], inputs[0])
        if exported is not None:
            runners["onnxruntime float32"] = exported
        else:
            missing.append(f"{name}: onnxruntime, not measured (needs onnxscript)")
        if with_compile:
            runners["torch.compile"] = compiled(networks[name])
        measured += measure(name, inputs, runners)
    return measured, missing


def print_table(console: Console, measured: Sequence[Measured], missing: Sequence[str]) -> None:
    """Seconds, ratio to eager float32 and agreement; a runtime that moves more than the bounds is marked."""
    table = Table(
        "network", "runtime", "seconds", "to eager", "first call", "same class", "largest change", "within bounds",
        title=f"networks on one study, {torch.get_num_threads()} threads",
    )  # fmt: skip
    base = {item.network: item.seconds for item in measured if item.runtime == "eager float32"}
    for item in measured:
        fits = item.same >= SAME_CLASS and item.change <= LARGEST_CHANGE
        table.add_row(
            item.network,
            item.runtime,
            f"{item.seconds:.3f}",
            f"{item.seconds / base[item.network]:.2f}",
            f"{item.first_s:.2f}",
            f"{item.same:.5f}",
            f"{item.change:.4f}",
            "yes" if fits else "no",
        )
    console.print(table)
    for line in missing:
        console.print(line)
    total = sum(base.values())
    for runtime in dict.fromkeys(item.runtime for item in measured):
        spent = sum(item.seconds for item in measured if item.runtime == runtime)
        console.print(f"all networks, {runtime}: {spent:.2f} s, {spent / total:.2f} of eager float32")
    console.print(
        f"bounds for another runtime than eager float32: same class in {SAME_CLASS:.2%} of pixels or answers, "
        f"no probability moved by more than {LARGEST_CHANGE:g}"
    )


def main() -> None:
    """`python -m tests.bench_runtime STUDY [--compile]`."""
    from dicom_io import read_study

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    found = measure_all(Engine.load("cpu"), read_study(options.study), with_compile=options.compile)
    print_table(Console(width=130), *found)


if __name__ == "__main__":
    main()

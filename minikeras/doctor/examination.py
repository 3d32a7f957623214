"""The checks, one after the other, as they are told: kernels, threads and trainings of each device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np

from minikeras import kernels
from minikeras.doctor import machine
from minikeras.doctor.cases import KERNELS, LARGE
from minikeras.doctor.trainings import TRAININGS, Trained, Training
from minikeras.kernels import table
from minikeras.kernels.comparison import Bench, Compared, DeviceLost, Outcome, Watched, causes
from minikeras.kernels.cuda import launch, turned_off

STOPPED = "stopped the device"  # what it is that the next examination does not try again
SAME = 2e-3  # of two trainings on two devices, which take several steps with each other's roundings
TYPES = {"cpu": ("float32", "float64"), "gpu": ("float32", "float64", "float16", "bfloat16")}
SHORT = {"float16": "f2", "bfloat16": "b2", "float32": "f4", "float64": "f8"}
Say = Callable[[str], None]


class Examination:
    """What has been found so far.

    Args:
        say: takes each line of the report.
        large: whether kernels are run on arrays of usual sizes too.
        trainings: what is trained.
    """

    def __init__(self, say: Say, large: bool = True, trainings: Sequence[Training] = TRAININGS):
        self.say, self.large, self.trainings = say, large, trainings
        self.failures: list[str] = []
        self._start = time.perf_counter()

    def fail(self, what: str) -> None:
        self.failures.append(what)
        self.say(f"FAILED: {what}")

    def verdict(self) -> int:
        """The last line, and the exit status."""
        seconds = time.perf_counter() - self._start
        if not self.failures:
            self.say(f"PASS: everything, in {seconds:.0f} s.")
            return 0
        self.say(f"FAILED: {len(self.failures)} of the checks, in {seconds:.0f} s; please send this whole report:")
        for failure in self.failures:
            self.say(f"  - {failure}")
        return 1

    # ---- kernels

    def kernels(self, xp: Any, device: str, dtypes: Iterable[str]) -> dict[str, Outcome]:
        """Run every case on a device and on the reference; on a GPU what fails is turned off, until the rest passes."""
        cases = [(case, False) for case in (*KERNELS, *LARGE)] + [(case, True) for case in LARGE if self.large]
        watched, outcomes = Watched(xp, device), dict[str, Outcome]()
        asked: list[set[str]] = []
        for number, (case, large) in enumerate(cases, 1):
            start = time.perf_counter()
            asked.append(self._run(case, large, dtypes, watched, outcomes))
            name = case.__name__.strip("_").replace("_", " ") + (", large" if large else "")
            took = time.perf_counter() - start
            self.say(f"[{number:2}/{len(cases)}] {device} kernels: {name:28} {took:5.1f} s")
        while device == "gpu" and (wrong := list(causes(outcomes, table.overridden("gpu")))):
            for outcome in wrong:
                self._turn_off(xp, outcome.name, outcome.reason)
            others = {name for name, one in outcomes.items() if not one.passed} - set(turned_off.all_off())
            for name in others:
                del outcomes[name]
            for (case, large), names in zip(cases, asked, strict=True):
                if names & others:
                    self._run(case, large, dtypes, watched, outcomes)
        for name, outcome in sorted(outcomes.items()):
            if not outcome.passed and name not in turned_off.all_off():
                self.fail(f"{device} kernel {name} {outcome.reason}")
        return outcomes

    def _run(
        self, case: Callable[[Bench], Any], large: bool, dtypes: Iterable[str], watched: Watched, outcomes: Any
    ) -> set[str]:
        """A case in every type, each twice: the first may compile; the kernels that it asked for."""
        launched: set[str] = set()
        launch.launched = None if watched.xp is np else launched
        try:
            for dtype, timed in product(dtypes, (False, True)):
                bench = Compared(dtype, watched, outcomes, launched, large, timed)
                case(bench)
        except DeviceLost as lost:
            self._turn_off(watched.xp, lost.name, f"{STOPPED}: {lost.reason}")
            raise
        finally:
            launch.launched = None
        return bench.asked

    def _turn_off(self, xp: Any, name: str, why: str) -> None:
        turned_off.turn_off(xp, name, why)
        self.fail(f"{name} {why}; it is turned off on {turned_off.device_of(xp)}, and the reference serves")

    def table(self, outcomes: dict[str, Outcome], device: str) -> None:
        """What is known of each kernel, a line each."""
        self.say(f"{'kernel':32} {'types':12} {'difference':>10} {device:>9} {'reference':>9}")
        for name, outcome in sorted(outcomes.items()):
            types = " ".join(SHORT[one] for one in outcome.dtypes)
            times = [f"{1e6 * seconds:,.0f} us" for seconds in (outcome.seconds, outcome.reference_seconds)]
            verdict = "PASS" if outcome.passed else f"FAILED: {outcome.reason}"
            own = f" ({', '.join(sorted(outcome.launched))})" if outcome.launched else ""
            self.say(f"{name:32} {types:12} {outcome.difference:10.1e} {times[0]:>9} {times[1]:>9}  {verdict}{own}")

    # ---- devices

    def cpu(self) -> None:
        """Kernels against the reference, the same bits twice, and a program against its layers."""
        with_code = kernels.machine_code_is_there()
        kernels.use("cpu" if with_code else "numpy")
        if with_code:
            outcomes = self.kernels(np, "cpu", TYPES["cpu"])
            self.table(outcomes, "CPU")
        for training in self.trainings:
            once, again, eager = (training.run(jit) for jit in ("auto", "auto", False))
            for what, other in (("a second time", again), ("without programs", eager)):
                difference = once.difference(other)
                if difference:
                    self.fail(f"CPU: training {training.name} {what} differs by {difference:.1e}, it should not at all")
            self.say(
                f"CPU: training {training.name}: {again.seconds:.2f} s, without programs {eager.seconds:.2f} s, "
                f"losses {_losses(once)}, the same bits twice"
            )

    def gpu(self, xp: Any) -> None:
        """Kernels, trainings and graphs, against the CPU."""
        before = turned_off.known(xp)
        turned_off.reset(xp)
        for name, why in before.items():
            if why.startswith(STOPPED):
                self._turn_off(xp, name, why)
        try:
            outcomes = self.kernels(xp, "gpu", TYPES["gpu"])
        except DeviceLost as lost:
            self.say(f"The device does not answer any more after {lost.name}; run doctor again for the other checks.")
            return
        self.table(outcomes, "GPU")
        ran = {name for outcome in outcomes.values() for name in outcome.launched}
        launch.launched = ran
        try:
            for training in self.trainings:
                self._train(xp, training)
        finally:
            launch.launched = None
        left = sorted({name for source in launch.sources for name in source.names} - ran)
        self.say(f"{len(ran)} CUDA kernels ran" + (f", not: {', '.join(left)}" if left else "") + ".")
        if not turned_off.keep(xp):
            self.say(f"What is turned off could not be written to {turned_off.path()}; each process will check anew.")

    def _train(self, xp: Any, training: Training) -> None:
        """On the CPU, on the GPU, and there as a graph."""
        kernels.use("cpu" if kernels.machine_code_is_there() else "numpy")
        expected = training.run(False)
        kernels.use("gpu")
        eager = self._attempt(training, False, expected)
        if isinstance(eager, str):
            self.fail(f"GPU: training {training.name} {eager}")
            return
        graph = self._attempt(training, "auto", eager)
        for name in turned_off.OTHERS:
            if isinstance(graph, str) and turned_off.reason(name) is None:
                why = f"was on when training {training.name} as a program {graph}"
                turned_off.turn_off(xp, name, why)
                graph = self._attempt(training, "auto", eager)
                if isinstance(graph, str):  # not because of this
                    turned_off.turn_on(xp, name)
                else:
                    self._turn_off(xp, name, why)
        if isinstance(graph, str):
            self.fail(f"GPU: training {training.name} with programs {graph}")
            return
        if graph.reason is not None and turned_off.reason("graphs") is None:
            self.fail(f"GPU: training {training.name} has no program: {graph.reason}")
        self.say(
            f"GPU: training {training.name}: {graph.seconds:.2f} s, without programs {eager.seconds:.2f} s, CPU "
            f"{expected.seconds:.2f} s; losses {_losses(eager)}, CPU {_losses(expected)}; largest difference "
            f"{eager.difference(expected):.1e}, with programs {graph.difference(eager):.1e}"
        )

    def _attempt(self, training: Training, jit_compile: bool | str, expected: Trained) -> Trained | str:
        """What comes of a training, or what is wrong with it."""
        try:
            found = training.run(jit_compile)
        except Exception as error:
            return f"raised {type(error).__name__}: {error}".split("\n")[0]
        difference = found.difference(expected)
        return found if difference <= SAME else f"differs by {difference:.1e}"


def _losses(trained: Trained) -> str:
    return ", ".join(f"{loss:.4f}" for loss in trained.losses)


def examine(say: Say, xp: Any = None, large: bool = True, trainings: Sequence[Training] = TRAININGS) -> int:
    """Check this machine; 1 if anything failed.

    Args:
        say: takes each line of the report.
        xp: CuPy, or None where there is no GPU.
        large: whether kernels are run on arrays of usual sizes too.
        trainings: what is trained.
    """
    examination = Examination(say, large, trainings)
    for title, line in (
        ("", machine.versions()),
        ("packages: ", machine.packages()),
        ("processor: ", machine.cpu()),
        ("machine code: ", machine.machine_code()),
        ("settings: ", machine.settings()),
    ):
        say(title + line)
    if xp is None:
        say(f"GPU: none is used, {machine.why_no_gpu()}.")
    for line in [] if xp is None else machine.gpu(xp):
        say(f"GPU: {line}")
    active = kernels.active_device()
    try:
        examination.cpu()
        if xp is not None:
            examination.gpu(xp)
    finally:
        kernels.use(active)
    return examination.verdict()

"""A whole program, as its user runs it: a row's network built, trained for an epoch or two, W1's evaluated too.

Run as `python -m benchmarks.script NAME ROW [quick]`; NAME is one of `frameworks.NAMES`.  Prints, as JSON, the loss and
the seconds of the training.
"""

import json
import sys
from dataclasses import replace
from time import perf_counter

from benchmarks import frameworks
from benchmarks.workloads import ROWS, TEST_PICTURES, Setting

framework, row, quick = frameworks.load(sys.argv[1]), ROWS[sys.argv[2]], "quick" in sys.argv[3:]
x, y = framework.data(row, Setting(quick=quick))
program = framework.program(row)
start = perf_counter()
loss = program.fit(x, y, row.batch_size, row.epochs)
seconds = perf_counter() - start
if sys.argv[2] == "W1":
    loss = program.evaluate(*framework.data(replace(row, count=TEST_PICTURES), Setting(quick=quick, seed=1)))
print(json.dumps({"loss": loss, "seconds": seconds}))

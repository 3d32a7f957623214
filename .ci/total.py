"""Add up the closing lines of several pytest runs on standard input and print one in their form."""

import re
import sys

counts: dict[str, int] = {}
seconds = 0.0
for line in sys.stdin:
    closing = re.match(r"^=*\s*((?:\d+ \w+(?:, )?)+) in ([\d.]+)s", line)
    if closing:
        seconds += float(closing[2])
        for number, what in re.findall(r"(\d+) (\w+)", closing[1]):
            counts[what] = counts.get(what, 0) + int(number)
if not counts.get("passed"):
    sys.exit("No test run reported a passed test.")
order = ["failed", "passed", "skipped", "deselected", "xfailed", "warnings", "error", "errors"]
parts = [f"{counts[what]} {what}" for what in sorted(counts, key=lambda w: order.index(w) if w in order else 99)]
print(f"{'=' * 12} {', '.join(parts)} in {seconds:.2f}s {'=' * 12}")

"""Text for the user on standard output; a stream that cannot take it never disturbs the work it tells of.

Where interactive logging is disabled, the text goes to Python's `logging` instead.
"""

from __future__ import annotations

import os
import sys

from minikeras import config

# Drawn characters, and what stands for them where the stream's encoding has not got them.
_PLAIN = str.maketrans("━─┃│┏┳┓┡╇┩├┼┤└┴┘…", "=-||++++++++++++.")

_line_is_open = False


def show(text: str) -> None:
    """Write text to standard output as it is, and flush.

    Characters that the stream cannot encode are replaced; a stream that is closed or has no reader loses the text.
    """
    global _line_is_open
    stream = sys.stdout
    if not config.is_interactive_logging_enabled():
        import logging

        if text.strip():
            logging.getLogger("minikeras").info("%s", text.strip())
        return
    if stream is None or not text:
        return
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError as error:
            stream.write(text.translate(_PLAIN).encode(error.encoding, "replace").decode(error.encoding))
        stream.flush()
    except (OSError, ValueError):  # a broken pipe, a full disk; a closed file
        return
    _line_is_open = not text.endswith("\n")


def announce(message: str) -> None:
    """Write a message on a line of its own, also while a progress bar is being drawn."""
    show(f"\n{message}\n" if _line_is_open else f"{message}\n")


def redraws() -> bool:
    """Whether a line can be drawn over: on a terminal and in a notebook."""
    stream = sys.stdout
    if not config.is_interactive_logging_enabled():
        return False
    try:
        return stream is not None and (stream.isatty() or type(stream).__module__.startswith("ipykernel"))
    except ValueError:  # closed
        return False


def colours() -> bool:
    """Whether a terminal's colours are wanted (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

"""What the picture examples share: drawn shapes, 32 by 32, in colour and noise."""

from __future__ import annotations

import numpy as np

NAMES = ("disc", "square", "triangle", "ring", "cross", "stripes")
SIZE = 32


def shapes(count: int, kinds: tuple[str, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 32, 32, 3) of values 0 to 255, and which of `kinds` each shows."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(len(kinds), size=count)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pictures = np.empty((count, SIZE, SIZE, 3), "float32")
    for picture, label in zip(pictures, labels, strict=True):
        radius = draw.uniform(7, 11)
        y, x = rows - draw.uniform(12, 20), columns - draw.uniform(12, 20)
        distance, widest = np.hypot(y, x), np.maximum(abs(y), abs(x))
        inside = {
            "disc": distance < radius,
            "square": widest < radius * 0.85,
            "triangle": (abs(x) < (y + radius) / 2) & (y < radius * 0.8),
            "ring": abs(distance - radius * 0.8) < 2.5,
            "cross": (np.minimum(abs(y), abs(x)) < 2.5) & (widest < radius),
            "stripes": (widest < radius) & (y % 6 < 3),
        }[kinds[label]]
        ground, colour = draw.uniform(0, 110, size=3), draw.uniform(140, 255, size=3)
        picture[...] = np.where(inside[..., None], colour, ground)
    return np.clip(pictures + draw.normal(scale=12, size=pictures.shape), 0, 255).astype("float32"), labels

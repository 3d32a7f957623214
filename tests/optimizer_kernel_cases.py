"""Calls of the optimizers' kernels, for every device."""

from __future__ import annotations

from typing import Any

# name of a case: (kernel, slots beside p and g, other arguments)
CASES: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "sgd": ("sgd", [], {"lr": 0.1}),
    "momentum": ("sgd_momentum", ["v"], {"lr": 0.1, "momentum": 0.9}),
    "nesterov": ("sgd_momentum", ["v"], {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop": ("rmsprop", ["v"], {"lr": 0.01, "rho": 0.9, "epsilon": 1e-7}),
    "rmsprop momentum": (
        "rmsprop",
        ["v", "momentum_buffer"],
        {"lr": 0.01, "rho": 0.9, "epsilon": 1e-7, "momentum": 0.8},
    ),
    "rmsprop centered": ("rmsprop", ["v", "average_gradient"], {"lr": 0.01, "rho": 0.9, "epsilon": 1e-7}),
    "rmsprop both": (
        "rmsprop",
        ["v", "momentum_buffer", "average_gradient"],
        {"lr": 0.01, "rho": 0.9, "epsilon": 1e-7, "momentum": 0.8},
    ),
    "adam": ("adam", ["m", "v"], {"alpha": 0.01, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
    "amsgrad": ("adam", ["m", "v", "vhat"], {"alpha": 0.01, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-7}),
    "adamw": (
        "adam",
        ["m", "v"],
        {"alpha": 0.01, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amount": 0.004},
    ),
    "amsgrad with decay": (
        "adam",
        ["m", "v", "vhat"],
        {"alpha": 0.01, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-7, "amount": 0.004},
    ),
    "adagrad": ("adagrad", ["total"], {"lr": 0.01, "epsilon": 1e-7}),
    "adadelta": ("adadelta", ["squares", "steps"], {"lr": 0.5, "rho": 0.95, "epsilon": 1e-7}),
    "adamax": ("adamax", ["m", "norm"], {"alpha": 0.01, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-7}),
    "nadam": (
        "nadam",
        ["m", "v"],
        {
            "lr": 0.01,
            "of_mean": 0.7,
            "of_gradient": 0.4,
            "correction": 0.3,
            "beta_1": 0.9,
            "beta_2": 0.99,
            "epsilon": 1e-7,
        },
    ),
    "lion": ("lion", ["m"], {"lr": 0.01, "beta_1": 0.9, "beta_2": 0.99}),
    "ftrl": (
        "ftrl",
        ["total", "linear"],
        {"lr": 0.1, "power": 0.5, "l1": 0.3, "l2": 0.1, "shrinkage": 0.2, "beta": 0.5},
    ),
    "ftrl cubic": (
        "ftrl",
        ["total", "linear"],
        {"lr": 0.1, "power": 1.5, "l1": 0.0, "l2": 0.1, "shrinkage": 0.0, "beta": 0.0},
    ),
}
NOT_BELOW_0 = {"v", "vhat", "total", "squares", "steps", "norm"}

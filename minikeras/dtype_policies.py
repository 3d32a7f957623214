"""Number types of layers: policies, one for each path of a model where they differ, and their descriptions in files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from minikeras.config import DTypePolicy, FloatDTypePolicy, dtype_policy, standardize_dtype

__all__ = ["DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy", "deserialize", "get", "serialize"]


class DTypePolicyMap(DTypePolicy):
    """Policies by the paths of layers, for a model whose layers all get it as their `dtype`.

    Args:
        default_policy: for paths that no key fits; default the policy that is set, `config.dtype_policy()`.
        policy_map: policies by paths, such as `"encoder/dense"`, or regular expressions that fit a whole path.

    Raises:
        ValueError: for a map as the default, and for what is no policy.
        TypeError: where `policy_map` is no dict.

    >>> from minikeras.dtype_policies import DTypePolicyMap
    >>> policies = DTypePolicyMap("float32", {"encoder/.*": "mixed_bfloat16"})
    >>> policies["encoder/dense"], policies["decoder/dense"]
    (<DTypePolicy "mixed_bfloat16">, <DTypePolicy "float32">)
    """

    def __init__(self, default_policy: Any = None, policy_map: Mapping[str, Any] | None = None):
        if isinstance(default_policy, DTypePolicyMap):
            raise ValueError(f"The default of a DTypePolicyMap is no map, got {default_policy!r}; give a policy.")
        if policy_map is not None and not isinstance(policy_map, Mapping):
            raise TypeError(f"A policy_map is a dict of policies by paths, got {policy_map!r}.")
        self._default = None if default_policy is None else get(default_policy)
        self._given = default_policy
        self._policies = {path: get(policy) for path, policy in (policy_map or {}).items()}

    @property
    def default_policy(self) -> DTypePolicy:
        """The policy of paths that no key fits."""
        return dtype_policy() if self._default is None else self._default

    @property
    def name(self) -> str:
        return f"map_{self.default_policy.name}"

    @property
    def compute_dtype(self) -> str:
        return self.default_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        return self.default_policy.variable_dtype

    def __getitem__(self, path: str) -> DTypePolicy:
        """The policy for a path: that of the same key, else of the one key that fits it, else the default.

        Raises:
            ValueError: where several keys fit.
        """
        if path in self._policies:
            return self._policies[path]
        fitting = [key for key in self._policies if re.fullmatch(key, path)]
        if len(fitting) > 1:
            raise ValueError(f"The path {path!r} fits the keys {fitting} of a DTypePolicyMap; let one of them fit.")
        return self._policies[fitting[0]] if fitting else self.default_policy

    def __setitem__(self, path: str, policy: Any) -> None:
        if path in self._policies:
            raise ValueError(f"A DTypePolicyMap has the key {path!r} already, for {self._policies[path]}; delete it.")
        self._policies[path] = get(policy)

    def __delitem__(self, path: str) -> None:
        del self._policies[path]

    def __contains__(self, path: object) -> bool:
        return path in self._policies

    def __iter__(self) -> Iterator[str]:
        return iter(self._policies)

    def __len__(self) -> int:
        return len(self._policies)

    def get_config(self) -> dict[str, Any]:
        default = serialize(self._given) if isinstance(self._given, DTypePolicy) else self._given
        return {"default_policy": default, "policy_map": {path: serialize(one) for path, one in self._policies.items()}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicyMap) and self.get_config() == other.get_config()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        mapping = [(path, policy.name) for path, policy in self._policies.items()]
        return f"<DTypePolicyMap default_policy={self.default_policy.name}, mapping={mapping}>"


_HOMES = {DTypePolicy: "keras", FloatDTypePolicy: "keras", DTypePolicyMap: "keras.dtype_policies"}
_CLASSES: dict[str, type[DTypePolicy]] = {cls.__name__: cls for cls in _HOMES}


def serialize(dtype_policy: DTypePolicy) -> dict[str, Any]:
    """The description of a policy, as files have it.

    Args:
        dtype_policy: the policy.

    Raises:
        ValueError: for what is no policy.

    >>> from minikeras import dtype_policies
    >>> dtype_policies.serialize(dtype_policies.DTypePolicy("mixed_bfloat16"))["config"]
    {'name': 'mixed_bfloat16'}
    """
    cls = type(dtype_policy)
    if cls not in _HOMES:
        raise ValueError(f"A dtype policy can be described, got {dtype_policy!r}; give a DTypePolicy.")
    description = {"module": _HOMES[cls], "class_name": cls.__name__, "config": dtype_policy.get_config()}
    return {**description, "registered_name": None}


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The policy that `serialize` described.

    Args:
        config: the description.
        custom_objects: further classes by name.

    Raises:
        ValueError: where it describes no policy, or one of quantized numbers.

    >>> from minikeras import dtype_policies
    >>> dtype_policies.deserialize({"class_name": "DTypePolicy", "config": {"name": "float64"}})
    <DTypePolicy "float64">
    """
    name = config.get("class_name") if isinstance(config, Mapping) else None
    cls = {**_CLASSES, **(custom_objects or {})}.get(name)  # type: ignore[arg-type]
    if cls is None:
        raise ValueError(f"A description of a dtype policy names one of {', '.join(_CLASSES)}, got {config!r:.200}.")
    return cls.from_config(dict(config["config"]))


def get(identifier: Any) -> Any:
    """The policy that is meant: by itself, its name, its description or a number type; of None the one that is set.

    Args:
        identifier: a name, a configuration, an object, or None.

    Raises:
        ValueError: for anything else.

    >>> from minikeras import dtype_policies
    >>> dtype_policies.get("mixed_float16")
    <DTypePolicy "mixed_float16">
    """
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, Mapping):
        return deserialize(identifier)
    return DTypePolicy(identifier if isinstance(identifier, str) else standardize_dtype(identifier))

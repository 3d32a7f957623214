"""A translator of compiled functions to LLVM, for what kernels need: numbers, pointers, loops, branches, calls.

Numba compiles all of Python's arithmetic on arrays and takes 0.1 to 0.5 s for a function of a screenful, most of it to
find out types.  Here types are plain to see, and the same functions take a tenth of that.  What this module does not
know raises `Untranslatable`, and Numba compiles it; both give the same results (tests/kernels/compiler/test_jit.py).

Types are int64, float32, float64, uint8, uint32, bool and pointers.  A variable has the type of its first value.
Integers do not overflow; `//` and `%` round down as in Python.  float32 meets only float32 and float64 only float64:
mixed arithmetic is refused, where Numba would go on in float64.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from minikeras.kernels.cpu.compiler.kinds import ENTRY, Lazy, Signature
from minikeras.kernels.cpu.compiler.llvm import BYTES, TYPES, Builder, function_type, type_of

_WORD, _BIT = TYPES["int64"], TYPES["bool"]
_FLOATS = "float32", "float64"
_CONSTANTS: dict[str, Any] = {"bool": (bool, np.bool_), "float32": np.float32, "float64": float, "uint8": np.uint8}


class Untranslatable(Exception):
    """The function uses what only Numba knows."""


class _Value(NamedTuple):
    code: Any
    kind: str  # "*float32" is a pointer
    constant: Any = None


def _constant(value: Any) -> _Value:
    for kind, types in _CONSTANTS.items():
        if isinstance(value, types):
            plain = float(value) if kind in _FLOATS else int(value)
            return _Value(ir.Constant(TYPES[kind], plain), kind, plain)
    if isinstance(value, (int, np.int64)):
        return _Value(ir.Constant(_WORD, int(value)), "int64", int(value))
    raise Untranslatable(f"the constant {value!r}")


class Module:
    """Functions on their way to machine code."""

    def __init__(self) -> None:
        self.module = ir.Module()
        self.made: dict[Any, tuple[Any, Any]] = {}  # inner functions, by what is called with which kinds

    def entry(self, signature: Signature) -> tuple[Builder, Any]:
        """Begin the function that is called from outside; (a builder in it, its parameters)."""
        code = ir.Function(self.module, function_type(signature), ENTRY)
        return Builder(code.append_basic_block("entry")), code.args

    def fill(self, builder: Builder, function: Callable, values: list[Any], body: Signature, flags: Any) -> None:
        """Translate a function to where a builder is, which is in one of its own, for parameters with these values."""
        _Function(self, function, body.parameters, flags).fill(builder, values, body.result)

    def function(self, function: Callable, name: str, parameters: tuple[str, ...], flags: Any) -> tuple[Any, Any]:
        """Translate a function that others will contain: (LLVM's function, kind of its result or a tuple of kinds)."""
        return _Function(self, function, parameters, flags).define(name)


class _Function:
    def __init__(self, module: Module, function: Callable, parameters: tuple[str, ...], flags: Any):
        self.module, self.flags = module, tuple(sorted(flags))
        self.space = function.__globals__
        try:
            (self.tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        except (OSError, SyntaxError) as error:  # there is no source, or it is a lambda among other things
            raise Untranslatable("a function without a source of its own") from error
        self.parameters = parameters
        self.result: Any = None
        self.builder: Any = None

    def define(self, name: str) -> tuple[Any, Any]:
        arguments = [type_of(parameter) for parameter in self.parameters]
        draft = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), arguments), "draft")  # to see what it returns
        self.fill(Builder(draft.append_basic_block("entry")), draft.args, None)
        kinds = self.result if isinstance(self.result, tuple) else (self.result,)
        types = [type_of(kind) for kind in kinds]
        returned = types[0] if len(types) == 1 else ir.LiteralStructType(types)
        code = ir.Function(self.module.module, ir.FunctionType(returned, arguments), name)
        code.linkage = "internal"
        code.attributes.add("alwaysinline")
        self.fill(Builder(code.append_basic_block("entry")), code.args, self.result)
        return code, self.result

    def fill(self, builder: Builder, values: Any, result: Any) -> None:
        """Translate the body; without a `result` as a draft, which finds the kind of what is returned."""
        assert isinstance(self.tree, ast.FunctionDef)
        self.drafting, self.result = result is None, result or "void"
        self.places: dict[str, tuple[Any, str]] = {}
        self.loops: list[tuple[Any, Any]] = []
        self.builder = builder
        for argument, value, kind in zip(self.tree.args.args, values, self.parameters, strict=True):
            self._assign(ast.Name(argument.arg), _Value(value, kind))
        self._block(self.tree.body)
        if not self.builder.block.is_terminated:
            if self.drafting or self.result == "void":
                self.builder.ret_void()
            else:
                self.builder.unreachable()

    # ---- statements

    def _block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            getattr(self, f"_do_{type(statement).__name__}", self._unknown)(statement)

    def _unknown(self, node: Any) -> Any:
        raise Untranslatable(ast.unparse(node))

    def _do_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self._value(node.value)

    def _do_Pass(self, node: ast.Pass) -> None:
        pass

    def _do_Assign(self, node: ast.Assign) -> None:
        (target,) = node.targets
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            for one, value in zip(target.elts, [self._value(part) for part in node.value.elts], strict=True):
                self._assign(one, value)
        elif isinstance(target, ast.Tuple):
            whole = self._call(node.value, several=True)
            for place, (one, kind) in enumerate(zip(target.elts, whole.kind, strict=True)):
                self._assign(one, _Value(self.builder.extract_value(whole.code, place), kind))
        else:
            self._assign(target, self._value(node.value))

    def _do_AugAssign(self, node: ast.AugAssign) -> None:
        self._assign(node.target, self._binary(node.op, self._value(node.target), self._value(node.value)))

    def _assign(self, target: Any, value: _Value) -> None:
        if isinstance(target, ast.Subscript):
            pointer, index = self._value(target.value), self._as(self._value(target.slice), "int64")
            kind = pointer.kind[1:]
            place = self.builder.gep(pointer.code, [index.code], inbounds=True)
            self.builder.store(self._as(value, kind).code, place, align=BYTES[kind])
            return
        if target.id not in self.places:
            kind = value.kind
            with self.builder.goto_entry_block():
                self.places[target.id] = self.builder.alloca(type_of(kind)), kind
        place, kind = self.places[target.id]
        self.builder.store(self._as(value, kind).code, place)

    def _do_If(self, node: ast.If) -> None:
        test = self._truth(node.test)
        if test.constant is not None:
            self._block(node.body if test.constant else node.orelse)
            return
        yes, no, end = (self.builder.append_basic_block(name) for name in ("yes", "no", "end"))
        self.builder.cbranch(test.code, yes, no)
        for block, statements in ((yes, node.body), (no, node.orelse)):
            self.builder.position_at_end(block)
            self._block(statements)
            self._go_on(end)
        self.builder.position_at_end(end)

    def _go_on(self, block: Any) -> None:
        if not self.builder.block.is_terminated:
            self.builder.branch(block)

    def _do_While(self, node: ast.While) -> None:
        test, body, end = (self.builder.append_basic_block(name) for name in ("test", "body", "end"))
        self.builder.branch(test)
        self.builder.position_at_end(test)
        self.builder.cbranch(self._truth(node.test).code, body, end)
        self._loop(body, test, end, node.body)

    def _loop(self, body: Any, again: Any, end: Any, statements: list[ast.stmt]) -> None:
        self.loops.append((again, end))
        self.builder.position_at_end(body)
        self._block(statements)
        self._go_on(again)
        self.loops.pop()
        self.builder.position_at_end(end)

    def _do_For(self, node: ast.For) -> None:
        call = node.iter
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"):
            self._unknown(node)
        limits = [self._as(self._value(argument), "int64") for argument in call.args]  # type: ignore[attr-defined]
        start, stop = (_constant(0), limits[0]) if len(limits) == 1 else limits[:2]
        step = limits[2] if len(limits) == 3 else _constant(1)
        b = self.builder
        with b.goto_entry_block():
            counter = b.alloca(_WORD)
        b.store(start.code, counter)
        test, body, again, end = (b.append_basic_block(name) for name in ("test", "body", "again", "end"))
        b.branch(test)
        b.position_at_end(test)
        present = b.load(counter)
        zero = ir.Constant(_WORD, 0)
        forward, backward = (b.icmp_signed(sign, present, stop.code) for sign in "<>")
        b.cbranch(b.select(b.icmp_signed(">", step.code, zero), forward, backward), body, end)
        b.position_at_end(again)
        b.store(b.add(b.load(counter), step.code, flags=["nsw"]), counter)
        b.branch(test)
        b.position_at_end(body)
        self._assign(node.target, _Value(present, "int64"))
        self._loop(b.block, again, end, node.body)

    def _do_Break(self, node: ast.Break) -> None:
        self._leave(self.loops[-1][1])

    def _do_Continue(self, node: ast.Continue) -> None:
        self._leave(self.loops[-1][0])

    def _leave(self, block: Any) -> None:
        self.builder.branch(block)
        self.builder.position_at_end(self.builder.append_basic_block("never"))

    def _do_Return(self, node: ast.Return) -> None:
        parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value] if node.value else []
        values = [self._value(part) for part in parts]
        if self.drafting:
            kinds = tuple(value.kind for value in values)
            self.result = (kinds if len(kinds) != 1 else kinds[0]) or "void"
            self.builder.ret_void()
        elif not values:
            self.builder.ret_void()
        elif len(values) == 1:
            self.builder.ret(self._as(values[0], self.result).code)
        else:
            whole = ir.Constant(ir.LiteralStructType([type_of(kind) for kind in self.result]), ir.Undefined)
            for place, (value, kind) in enumerate(zip(values, self.result, strict=True)):
                whole = self.builder.insert_value(whole, self._as(value, kind).code, place)
            self.builder.ret(whole)
        self.builder.position_at_end(self.builder.append_basic_block("never"))

    # ---- expressions

    def _value(self, node: ast.expr) -> _Value:
        names = [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
        if not any(name in self.places or isinstance(self.space.get(name), Lazy) for name in names):
            return _constant(eval(compile(ast.Expression(node), "<constant>", "eval"), self.space))
        value: _Value = getattr(self, f"_get_{type(node).__name__}", self._unknown)(node)
        return value

    def _get_Name(self, node: ast.Name) -> _Value:
        place, kind = self.places[node.id]
        return _Value(self.builder.load(place), kind)

    def _get_Subscript(self, node: ast.Subscript) -> _Value:
        pointer, index = self._value(node.value), self._as(self._value(node.slice), "int64")
        if not pointer.kind.startswith("*"):
            self._unknown(node)
        kind = pointer.kind[1:]
        place = self.builder.gep(pointer.code, [index.code], inbounds=True)
        return _Value(self.builder.load(place, align=BYTES[kind]), kind)

    def _get_BinOp(self, node: ast.BinOp) -> _Value:
        return self._binary(node.op, self._value(node.left), self._value(node.right))

    def _binary(self, operator: ast.operator, a: _Value, b: _Value) -> _Value:
        name, build = type(operator).__name__, self.builder
        if a.kind in _FLOATS or b.kind in _FLOATS:
            if a.kind != b.kind or name not in _FLOAT:
                raise Untranslatable(f"{name} of {a.kind} and {b.kind}")
            return _Value(getattr(build, _FLOAT[name])(a.code, b.code, flags=self.flags), a.kind)
        x, y = self._as(a, "int64"), self._as(b, "int64")
        if name in _INTEGER:
            method, options = _INTEGER[name]
            return _Value(getattr(build, method)(x.code, y.code, **options), "int64")
        if name not in ("FloorDiv", "Mod"):
            raise Untranslatable(f"{name} of {a.kind} and {b.kind}")
        power = y.constant is not None and y.constant > 0 and not y.constant & (y.constant - 1)
        if power:  # shifts and masks round down
            if name == "Mod":
                return _Value(build.and_(x.code, ir.Constant(_WORD, y.constant - 1)), "int64")
            return _Value(build.ashr(x.code, ir.Constant(_WORD, y.constant.bit_length() - 1)), "int64")
        zero, one = ir.Constant(_WORD, 0), ir.Constant(_WORD, 1)
        undefined = build.icmp_signed("==", y.code, zero)  # divided by zero is zero, as in Numba
        divisor = build.select(undefined, one, y.code)
        quotient, rest = build.sdiv(x.code, divisor), build.srem(x.code, divisor)
        uneven = build.icmp_signed("!=", rest, zero)
        down = build.and_(uneven, build.icmp_signed("<", build.xor(rest, divisor), zero))
        if name == "Mod":
            return _Value(build.select(down, build.add(rest, divisor), rest), "int64")
        quotient = build.sub(quotient, build.zext(down, _WORD))
        return _Value(build.select(undefined, zero, quotient), "int64")

    def _get_UnaryOp(self, node: ast.UnaryOp) -> _Value:
        if isinstance(node.op, ast.Not):
            return _Value(self.builder.not_(self._truth(node.operand).code), "bool")
        value = self._value(node.operand)
        if not isinstance(node.op, ast.USub):
            self._unknown(node)
        if value.kind in _FLOATS:
            return _Value(self.builder.fneg(value.code), value.kind)
        return _Value(self.builder.neg(self._as(value, "int64").code), "int64")

    def _get_Compare(self, node: ast.Compare) -> _Value:
        values = [self._value(part) for part in (node.left, *node.comparators)]
        result = None
        for operator, a, b in zip(node.ops, values, values[1:], strict=False):
            sign = _COMPARE.get(type(operator).__name__)
            if sign is None:
                self._unknown(node)
            if a.kind in _FLOATS or b.kind in _FLOATS:
                if a.kind != b.kind:
                    self._unknown(node)
                compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
            else:
                if a.kind != b.kind or a.kind == "bool":
                    a, b = self._as(a, "int64"), self._as(b, "int64")
                compare = self.builder.icmp_signed if a.kind == "int64" else self.builder.icmp_unsigned
            one = compare(sign, a.code, b.code)
            result = one if result is None else self.builder.and_(result, one)
        return _Value(result, "bool")

    def _get_BoolOp(self, node: ast.BoolOp) -> _Value:
        """Operands after the first are only looked at where they decide."""
        every = isinstance(node.op, ast.And)
        with self.builder.goto_entry_block():
            place = self.builder.alloca(_BIT)
        end = self.builder.append_basic_block("end")
        for part in node.values:
            test = self._truth(part).code
            self.builder.store(test, place)
            more = self.builder.append_basic_block("more")
            self.builder.cbranch(test, *((more, end) if every else (end, more)))
            self.builder.position_at_end(more)
        self.builder.branch(end)
        self.builder.position_at_end(end)
        return _Value(self.builder.load(place), "bool")

    def _get_IfExp(self, node: ast.IfExp) -> _Value:
        test = self._truth(node.test)
        b = self.builder
        yes, no, end = (b.append_basic_block(name) for name in ("yes", "no", "end"))
        b.cbranch(test.code, yes, no)
        results = []
        for block, part in ((yes, node.body), (no, node.orelse)):
            b.position_at_end(block)
            value = self._value(part)
            results.append((value, b.block))
        kind = results[0][0].kind if results[0][0].kind == results[1][0].kind else "int64"
        ends = []
        for value, block in results:
            b.position_at_end(block)
            ends.append((self._as(value, kind).code, block))
            b.branch(end)
        b.position_at_end(end)
        chosen = b.phi(type_of(kind))
        for code, block in ends:
            chosen.add_incoming(code, block)
        return _Value(chosen, kind)

    def _truth(self, node: ast.expr) -> _Value:
        value = self._value(node)
        if value.kind == "bool":
            return value
        if value.constant is not None:
            return _constant(bool(value.constant))
        if value.kind in _FLOATS:
            self._unknown(node)
        return _Value(self.builder.icmp_signed("!=", value.code, ir.Constant(value.code.type, 0)), "bool")

    def _as(self, value: _Value, kind: str) -> _Value:
        """The value in another integer type; a float is nothing else."""
        if value.kind == kind:
            return value
        if value.kind in ("bool", "uint8", "uint32") and kind == "int64":
            return _Value(self.builder.zext(value.code, _WORD), kind, value.constant)
        if value.kind == "int64" and kind in ("uint8", "uint32"):
            return _Value(self.builder.trunc(value.code, TYPES[kind]), kind)
        raise Untranslatable(f"{value.kind} where {kind} is needed")

    # ---- calls

    def _get_Call(self, node: ast.Call) -> _Value:
        return self._call(node)

    def _call(self, node: Any, several: bool = False) -> Any:
        if not isinstance(node, ast.Call) or node.keywords:
            self._unknown(node)
        name = ast.unparse(node.func)
        values = [self._value(argument) for argument in node.args]
        called = self.space.get(name)
        if isinstance(called, Lazy):
            code, kind = called.translated(self.module, self.builder, values, self._as, self.flags)
            if isinstance(kind, tuple) is not several:
                self._unknown(node)
            return _Value(code, kind)
        if name in ("min", "max") and len(values) == 2:
            a, b = (self._as(value, "int64") for value in values)
            less = self.builder.icmp_signed("<" if name == "min" else ">", b.code, a.code)
            return _Value(self.builder.select(less, b.code, a.code), "int64")
        (value,) = values if len(values) == 1 else (None,)
        known = _NUMBERS.get(_resolve(node.func, self.space))
        if value is None or known is None:
            self._unknown(node)
            raise AssertionError
        return known(self, value)

    def _to_float(self, value: _Value, kind: str) -> _Value:
        if value.kind == kind:
            return value
        if value.kind in _FLOATS:
            convert = self.builder.fptrunc if kind == "float32" else self.builder.fpext
        else:
            convert = self.builder.sitofp if value.kind == "int64" else self.builder.uitofp
        return _Value(convert(value.code, TYPES[kind]), kind)

    def _to_int(self, value: _Value) -> _Value:
        if value.kind in _FLOATS:
            return _Value(self.builder.fptosi(value.code, _WORD), "int64")
        return self._as(value, "int64")

    def _of_float(self, name: str, value: _Value) -> _Value:
        if value.kind not in _FLOATS:
            raise Untranslatable(f"{name} of {value.kind}")
        called = self.module.module.declare_intrinsic(f"llvm.{name}", [TYPES[value.kind]])
        return _Value(self.builder.call(called, [value.code], fastmath=self.flags), value.kind)


def _resolve(node: ast.expr, space: dict[str, Any]) -> Any:
    """What a function's name stands for, if that can be told."""
    try:
        return eval(compile(ast.Expression(node), "<name>", "eval"), space)
    except (NameError, AttributeError):
        return None


_FLOAT = {"Add": "fadd", "Sub": "fsub", "Mult": "fmul", "Div": "fdiv"}
_INTEGER: dict[str, tuple[str, dict[str, Any]]] = {
    "Add": ("add", {"flags": ["nsw"]}),
    "Sub": ("sub", {"flags": ["nsw"]}),
    "Mult": ("mul", {"flags": ["nsw"]}),
    "BitAnd": ("and_", {}),
    "BitOr": ("or_", {}),
    "BitXor": ("xor", {}),
    "LShift": ("shl", {}),
    "RShift": ("ashr", {}),
}
_COMPARE = {"Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">=", "Eq": "==", "NotEq": "!="}
_NUMBERS: dict[Any, Callable] = {
    np.float32: lambda function, value: function._to_float(value, "float32"),
    np.float64: lambda function, value: function._to_float(value, "float64"),
    np.int64: _Function._to_int,
    int: _Function._to_int,
    np.uint8: lambda function, value: function._as(function._as(value, "int64"), "uint8"),
    math.log: lambda function, value: function._of_float("log", value),
    math.sqrt: lambda function, value: function._of_float("sqrt", value),
    math.floor: lambda function, value: function._to_int(function._of_float("floor", value)),
    np.floor: lambda function, value: function._of_float("floor", value),
    abs: lambda function, value: function._of_float("fabs", value),
}

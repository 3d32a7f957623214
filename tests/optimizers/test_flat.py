"""The flat arena: which variables move, what stays where it is, and how views join to long arrays."""

import gc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minikeras import kernels as k
from minikeras.autodiff import Variable
from minikeras.optimizers import flat
from minikeras.optimizers.flat import FlatVariables, adopt, stretches, views_like


def variables_of(*shapes, dtype="float32"):
    generator = np.random.default_rng(len(shapes))
    return [Variable(generator.normal(size=shape).astype(dtype), dtype=dtype) for shape in shapes]


def test_variables_become_views_of_one_buffer_with_their_values():
    variables = variables_of((3, 2), (), (2,), (0, 4), (5,))
    before = [variable.numpy() for variable in variables]
    arena = FlatVariables(variables)
    buffer = variables[0].data.base
    assert buffer.shape == (14,)
    assert all(variable.data.base is buffer for variable in variables)
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    ((p, g),) = stretches([arena.arrays, arena.gradients], range(5))
    assert p.shape == g.shape == (14,)
    np.testing.assert_array_equal(k.to_host(p), np.concatenate([value.ravel() for value in before]))
    p += 1
    np.testing.assert_array_equal(variables[4].numpy(), before[4] + 1)
    assert arena.destinations[id(variables[2])] is arena.gradients[2]


def test_an_adopted_variable_never_moves():
    a, b, c = variables_of((2,), (3,), (4,))
    adopt([b])
    array = b.data
    arena = FlatVariables([a, b, c])
    assert b.data is array
    assert a.data.base is c.data.base is not array.base
    assert [p.size for (p,) in stretches([arena.arrays], range(3))] == [2, 3, 4]
    assert [g.size for (g,) in stretches([arena.gradients], range(3))] == [9]


def test_a_part_of_an_arena_is_one_stretch():
    variables = variables_of((2,), (3,), (4,), (5,))
    adopt(variables)
    arena = FlatVariables(variables[1:3])
    ((p, g),) = stretches([arena.arrays, arena.gradients], [0, 1])
    assert p.size == g.size == 7
    assert p.base is variables[0].data.base


def test_types_have_a_buffer_each_and_join_across_the_others():
    single = variables_of((2,), (3,))
    double = variables_of((4,), (1,), dtype="float64")
    arena = FlatVariables([single[0], double[0], single[1], double[1]])
    joined = stretches([arena.arrays, arena.gradients], range(4))
    assert sorted((str(p.dtype), p.size) for p, _ in joined) == [("float32", 5), ("float64", 5)]


def test_a_rebound_variable_is_noticed_and_adopted_again():
    variables = variables_of((2,), (3,))
    arena = FlatVariables(variables)
    assert arena.is_current()
    variables[0].data = variables[0].data + 1
    assert not arena.is_current()
    value = variables[0].numpy()
    again = FlatVariables(variables)
    assert again.is_current()
    assert variables[0].data.base is not None
    np.testing.assert_array_equal(variables[0].numpy(), value)


def test_buffers_go_with_their_last_view():
    gc.collect()
    before = len(flat._buffers)
    variables = variables_of((2,), (3,))
    arena = FlatVariables(variables)
    assert len(flat._buffers) == before + 2
    del arena, variables
    gc.collect()
    assert len(flat._buffers) == before


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=6),
    st.sets(st.integers(0, 5)),
    st.sets(st.integers(0, 5)),
)
def test_stretches_cover_exactly_what_was_chosen(shapes, chosen, adopted_before):
    variables = variables_of(*map(tuple, shapes))
    adopt([variables[i] for i in sorted(adopted_before) if i < len(variables)])
    arena = FlatVariables(variables)
    positions = [i for i in range(len(variables)) if i in chosen]
    for p, g in stretches([arena.arrays, arena.gradients], positions):
        p[...] = 7
        g[...] = 8
    for position, variable in enumerate(variables):
        touched = position in positions
        assert (variable.numpy() == 7).all() == (touched or variable.size == 0)
        assert (k.to_host(arena.gradients[position]) == 8).all() == (touched or variable.size == 0)


def test_views_like_start_at_zero():
    assert all((k.to_host(view) == 0).all() for view in views_like([k.xp.ones((2, 2)), k.xp.ones(3)]))

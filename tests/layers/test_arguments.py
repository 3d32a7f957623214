"""What constructors of layers refuse, and shapes that layers refuse before anything is computed."""

import numpy as np
import pytest

from minikeras import Input, Model, Sequential, layers, ops
from minikeras import kernels as k

NO_SIZES = [0, -1, 2.5, "3", None, True, [], np.nan]
SIZES = {
    layers.Dense: ({"units": 3}, ["units"]),
    layers.Embedding: ({"input_dim": 3, "output_dim": 2}, ["input_dim", "output_dim"]),
    layers.LSTM: ({"units": 3}, ["units"]),
    layers.GRUCell: ({"units": 3}, ["units"]),
    layers.Conv1D: ({"filters": 4, "kernel_size": 2}, ["filters", "kernel_size", "strides", "dilation_rate", "groups"]),
    layers.Conv2D: ({"filters": 3, "kernel_size": 2}, ["filters", "kernel_size", "strides", "dilation_rate"]),
    layers.Conv3DTranspose: ({"filters": 3, "kernel_size": 2}, ["filters", "kernel_size", "strides"]),
    layers.DepthwiseConv2D: ({"kernel_size": 2}, ["kernel_size", "strides", "depth_multiplier"]),
    layers.SeparableConv1D: ({"filters": 3, "kernel_size": 2}, ["filters", "depth_multiplier"]),
    layers.MaxPooling2D: ({}, ["pool_size"]),
    layers.AveragePooling1D: ({}, ["pool_size"]),
    layers.UpSampling3D: ({}, ["size"]),
    layers.MultiHeadAttention: ({"num_heads": 2, "key_dim": 2}, ["num_heads", "key_dim"]),
    layers.GroupQueryAttention: (
        {"head_dim": 2, "num_query_heads": 2, "num_key_value_heads": 1},
        ["head_dim", "num_query_heads", "num_key_value_heads"],
    ),
    layers.GroupNormalization: ({"groups": 2}, ["groups"]),
}


@pytest.mark.parametrize(("cls", "argument"), [(cls, name) for cls, (_, names) in SIZES.items() for name in names])
def test_sizes_are_positive_whole_numbers(cls, argument):
    for wrong in NO_SIZES:
        if cls is layers.GroupNormalization and wrong == -1:
            continue  # each channel by itself
        with pytest.raises(ValueError, match=rf"{argument}.*(whole number|an integer of at least 1).*, got .+\.$"):
            cls(**{**SIZES[cls][0], argument: wrong})
    cls(**{**SIZES[cls][0], argument: np.int64(2)})


NUMBERS = {
    (layers.Dropout, "rate"): (1.5, -0.1, np.nan, "x", True),
    (layers.GaussianNoise, "stddev"): (-1, np.nan, "x"),
    (layers.LSTM, "recurrent_dropout"): (2, -1, np.nan),
    (layers.Attention, "dropout"): (-1, 2, "x", None),
    (layers.MultiHeadAttention, "dropout"): (-1, 2, "x", None),
    (layers.BatchNormalization, "momentum"): (-0.1, 2, np.nan, "x", None),
    (layers.BatchNormalization, "epsilon"): (-1, np.nan, "x", None),
    (layers.LayerNormalization, "epsilon"): (-1, np.inf, "x", [1]),
    (layers.GroupNormalization, "epsilon"): (-1, "x"),
    (layers.ReLU, "max_value"): (-1, np.nan, "x", [1]),
    (layers.LeakyReLU, "negative_slope"): (-1, np.nan, "x", None),
    (layers.ELU, "alpha"): (np.nan, "x", None),
    (layers.Masking, "mask_value"): (np.nan, "x", None, [0, 1]),
    (layers.Rescaling, "scale"): (np.nan, "x", None, [1, "a"], [1, np.inf]),
    (layers.Rescaling, "offset"): (np.nan, "x", [[1], [1, 2]]),
    (layers.ActivityRegularization, "l1"): (-1, np.nan, "x"),
}


@pytest.mark.parametrize(("cls", "argument"), NUMBERS, ids=lambda part: getattr(part, "__name__", part))
def test_numbers_that_make_no_sense_are_refused(cls, argument):
    base = {
        layers.LSTM: {"units": 2},
        layers.MultiHeadAttention: {"num_heads": 1, "key_dim": 1},
        layers.Rescaling: {"scale": 1},
    }.get(cls, {})
    for wrong in NUMBERS[cls, argument]:
        with pytest.raises(ValueError, match=rf"{argument}.* must be .*numbers?.*, got .+\.$"):
            cls(**{**base, argument: wrong})


def test_a_given_variance_is_not_negative():
    with pytest.raises(ValueError, match=r"^Normalization's variance must not be negative, got -1\.$"):
        layers.Normalization(mean=0.0, variance=-1)


def test_flags_are_true_or_false():
    for make in (
        lambda flag: layers.Dense(3, "relu", flag),
        lambda flag: layers.Conv2D(3, 2, use_bias=flag),
        lambda flag: layers.LSTM(3, return_sequences=flag),
        lambda flag: layers.BatchNormalization(center=flag),
    ):
        for wrong in ("False", "he_normal", 2, 0.5, []):
            with pytest.raises(ValueError, match=r"must be True or False, got .+\.$"):
                make(wrong)
        for right in (True, False, 0, 1, np.True_):
            make(right)

    class Own(layers.Dense):  # what a user's own flag means is the user's business
        def __init__(self, units, deep: bool = False):
            super().__init__(units)
            self.deep = deep

    assert Own(3, deep="very").deep == "very"


@pytest.mark.parametrize("wrong", [-3, 2.5, "3", True, np.nan])
def test_inputs_have_sizes_of_at_least_0(wrong):
    for make in (
        lambda: Input((wrong,)),
        lambda: Input(batch_shape=(None, wrong)),
        lambda: Input((3,), batch_size=wrong),
        lambda: Sequential([layers.Dense(3, input_shape=(wrong,))]),
        lambda: layers.Dense(3).build((None, wrong)),
    ):
        with pytest.raises(ValueError, match=r"must be a whole number of at least 0( or None)?, got .+\.$"):
            make()
    assert Input(np.array([2, 3]), batch_size=np.int64(4)).shape == (4, 2, 3) and Input(()).shape == (None,)


AXES = [
    (lambda axis: layers.Softmax(axis), [2, -3]),
    (lambda axis: layers.UnitNormalization(axis), [2, -3]),
    (lambda axis: layers.LayerNormalization(axis), [2, -3]),
    (lambda axis: layers.BatchNormalization(axis), [2, -3]),
    (lambda axis: layers.GroupNormalization(1, axis), [2, -3]),
    (lambda axis: layers.Normalization(axis), [2, -3]),
    (lambda axis: layers.PReLU(shared_axes=axis), [2]),
    (lambda axis: layers.Softmax([0, axis]), [0, -2]),
]


@pytest.mark.parametrize(("make", "axes"), AXES)
def test_axes_out_of_range_are_refused_at_build(make, axes):
    for axis in axes:
        for inputs in (Input((4,)), np.ones((2, 4), "float32")):
            with pytest.raises(ValueError, match=r"(works on axis|needs each of its axes once).*shape \(.*, 4\).*\.$"):
                make(axis)(inputs)


def test_axes_of_several_inputs():
    pair = [Input((4,)), Input((4,))]
    for axes in (5, -3, (1, 2)):  # counted on from the end they would be others in silence
        with pytest.raises(ValueError, match=r"works on axis .*, got inputs of rank 2; choose an axis that they have"):
            layers.Dot(axes)(pair)
    with pytest.raises(ValueError, match="of one rank with an axis 5, got"):
        layers.Concatenate(5)(pair)
    for wrong in (1.5, "x", True, None):
        with pytest.raises(ValueError, match=r"^Concatenate's axis must be a whole number, got .+\.$"):
            layers.Concatenate(wrong)
    sequence = Input((4, 3))
    for axes in (5, -4, 0, 2, (1, 1)):
        with pytest.raises(ValueError, match=r"^MultiHeadAttention '.*' (works on axis|attends along axes between)"):
            layers.MultiHeadAttention(2, 3, attention_axes=axes)(sequence, sequence)


WINDOWS = [
    lambda: layers.MaxPooling2D(3),
    lambda: layers.AveragePooling2D((1, 3), strides=1),
    lambda: layers.Conv2D(2, 3, strides=2),
    lambda: layers.Conv2D(2, 2, dilation_rate=2),
    lambda: layers.DepthwiseConv2D(3),
    lambda: layers.SeparableConv2D(2, 3),
]


@pytest.mark.parametrize("make", WINDOWS)
def test_windows_that_do_not_fit_are_refused_wherever_they_come(make):
    small, large = np.ones((2, 2, 2, 3), "float32"), np.ones((2, 8, 8, 3), "float32")
    for inputs in (Input((2, 2, 3)), small):
        with pytest.raises(ValueError, match=r"needs inputs of size 3|does not fit into inputs of size"):
            make()(inputs)
    layer = make()
    assert 0 not in layer(large).shape
    with pytest.raises(
        ValueError, match=r"^A window of size .* does not fit into inputs of size \(2, 2\) with padding="
    ):
        layer(small)
    entrance = Input((None, None, 3))
    model = Model(entrance, make()(entrance))
    with pytest.raises(ValueError, match=r"does not fit into inputs of size \(2, 2\) with padding='valid'"):
        model.predict(small, verbose=0)
    with pytest.raises(ValueError, match=r"^A window of size \(3, 3\) does not fit into inputs of size \(2, 2\)"):
        ops.max_pool(small, 3)
    assert ops.max_pool(small, 3, padding="same").shape == (2, 1, 1, 3)


def test_open_sizes_are_tried_larger_where_windows_need_it():
    class Deep(layers.Layer):
        def __init__(self):
            super().__init__()
            self.parts = [layers.MaxPooling1D(2) for _ in range(6)]

        def call(self, inputs):
            for part in self.parts:
                inputs = part(inputs)
            return inputs

    assert Deep()(Input((None, 3))).shape == (None, None, 3)
    assert layers.Lambda(lambda x: ops.max_pool(x, 2))(Input((None, 3))).shape == (None, None, 3)
    assert ops.max_pool(Input((None, 3)), 20).shape == (None, None, 3)
    with pytest.raises(ValueError, match="does not fit into inputs of size"):
        ops.max_pool(Input((10, 3)), 20)


def test_regularizers_return_one_number():
    for regularizer in (lambda w: w * w, lambda w: None, lambda w: "x"):
        layer = layers.Dense(3, kernel_regularizer=regularizer)
        with pytest.raises(ValueError, match=r"^The regularizer <lambda> must return one number, got .*; take the sum"):
            layer.build((None, 2))
        assert layer.weights == []
    layers.Dense(3, kernel_regularizer=lambda w: ops.sum(w * w)).build((None, 2))
    layers.Dense(3, kernel_regularizer=lambda w: 0.0).build((None, 2))
    with pytest.raises(ValueError, match=r"must return one number, got one of shape \(2, 3\)"):
        layers.Dense(3, activity_regularizer=lambda y: y)(np.ones((2, 2), "float32"))


def test_what_is_configured_by_an_empty_description_is_refused():
    for argument in ("activation", "kernel_regularizer", "kernel_constraint", "kernel_initializer"):
        with pytest.raises(ValueError, match=r"^The description of an? \w+ has a class_name.*, got \{\}\.$"):
            layers.Dense(3, **{argument: {}})


def test_wrappers_and_functions():
    for cells in ([], 3, None, "x"):
        with pytest.raises(ValueError, match="StackedRNNCells takes a list of at least one cell, got"):
            layers.StackedRNNCells(cells)
    with pytest.raises(ValueError, match="Bidirectional wraps a recurrent layer, got None"):
        layers.Bidirectional(None)
    for shape in (-1, 3, "x", (2.5,), (-1,)):
        with pytest.raises(ValueError, match="Lambda's output_shape must be a shape without the batch axis"):
            layers.Lambda(lambda x: x, output_shape=shape)
    with pytest.raises(ValueError, match="Lambda's mask must be a tensor or a function, got 3"):
        layers.Lambda(lambda x: x, mask=3)
    with pytest.raises(ValueError, match="EinsumDense's equation must be a string such as 'ab,bc->ac', got 3"):
        layers.EinsumDense(3, 2)
    with pytest.raises(ValueError, match=r"has noise_shape \(1, 2, 3\), got inputs of shape \(None, 4\)"):
        layers.Dropout(0.5, noise_shape=(1, 2, 3))(Input((4,)))
    with pytest.raises(ValueError, match=r"SpatialDropout1D .* takes no noise_shape, got \(1, 2\)"):
        layers.SpatialDropout1D(0.5, noise_shape=(1, 2))
    with pytest.raises(ValueError, match=r"a scale of shape \(2,\), which does not broadcast with inputs of shape \(N"):
        layers.Rescaling([1.0, 2.0])(Input((4,)))
    with pytest.raises(ValueError, match=r"which does not broadcast with inputs of shape \(2, 4\)"):
        layers.Rescaling([1.0, 2.0])(np.ones((2, 4), "float32"))


def test_embeddings_take_whole_numbers_from_0():
    layer = layers.Embedding(5, 2)
    assert layer(np.array([[1.0, 4.0]], "float32")).shape == (1, 2, 2)
    if k.xp is not np:  # a GPU would have to be waited for
        assert np.isnan(layer(np.array([[-1, 1, 7]])).numpy()).tolist() == [[[True] * 2, [False] * 2, [True] * 2]]
        return
    for wrong in (1.5, np.nan):
        with pytest.raises(ValueError, match="An embedding takes whole numbers, got"):
            layer(np.array([[0, wrong]], "float32"))
    for wrong in (-1, 5):
        with pytest.raises(IndexError, match=f"takes indices from 0 to 4, got {wrong}; enlarge input_dim or correct"):
            layer(np.array([[0, wrong]]))

"""Random kernels: NumPy's bits, resumption, and the statistics of what is made of them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikeras.kernels import blocks_for, random_blocks, reference_table, table_of
from minikeras.kernels.reference.random import short_words

reference, cpu = reference_table(), table_of("cpu")
WAYS = [reference.random_bits, cpu.random_bits]
KEYS = st.one_of(st.integers(0, 9), st.integers(0, 2**128 - 1))
COUNTERS = st.one_of(
    st.integers(0, 99),
    st.integers(0, 2**256 - 1),
    st.builds(lambda bits, back: (1 << bits) - back, st.sampled_from([64, 128, 192, 256]), st.integers(1, 9)),
)


@settings(max_examples=40, deadline=None)
@given(key=KEYS, counter=COUNTERS, count=st.integers(0, 50))
def test_bits_are_numpys(key, counter, count):
    expected = np.random.Philox(key=key, counter=counter).random_raw(count)
    for random_bits in WAYS:
        out = np.empty(count, np.uint64)
        bits = random_bits(key, counter, count)
        assert bits.dtype == np.uint64
        assert np.array_equal(bits, expected)
        assert random_bits(key, counter, count, out=out) is out
        assert np.array_equal(out, expected)


@pytest.mark.parametrize("random_bits", WAYS)
def test_a_stream_resumes_where_it_stopped(random_bits):
    key, counter, pieces = 12345678901234567890123, 2**64 - 3, []
    for count in (4, 8, 20):
        pieces.append(random_bits(key, counter, count))
        counter += random_blocks(count)
    assert np.array_equal(np.concatenate(pieces), random_bits(key, 2**64 - 3, 32))


@pytest.mark.parametrize("name", ["random_bits", "dropout_mask", "uniform", "normal"])
def test_the_override_draws_the_same(name):
    if name == "random_bits":
        arguments = [(0,), (1,), (4097,)]
    elif name == "dropout_mask":
        arguments = [((0, 3), 0.5), ((7, 13), 0.2), ((1,), 0.9), ((64,), 0.3), ((9,), 1.0), ((300, 501), 0.1)]
    else:
        arguments = [((3, 5), "float32"), ((), "float64"), ((0, 3), "float32"), ((9,), "float16")]
    for given_arguments in arguments:
        expected, got = (getattr(table, name)(3, 11, *given_arguments) for table in (reference, cpu))
        assert got.dtype == expected.dtype
        if name == "normal":
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
        else:
            assert np.array_equal(got, expected)


@settings(max_examples=60, deadline=None)
@given(key=KEYS, counter=COUNTERS, size=st.integers(0, 300))
def test_values_are_the_references(key, counter, size):
    """Uniform ones to the last bit; normal ones up to the rounding of log, cos and sin."""
    for name in ("uniform", "normal"):
        expected = getattr(reference, name)(key, counter, (size,))
        guarded = np.full(size + 100, 9, np.float32)
        out = guarded[50 : 50 + size]
        assert getattr(cpu, name)(key, counter, (size,), "float32", out) is out
        np.testing.assert_array_equal(out, getattr(cpu, name)(key, counter, (size,)), strict=True)
        assert (guarded[:50] == 9).all()
        assert (guarded[50 + size :] == 9).all()
        if name == "uniform":
            np.testing.assert_array_equal(out, expected, strict=True)
        else:
            np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)


def test_many_values():
    assert np.array_equal(cpu.uniform(5, 7, (301, 403)), reference.uniform(5, 7, (301, 403)))
    got = cpu.normal(5, 7, (1001, 401))
    pairs = reference.uniform(5, 7, (2, -(-got.size // 2))).astype(np.float64)
    radius, angle = (
        np.sqrt(-2 * np.log1p(-pairs[0])),
        (pairs[1].astype(np.float32) * np.float32(2 * np.pi)).astype(float),
    )
    exact = np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[: got.size].reshape(got.shape)
    np.testing.assert_allclose(got, exact, rtol=6e-7, atol=1e-7)
    np.testing.assert_allclose(reference.normal(5, 7, got.shape), exact, rtol=6e-7, atol=1e-7)


SHORT_COUNTERS = st.one_of(
    st.integers(0, 99),
    st.integers(0, 2**64 - 1),
    st.builds(lambda bits, back: (1 << bits) - back, st.sampled_from([32, 62, 63, 64]), st.integers(1, 9)),
)


@settings(max_examples=40, deadline=None)
@given(key=KEYS, counter=SHORT_COUNTERS, size=st.integers(0, 300), rate=st.sampled_from([0.0, 0.2, 0.7, 0.99999]))
def test_masks_are_the_references(key, counter, size, rate):
    expected = reference.dropout_mask(key, counter, (size,), rate)
    assert np.array_equal(cpu.dropout_mask(key, counter, (size,), rate), expected)
    guarded = np.full(size + 100, 9, np.uint8)
    out = guarded[50 : 50 + size]
    assert cpu.dropout_mask(key, counter, (size,), rate, out) is out
    assert np.array_equal(out, expected)
    assert (guarded[:50] == 9).all()
    assert (guarded[50 + size :] == 9).all()


def test_a_mask_with_gaps():
    out = np.full((40, 60), 9, np.uint8)
    assert cpu.dropout_mask(5, 6, (40, 30), 0.4, out[:, ::2]).base is out
    assert np.array_equal(out[:, ::2], reference.dropout_mask(5, 6, (40, 30), 0.4))
    assert (out[:, 1::2] == 9).all()


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 2, (2**32 - 1,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0xA4093822, 0x299F31D0),
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_short_words_are_those_of_the_generators_authors(key, counter, words):
    whole_key = key[0] | key[1] << 32 | counter[2] << 64 | counter[3] << 96
    assert short_words(reference, whole_key, counter[0] | counter[1] << 32, 1).tolist() == [list(words)]


@pytest.mark.parametrize("dropout_mask", [reference.dropout_mask, cpu.dropout_mask])
def test_masks_resume_where_they_stopped(dropout_mask):
    key, counter, pieces = 12345678901234567890123, 2**32 - 3, []
    for size in (8, 24, 64, 104):
        pieces.append(dropout_mask(key, counter, (size,), 0.5))
        counter += blocks_for("dropout_mask", size)
    assert np.array_equal(np.concatenate(pieces), dropout_mask(key, 2**32 - 3, (200,), 0.5))


def test_masks_of_neighbouring_keys_and_counters_are_independent():
    masks = [
        reference.dropout_mask(key, counter, (20_000,), 0.5)
        for key in (0, 1, 2**32, 2**64, 2**96)
        for counter in (0, 2500, 2**32)
    ]
    correlation = np.corrcoef(np.stack(masks).astype("float64")) - np.eye(len(masks))
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)
    places = np.stack(masks).reshape(-1, 8).astype("float64")  # the values of one block, too
    assert np.abs(np.corrcoef(places.T) - np.eye(8)).max() < 5 / np.sqrt(len(places))


def test_threads_do_not_disturb_each_other():
    override = cpu.random_bits
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda i: override(i % 5, i, 501), range(400)))
    assert all(np.array_equal(bits, reference.random_bits(i % 5, i, 501)) for i, bits in enumerate(drawn[:40]))
    assert all(np.array_equal(bits, override(i % 5, i, 501)) for i, bits in enumerate(drawn))


def test_keys_and_counters_are_independent():
    streams = np.stack(
        [reference.uniform(key, counter, (20_000,), "float64") for key in (0, 1, 2**64) for counter in (0, 5000)]
    )
    correlation = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_uniform(dtype):
    values = reference.uniform(7, 0, (400, 500), dtype)
    assert values.dtype == dtype
    assert values.min() >= 0
    assert values.max() < 1
    histogram = np.histogram(values.astype("float64"), bins=64, range=(0, 1))[0]
    expected = values.size / 64
    assert ((histogram - expected) ** 2 / expected).sum() < 63 + 5 * np.sqrt(2 * 63)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_normal(dtype):
    values = reference.normal(7, 0, (401, 499), dtype)
    assert values.dtype == dtype
    values = values.astype("float64")
    error = 5 / np.sqrt(values.size)
    assert abs(values.mean()) < error
    assert abs((values**2).mean() - 1) < error * np.sqrt(2)
    assert abs((values**4).mean() - 3) < error * np.sqrt(96)
    assert abs((np.abs(values) < 1).mean() - 0.6826894921) < error / 2


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.999, 1.0])
def test_dropout_mask(rate):
    mask = reference.dropout_mask(7, 0, (300, 501), rate)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}
    assert abs(mask.mean() - (1 - rate)) <= 5 * np.sqrt(rate * (1 - rate) / mask.size)
    out = np.full((300, 501), 9, np.uint8)
    assert reference.dropout_mask(7, 0, (300, 501), rate, out=out) is out
    assert np.array_equal(out, mask)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(0, 70), draw=st.sampled_from(["uniform", "normal"]), double=st.booleans())
def test_blocks_for_is_what_a_draw_takes(size, draw, double):
    taken = []

    def bits(key, counter, count):
        taken.append(random_blocks(count))
        return reference.random_bits(key, counter, count)

    dtype = "float64" if double else "float32"
    table = reference_table()
    table.random_bits = bits
    getattr(table, draw)(1, 2, (size,), dtype)
    assert sum(taken) == blocks_for(draw, size, dtype)

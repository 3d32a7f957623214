"""Operations whose files load when one of them is first asked for, since programs seldom do."""

from __future__ import annotations

# file: the names that are in `ops` and in the namespace that it belongs to
NUMPY = {
    "arranging": (
        "append array array_split bartlett blackman column_stack cross diagflat diff dsplit dstack empty_like fliplr "
        "flipud geomspace hamming hanning hsplit kaiser kron logspace rot90 select trapezoid tri unravel_index vander "
        "vectorize vsplit"
    ),
    "decompositions": "slogdet",
    "rare": (
        "allclose angle bitwise_invert bitwise_left_shift bitwise_right_shift cbrt conj conjugate deg2rad "
        "divide_no_nan exp2 fabs fmax fmin fmod gcd heaviside imag isin isneginf isposinf isreal lcm ldexp left_shift "
        "logaddexp2 nextafter rad2deg real right_shift signbit sinc view"
    ),
    "special": "i0",
    "statistics": (
        "argpartition corrcoef correlate histogram median nanargmax nanargmin nancumprod nancumsum nanmax nanmean "
        "nanmedian nanmin nanpercentile nanprod nanquantile nanstd nansum nanvar percentile ptp quantile searchsorted "
        "unique"
    ),
}
LINALG = {
    "linalg": (
        "cholesky cholesky_inverse det eig eigh inv lstsq lu_factor matrix_power matrix_rank pinv qr solve "
        "solve_triangular svd"
    )
}
NN = {"patches": "depth_to_space fold normalize psnr space_to_depth unfold", "rare": "polar"}
MATH = {
    "fourier": "extract_sequences fft fft2 ifft2 irfft rfft",
    "linalg": "logdet",
    "patches": "cdist",
    "rare": "view_as_complex view_as_real",
    "special": "erfc erfinv gammainc",
}


def homes(*tables: dict[str, str]) -> dict[str, str]:
    """For each name of these tables where it is found, as `lazy.public_names` takes it."""
    return {
        name: f"minikeras.ops.{file}:{name}"
        for table in tables
        for file, names in table.items()
        for name in names.split()
    }

"""CPU overrides of reference kernels: NumPy BLAS and Numba.  Importing this imports neither Numba nor compiles."""

OVERRIDES: dict = {}

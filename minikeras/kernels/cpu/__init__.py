"""CPU overrides of reference kernels: NumPy BLAS and Numba.  Importing this imports neither Numba nor compiles."""

from minikeras.kernels.cpu import (
    attention,
    conv,
    depthwise,
    elementwise,
    embedding,
    gather,
    gemm,
    image,
    loss,
    norm,
    optimizer,
    pool,
    random,
    recurrent,
)

OVERRIDES = {
    name: kernel
    for module in (
        attention,
        conv,
        depthwise,
        elementwise,
        embedding,
        gather,
        gemm,
        image,
        loss,
        norm,
        optimizer,
        pool,
        random,
        recurrent,
    )
    for name, kernel in module.OVERRIDES.items()
}

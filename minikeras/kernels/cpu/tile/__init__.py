"""The tile, a block of a matrix product in vector registers, and what is made of it: products, convolutions, stacks.

For float32, on hosts that have the vectors (`host.HAS_VECTORS`).
"""

"""Whether this machine computes what it should: `python -m minikeras doctor`.

Every kernel, with the calls in `cases.py`, against the reference on NumPy; short trainings against the CPU, and as
programs against their layers.  What fails on a GPU is turned off there (`kernels/cuda/turned_off.py`).
"""

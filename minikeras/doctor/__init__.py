"""Whether this machine computes what it should: `python -m minikeras doctor`."""

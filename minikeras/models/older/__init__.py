"""Descriptions that Keras 1 and 2 wrote, as those that Keras 3 writes; `older_config` is the door."""

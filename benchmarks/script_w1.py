"""A whole program, as its user runs it: W1 built, trained for an epoch, evaluated.

Run as `python -m benchmarks.script_w1 NAME [quick]`; NAME is minikeras or keras.
"""

import importlib
import sys

from benchmarks.workloads import BATCH, PICTURES, TEST_PICTURES, Setting, mlp, random_pictures

keras = importlib.import_module(sys.argv[1])
count = Setting(quick="quick" in sys.argv[2:]).count
x_train, y_train = random_pictures(count(PICTURES))
x_test, y_test = random_pictures(count(TEST_PICTURES), seed=1)
x_train, x_test = (x.reshape(-1, 784).astype("float32") / 255 for x in (x_train, x_test))
y_train, y_test = (keras.utils.to_categorical(y, 10) for y in (y_train, y_test))

model = mlp(keras)
model.fit(x_train, y_train, batch_size=BATCH, epochs=1, verbose=0)
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"loss {loss:.4f}, accuracy {accuracy:.4f}")

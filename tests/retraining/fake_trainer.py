"""A trainer without TensorFlow that keeps the contract, and can be told to break it once.

`write_fake_trainer` writes a program to be started in place of the trainer's interpreter. It
trains nothing: its model has weights of zero, so every class is equally likely.
"""

import sys
from pathlib import Path

_PROGRAM = """\
#!{python}
import json, os, pathlib, sys, time
import numpy as np
import safetensors.numpy

assert sys.argv[1:] == ["-P", "-s", "-m", "dp_trainer", "train", "request.json", "result.json"]
request = json.loads(pathlib.Path("request.json").read_text())
features = np.load(request["features"])
labels = np.load(request["labels"])
probe = np.load(request["probe"])
k, d = request["n_classes"], features.shape[1]
result = {{
    "schema": 1,
    "weights": "weights.safetensors",
    "probe_probabilities": "probe_probabilities.npy",
    "rows": len(labels),
    "versions": {{"tensorflow": "0", "tensorflow_privacy": "0"}},
}} | request["dp"]
weights = {{
    "dense_0/kernel": np.zeros((d, k), np.float32),
    "dense_0/bias": np.zeros(k, np.float32),
}}
probabilities = np.full((len(probe), k), 1 / k, np.float32)
print("epoch 1", flush=True)


def write():
    pathlib.Path("weights.safetensors").write_bytes(safetensors.numpy.save(weights))
    np.save("probe_probabilities.npy", probabilities)
    pathlib.Path("result.json").write_text(json.dumps(result))


{before}
write()
{after}
"""


def write_fake_trainer(path: Path, *, before: str = "", after: str = "") -> Path:
    """Write the program; `before` runs before its files are written, `after` afterwards."""
    path.write_text(_PROGRAM.format(python=sys.executable, before=before, after=after))
    path.chmod(0o700)
    return path

"""Starts TensorFlow: importing this module costs about 5 seconds, so refusals come before it."""

import gc
import os
import sys

# TensorFlow reports missing GPUs and registered plug-ins on stderr, which is the task log. What
# matters reaches us as an exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Import only the submodules asked for: the whole of tensorflow_privacy costs 3 to 4 seconds more.
sys.skip_tf_privacy_import = True  # type: ignore[attr-defined]

# The import makes millions of objects and frees few; collecting meanwhile costs 0.4 s of 5.4.
gc.disable()
import tensorflow as tf  # noqa: E402
import tensorflow_privacy  # noqa: E402
from tensorflow_privacy.privacy.fast_gradient_clipping import clip_grads  # noqa: E402
from tensorflow_privacy.privacy.fast_gradient_clipping.layer_registry import (  # noqa: E402
    make_default_layer_registry,
)
from tensorflow_privacy.privacy.keras_models.dp_keras_model import DPModel  # noqa: E402

gc.enable()

__all__ = [
    "VERSIONS",
    "DPModel",
    "clip_grads",
    "limit_threads",
    "make_default_layer_registry",
    "tf",
]

VERSIONS = {
    "tensorflow": tf.__version__,
    "tensorflow_privacy": tensorflow_privacy.__version__,
}


def limit_threads(threads: int) -> None:
    """Use at most so many threads for one operation, and run operations one after another.

    Must come before the first operation; TensorFlow raises RuntimeError otherwise.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)

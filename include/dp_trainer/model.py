"""One step of DP-SGD: TensorFlow Privacy's fast clipping, with the fixed batch size as normaliser.

A step that is slightly wrong trains as well as a right one and protects nobody, so a model is
refused unless its per-row gradient norms are known to be exact.
"""

from typing import Any

import numpy as np

from dp_trainer.contract import Architecture, DpSettings
from dp_trainer.runtime import DPModel, clip_grads, make_default_layer_registry, tf
from dp_trainer.strict import ContractError


class PoissonDpModel(DPModel):
    """A DPModel whose step divides by the expected batch size.

    TensorFlow Privacy's own `train_step` divides by the size of the batch at hand. Under Poisson
    sampling that size depends on the rows, so one row would change the weight of all others and of
    the noise, and an empty batch would divide by zero. The expected size is a constant.
    """

    def __init__(self, *, dp: DpSettings, noise: Any, **layers: Any) -> None:
        """Build the model.

        Args:
            dp: Clipping norm, noise and expected batch size.
            noise: tf.random.Generator that nobody can predict, except in tests.
            **layers: `inputs` and `outputs` of a functional Keras model that gives logits.
        """
        super().__init__(
            l2_norm_clip=dp.l2_clip_norm,
            noise_multiplier=dp.noise_multiplier,
            layer_registry=make_default_layer_registry(),
            use_xla=False,
            **layers,
        )
        self._noise_stddev = dp.noise_multiplier * dp.l2_clip_norm
        self._expected_batch_size = float(dp.expected_batch_size)
        self._noise = noise

    def train_step(self, data: Any) -> dict[str, Any]:
        """Take one step on a batch of any size, none included.

        Args:
            data: Features float32 [b, features] and labels int64 [b].

        Returns:
            No metrics: a loss on private rows would be a release that nobody accounts for.

        Sources: Abadi et al. 2016 (arXiv:1607.00133), algorithm 1; per-row norms without per-row
        gradients from Goodfellow 2015 (arXiv:1510.01799) and Lee & Kifer 2021 (arXiv:2009.03106).
        """
        features, labels = data
        sums, _, _ = clip_grads.compute_clipped_gradients_and_outputs(
            input_model=self,
            x_batch=features,
            y_batch=labels,
            l2_norm_clip=self._l2_norm_clip,
            layer_registry=self._layer_registry,
            clipping_loss=_weighted_sum_of_losses,
        )
        means = [
            (gradient + self._noise.normal(gradient.shape, stddev=self._noise_stddev))
            / self._expected_batch_size
            for gradient in sums
        ]
        self.optimizer.apply_gradients(zip(means, self.trainable_variables, strict=True))
        return {}

    def fit(self, *_args: Any, **_kwargs: Any) -> None:
        """Refuse: Keras shuffles, and the accounting is that of Poisson samples."""
        raise ContractError(
            "fit() shuffles rows; use train(), which samples them as accounted for."
        )


def build_model(
    architecture: Architecture,
    *,
    n_features: int,
    n_classes: int,
    dp: DpSettings,
    noise: Any,
    initial_weights: np.random.Generator,
) -> PoissonDpModel:
    """Return the untrained network with dense layers only; its outputs are logits."""
    tensor = inputs = tf.keras.Input((n_features,))
    for units in architecture.hidden_units:
        tensor = tf.keras.layers.Dense(units, activation=architecture.activation)(tensor)
    outputs = tf.keras.layers.Dense(n_classes)(tensor)
    model = PoissonDpModel(dp=dp, noise=noise, inputs=inputs, outputs=outputs)
    for variable in model.trainable_variables:
        if len(variable.shape) == 2:  # biases start at zero
            limit = np.sqrt(6 / sum(variable.shape))  # Glorot & Bengio 2010, equation 16
            variable.assign(initial_weights.uniform(-limit, limit, variable.shape))
    return model


def compile_model(model: PoissonDpModel, optimizer: Any) -> Any:
    """Return the model's step as one graph for batches of every size.

    Raises:
        ContractError: The model is not one whose clipping is known to be exact.
    """
    model.compile(
        optimizer=optimizer,
        loss=tf.keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction=tf.keras.losses.Reduction.SUM_OVER_BATCH_SIZE
        ),
    )
    refuse_inexact_clipping(model)
    optimizer.build(model.trainable_variables)
    signature = (
        tf.TensorSpec([None, model.input_shape[1]], tf.float32),
        tf.TensorSpec([None], tf.int64),
    )
    # Nothing in the step branches on a tensor, so AutoGraph would only cost time (1.5 s) and warn.
    return tf.function(model.train_step, input_signature=[signature], autograph=False)


def make_optimizer(name: str, learning_rate: float) -> Any:
    """Return the optimiser that the request names; it sees noised gradients only."""
    if name == "adam":
        return tf.keras.optimizers.Adam(learning_rate, jit_compile=False)
    return tf.keras.optimizers.SGD(learning_rate, momentum=0.9, jit_compile=False)


def refuse_inexact_clipping(model: Any) -> None:
    """Raise ContractError for a compiled DPModel whose per-row bound does not surely hold."""
    if not model._enable_fast_peg_computation:
        # TensorFlow Privacy then falls back without a word to a path 25 to 900 times slower.
        raise ContractError("Fast gradient clipping is off for this model; use dense layers only.")
    if model._num_microbatches is not None:
        raise ContractError("Microbatches clip means of rows, not rows; leave them out.")
    if model.non_trainable_variables:
        # Such as the moving averages of BatchNormalization, which nothing clips.
        raise ContractError("The model keeps statistics of private rows outside its gradients.")
    for layer in model.layers:
        if type(layer) not in (tf.keras.layers.InputLayer, tf.keras.layers.Dense):
            raise ContractError(f"Clipping is not known to be exact for {type(layer).__name__}.")
    n_calls = sum(len(nodes) for nodes in model._nodes_by_depth.values())
    if n_calls != len(model.layers):
        # The norms of the calls are added as if they were independent, which they are not.
        raise ContractError("A layer is used twice; its rows would be clipped too little.")
    if model.losses:
        raise ContractError("Layer losses and regularisers are not clipped; leave them out.")
    if model.loss.reduction != tf.keras.losses.Reduction.SUM_OVER_BATCH_SIZE:
        raise ContractError(
            f"Expected a loss with reduction sum_over_batch_size, found {model.loss.reduction}:"
            " noise and learning rate would be off by a factor of the batch size."
        )


def _weighted_sum_of_losses(labels: Any, logits: Any, clip_weights: Any) -> Any:
    """Sum of the rows' losses, each times the weight that clips its gradient."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_sum(clip_weights * losses)

"""Replace the operations of TensorFlow that round differently on different x86-64 processors.

Saved models are plain Keras models; only the way a sum or root is computed changes. Each operation
was run on one processor and, emulated, on others (`python -m tools.processors`):

- The reciprocal and the reciprocal square root are approximations that differ between makers of
  processors; division and square root are exact everywhere. Batch normalization asks for the
  reciprocal root, and TensorFlow's graph optimizer inserts it wherever something is divided by a
  root. The gradients of log and log1p are reciprocals.
- Matrix products with sums of more than about a thousand terms are split by the cache size.

Keras offers no public way to change how its layers compute, so functions of its TensorFlow backend
are replaced, only here. tests/model/test_operations.py fails if a later Keras bypasses them.
"""

from typing import Any

# Sums of this many terms gave the same bytes on all tested processors; of twice as many they did
# not.
LONGEST_SUM = 1024


def longest_divisor(terms: int, most: int = LONGEST_SUM) -> int:
    """Return the largest divisor of `terms` that is at most `most`.

    >>> longest_divisor(16384), longest_divisor(7744), longest_divisor(100)
    (1024, 968, 100)
    """
    return next(length for length in range(min(terms, most), 0, -1) if terms % length == 0)


def replace_operations() -> None:
    """Replace the operations of Keras on TensorFlow in this process."""
    import tensorflow as tf
    from keras.src import backend

    def batch_normalization(
        x: Any,
        mean: Any,
        variance: Any,
        axis: int,
        offset: Any = None,
        scale: Any = None,
        epsilon: float = 1e-3,
    ) -> Any:
        if axis != -1:
            shape = [1] * len(x.shape)
            shape[axis] = mean.shape[0]
            mean, variance = tf.reshape(mean, shape), tf.reshape(variance, shape)
            offset = None if offset is None else tf.reshape(offset, shape)
            scale = None if scale is None else tf.reshape(scale, shape)
        factor = rsqrt(variance + epsilon)
        if scale is not None:
            factor *= scale
        shift = -mean * factor
        if offset is not None:
            shift += offset
        return x * tf.cast(factor, x.dtype) + tf.cast(shift, x.dtype)

    def rsqrt(x: Any) -> Any:
        return 1 / tf.sqrt(tf.convert_to_tensor(x))

    def reciprocal(x: Any) -> Any:
        return 1 / tf.convert_to_tensor(x)

    plain_matmul = backend.numpy.matmul

    def matmul(x1: Any, x2: Any) -> Any:
        x1, x2 = backend.convert_to_tensor(x1), backend.convert_to_tensor(x2)
        sparse = isinstance(x1, tf.SparseTensor) or isinstance(x2, tf.SparseTensor)
        terms: Any = x2.shape[0] if len(x1.shape) == len(x2.shape) == 2 else None
        is_short = not terms or terms <= LONGEST_SUM
        if sparse or is_short or x1.dtype != x2.dtype or not x1.dtype.is_floating:
            return plain_matmul(x1, x2)
        length = longest_divisor(terms)
        blocks = terms // length
        rows = tf.transpose(tf.reshape(x1, (-1, blocks, length)), (1, 0, 2))
        return tf.reduce_sum(tf.matmul(rows, tf.reshape(x2, (blocks, length, x2.shape[1]))), axis=0)

    backend.nn.batch_normalization = batch_normalization
    backend.math.rsqrt = rsqrt
    backend.numpy.reciprocal = reciprocal
    backend.numpy.matmul = matmul
    # Two passes of the graph optimizer would restore the operations: one turns a / sqrt(b) into
    # a * rsqrt(b), the other 1 / a and division by a constant into reciprocals.
    tf.config.optimizer.set_experimental_options(
        {"arithmetic_optimization": False, "constant_folding": False}
    )

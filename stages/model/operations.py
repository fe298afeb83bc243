"""The few operations of TensorFlow that round differently from one x86-64 processor to the next,
written so that they do not.

Models are the same plain Keras models with them or without: what changes is how a sum or a root is
computed. Found by running each operation on one processor and, emulated, on others (`python -m
tools.processors`):

- The reciprocal and the reciprocal square root are the processor's own approximations, which differ
  by maker; division and square root are exact everywhere. Batch normalization and the like ask for
  the reciprocal root, and TensorFlow's graph optimizer puts it in wherever something is divided by
  a root. The gradients of log and log1p are reciprocals.
- Products of matrices whose sums have more terms than some thousand are cut into blocks by the size
  of a cache.

Keras has no public way to say how its layers compute, so functions of its TensorFlow backend are
replaced here, and nowhere else; tests/model/test_operations.py fails where a later version of Keras
no longer asks for them.
"""

from typing import Any

# Sums of as many terms came to the same bytes on all processors that were tried; of twice as many,
# not.
LONGEST_SUM = 1024


def longest_divisor(terms: int, most: int = LONGEST_SUM) -> int:
    """Return the largest divisor of `terms` that is at most `most`.

    >>> longest_divisor(16384), longest_divisor(7744), longest_divisor(100)
    (1024, 968, 100)
    """
    return next(length for length in range(min(terms, most), 0, -1) if terms % length == 0)


def hold_operations() -> None:
    """Have Keras on TensorFlow compute as described above, from here on in this process."""
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
        terms = x2.shape[0] if len(x1.shape) == len(x2.shape) == 2 else None
        if (
            sparse
            or not terms
            or terms <= LONGEST_SUM
            or x1.dtype != x2.dtype
            or not x1.dtype.is_floating
        ):
            return plain_matmul(x1, x2)
        length = longest_divisor(terms)
        blocks = terms // length
        rows = tf.transpose(tf.reshape(x1, (-1, blocks, length)), (1, 0, 2))
        return tf.reduce_sum(tf.matmul(rows, tf.reshape(x2, (blocks, length, x2.shape[1]))), axis=0)

    backend.nn.batch_normalization = batch_normalization
    backend.math.rsqrt = rsqrt
    backend.numpy.reciprocal = reciprocal
    backend.numpy.matmul = matmul
    # Two passes of the graph optimizer put the operations back: one turns a / sqrt(b) into a *
    # rsqrt(b), the other 1 / a into reciprocal(a), and division by a constant into a product with
    # its reciprocal.
    tf.config.optimizer.set_experimental_options(
        {"arithmetic_optimization": False, "constant_folding": False}
    )

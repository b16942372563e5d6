"""A convolution whose kernel's gradient is taken in pieces on a CPU.

XLA:CPU computes the gradient of a kernel as a convolution in which the batch is
contracted: it transposes the whole batch first, in strides that no cache holds.
A group of examples that fits into the cache takes half the time for the same
sum (experiments/benchmarks/convolution.py). Programs for other devices hold
none of this.
"""

import functools

import jax
import jax.numpy as jnp

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
# Of the input of a group. Twice and half of it were as fast on a core with
# 1 MiB of second-level cache.
_GROUP_BYTES = 2**20


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Convolves images, padded by (size - 1) / 2 on each side, as torchvision.

  Args:
    x: [b, H, W, in].
    kernel: [size, size, in, out], of the same type.
    stride: Pixels between two outputs, in both directions.

  Returns:
    [b, ceil(H / stride), ceil(W / stride), out] for odd sizes. Its derivative
    is for reverse mode only.
  """
  # Under shard_map a kernel that all replicas share becomes each one's own, and
  # JAX sums its gradient over them. XLA drops the zero.
  kernel += jnp.zeros_like(x, shape=())
  return _convolve(x, kernel, stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x, kernel, stride):
  return _plain(x, kernel, stride)


def _plain(x, kernel, stride):
  # Symmetric: 'SAME' pads strided ones otherwise.
  pad = (kernel.shape[0] // 2, kernel.shape[0] // 2)
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), [pad, pad], dimension_numbers=_LAYOUT
  )


def _forward(x, kernel, stride):
  return _plain(x, kernel, stride), (x, kernel)


def _backward(stride, saved, dy):
  x, kernel = saved
  _, gradients = jax.vjp(functools.partial(_plain, stride=stride), x, kernel)
  return jax.lax.platform_dependent(
    x,
    kernel,
    dy,
    cpu=lambda x, kernel, dy: (
      _of_input(x, kernel, dy, stride),
      _grouped(x, kernel, dy, stride),
    ),
    default=lambda x, kernel, dy: gradients(dy),
  )


_convolve.defvjp(_forward, _backward)


def _of_input(x, kernel, dy, stride):
  # What JAX has, with the kernel's dimensions in their usual order: of others
  # XLA:CPU makes loops of scalars where the convolution is in a loop itself
  # (findings/xla_cpu_convolution_gradient_in_a_loop.sh).
  size = kernel.shape[0]
  low = size - 1 - size // 2
  pads = [
    (low, pixels + size - 2 - stride * (outputs - 1) - low)
    for pixels, outputs in zip(x.shape[1:3], dy.shape[1:3], strict=True)
  ]
  return jax.lax.conv_general_dilated(
    dy,
    jnp.flip(kernel, (0, 1)).swapaxes(2, 3),
    (1, 1),
    pads,
    lhs_dilation=(stride, stride),
    dimension_numbers=_LAYOUT,
  )


def _grouped(x, kernel, dy, stride):
  """The kernel's gradient, a sum over examples, a group of them at a time."""
  size = _group(len(x), x.nbytes // len(x))
  if kernel.nbytes > _GROUP_BYTES:  # to add it up costs more than is gained
    size = len(x)
  if size == len(x):
    return _of_a_group(x, dy, kernel, stride)
  groups = (a.reshape(len(x) // size, size, *a.shape[1:]) for a in (x, dy))

  def add(total, group):
    x, dy = group
    return total + _of_a_group(x, dy, kernel, stride), None

  return jax.lax.scan(add, jnp.zeros_like(kernel), tuple(groups))[0]


def _group(rows, row_bytes):
  """The largest divisor of the rows that the cache holds."""
  most = min(rows, max(1, _GROUP_BYTES // row_bytes))
  return next(n for n in range(most, 0, -1) if rows % n == 0)


def _of_a_group(x, dy, kernel, stride):
  # Input channels take the place of the batch, and the batch that of the
  # channels; the outputs' gradient is the kernel, spread by the stride.
  size = kernel.shape[0]
  low = size // 2
  pads = [
    (low, stride * (outputs - 1) + size - low - pixels)
    for pixels, outputs in zip(x.shape[1:3], dy.shape[1:3], strict=True)
  ]
  gradient = jax.lax.conv_general_dilated(
    x.transpose(3, 1, 2, 0),
    dy.transpose(1, 2, 0, 3),
    (1, 1),
    pads,
    rhs_dilation=(stride, stride),
    dimension_numbers=_LAYOUT,
  )
  return gradient.transpose(1, 2, 0, 3)

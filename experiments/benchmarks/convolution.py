"""A step of ResNet-18: kernels' gradients in groups, and JAX's own.

  taskset -c 0 python -m experiments.benchmarks.convolution

Width 16, 28 x 28 pixels, 512 images: forward and backward pass and one SGD
update, on one device.
"""

import functools
import time
from unittest import mock

import jax
import jax.numpy as jnp

from contrastive_jax.models import convolution
from contrastive_jax.models.resnet import ResNet
from experiments.benchmarks import timing

BATCH, SIDE, WIDTH = 512, 28, 16


def stepper(images):
  """Returns a call that takes one step of ours."""
  encoder = ResNet((2, 2, 2, 2), 'basic', width=WIDTH, stem='cifar')
  variables = encoder.init(jax.random.key(0), images[:1], train=False)

  def loss_fn(params, statistics):
    y, updated = encoder.apply(
      {'params': params, **statistics},
      images,
      train=True,
      mutable=['batch_stats'],
    )
    return jnp.square(y).mean(), updated

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, statistics):
    gradient, statistics = jax.grad(loss_fn, has_aux=True)(params, statistics)
    params = jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradient)
    return params, statistics

  state = [variables['params'], {'batch_stats': variables['batch_stats']}]

  def take_step():
    state[:] = step(*state)
    return state

  return take_step


def main() -> None:
  """Prints the ratios, and how long the first call of each took."""
  images = jax.random.normal(jax.random.key(0), (BATCH, SIDE, SIDE, 1))
  ours, whole = stepper(images), stepper(images)
  began = time.perf_counter()
  timing.seconds(ours)
  print(f'first call, in groups: {time.perf_counter() - began:.1f} s')
  began = time.perf_counter()
  with mock.patch.object(convolution, 'convolve', convolution._plain):
    timing.seconds(whole)
  print(f"first call, JAX's gradient: {time.perf_counter() - began:.1f} s")
  timing.compare("images, theirs JAX's gradient", ours, whole, items=BATCH)


if __name__ == '__main__':
  main()

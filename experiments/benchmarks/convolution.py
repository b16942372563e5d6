"""A step of ResNet-18: kernels' gradients in groups, JAX's own, and PyTorch.

  taskset -c 0 python -m experiments.benchmarks.convolution

Width 16, 28 x 28 pixels, 512 images: forward and backward pass and one SGD
update, on one device. PyTorch only where it is installed, with images
channels-last, the quicker of its layouts.
"""

import functools
import importlib.util
import time
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

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


def torch_stepper(images):
  """Returns a call that takes one step of the same network in PyTorch."""
  torch: Any = importlib.import_module('torch')
  nn = torch.nn

  def unit(inputs, outputs, size, stride):
    return nn.Sequential(
      nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
      nn.BatchNorm2d(outputs),
    )

  class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
      super().__init__()
      self.first = unit(inputs, outputs, 3, stride)
      self.second = unit(outputs, outputs, 3, 1)
      same = stride == 1 and inputs == outputs
      self.shortcut = (
        nn.Identity() if same else unit(inputs, outputs, 1, stride)
      )

    def forward(self, x):
      y = self.second(torch.relu(self.first(x)))
      return torch.relu(y + self.shortcut(x))

  blocks, inputs = [unit(1, WIDTH, 3, 1), nn.ReLU()], WIDTH
  for outputs in (WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH):
    stride = 1 if outputs == WIDTH else 2
    blocks += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
    inputs = outputs
  network = nn.Sequential(*blocks).to(memory_format=torch.channels_last)
  optimizer = torch.optim.SGD(network.parameters(), 1e-3)
  x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)

  def take_step():
    optimizer.zero_grad()
    network(x).mean((2, 3)).square().mean().backward()
    optimizer.step()
    return 0

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
  if importlib.util.find_spec('torch'):
    theirs = torch_stepper(images)
    timing.compare('images, theirs PyTorch', ours, theirs, items=BATCH)


if __name__ == '__main__':
  main()

"""Embedding images from memory against the bare forward pass.

  python -m experiments.benchmarks.embed

Ours is all of `embed.compute`: crops made on the host, the pass, vectors
written to the disk in chunks. The bare pass is the same jitted encoder, called
on batches that already lie on the device. ResNet-18 of width 64 on images of
28 x 28 pixels, as of Fashion-MNIST.
"""

import itertools
import os
import pathlib
import tempfile

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from configs import simclr_small
from contrastive_jax.commands import command_line
from contrastive_jax.data.split import source_from_arrays
from contrastive_jax.evaluation import embed, encoder
from contrastive_jax.training import build, step
from experiments.benchmarks import timing

IMAGES = 8192


def main() -> None:
  """Prints both throughputs and their ratio."""
  images = np.random.default_rng(0).integers(
    0, 256, (IMAGES, 28, 28, 1), np.uint8
  )
  config = simclr_small.get_config('digits')
  config.data.image_size = 28
  source = source_from_arrays(images, name='noise')
  job = build.build(config, step.make_mesh(), source)
  state = build.init_state(job)
  encode = encoder.frozen(job)(state)
  splits = {'train': source.train}
  given = embed.Opened(job, state, source, splits, {})
  numbers = itertools.count()
  size = encoder.batch_size(job, IMAGES)
  batch = jax.device_put(
    images[:size], NamedSharding(job.mesh, P(job.mesh.axis_names))
  )
  call = jax.jit(lambda encode, images: encode(images))

  with tempfile.TemporaryDirectory() as folder:

    def ours():
      path = pathlib.Path(folder) / str(next(numbers))
      found = embed.compute(given, encode, path, {'layer': 'encoder'}, say=str)
      found.store.remove()

    def bare():
      done = None
      for _ in range(IMAGES // size):
        jax.block_until_ready(done)
        done = call(encode, batch)
      return done

    timing.compare(
      'images a second, embed against the bare pass',
      ours,
      bare,
      items=IMAGES,
      rounds=5,
      target=0.9,
    )


if __name__ == '__main__':
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  main()

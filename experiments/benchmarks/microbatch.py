"""Micro-batches: memory and time of a step, beside the whole batch at once.

  python -m experiments.benchmarks.microbatch

SimCLR on Fashion-MNIST's size: ResNet-18 of width 16, ghost batch norm, and
ViT-Ti/4 of six blocks, 28 x 28 pixels, one device, parts of 32 images.
"""

import functools

import jax
import numpy as np

from configs import simclr_small
from contrastive_jax.commands import command_line
from contrastive_jax.data.split import source_from_arrays
from contrastive_jax.training import build, step
from experiments.benchmarks import timing

PART, SIDE = 32, 28
ENCODERS = {
  'ResNet-18': dict(name='resnet18', width=16, norm='ghost:16'),
  'ViT': dict(name='vit_tiny', patch_size=4, depth=6),
}


def stepper(encoder, batch_size, microbatch):
  """Returns a call that takes one step, and its temporary memory in MiB."""
  config = simclr_small.get_config('digits')
  config.encoder.update(encoder)
  config.data.image_size = SIDE
  config.batch_size, config.microbatch = batch_size, microbatch
  shape = (2 * batch_size, SIDE, SIDE, 1)
  images = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
  job = build.build(
    config,
    step.make_mesh(jax.devices()[:1]),
    source_from_arrays(images, np.arange(2 * batch_size) % 10),
  )
  train_step = step.make_train_step(job.objective, job.optimizer, job.modality)
  mapped = step.over_shards(train_step, job.mesh, donate=False)
  arguments = (
    build.init_state(job),
    step.shard(build.first_batch(job), job.mesh),
  )
  compiled = mapped.lower(*arguments).compile()
  memory = compiled.memory_analysis()
  assert memory is not None  # of this backend it is not
  mebibytes = memory.temp_size_in_bytes / 2**20
  return functools.partial(compiled, *arguments), mebibytes


def main() -> None:
  """Prints memory for 1 to 16 parts, and the ratio of the times at 16."""
  for label, encoder in ENCODERS.items():
    for parts in (1, 4, 16):
      _, mebibytes = stepper(encoder, parts * PART, PART)
      print(f'{label}, {parts} parts of {PART}: {mebibytes:,.1f} MiB')
    in_parts, _ = stepper(encoder, 16 * PART, PART)
    whole, mebibytes = stepper(encoder, 16 * PART, 0)
    print(f'{label}, the batch of {16 * PART} at once: {mebibytes:,.1f} MiB')
    timing.compare(
      f'{label}, images', in_parts, whole, items=16 * PART, target=1 / 1.35
    )


if __name__ == '__main__':
  command_line.set_up_cpu(1)
  main()

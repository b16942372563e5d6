"""Images a second of every objective, beside SimCLR's and its bare passes.

  python -m experiments.benchmarks.objectives [--only=byol,swav]

The bare passes of an objective are those of the encoder that it cannot do
without: forward and backward of the views that are trained, forward of those
that only a target network sees; no heads, no loss, no augmentation, no
optimizer. A ratio of 0.9 says that all the rest takes a tenth of the time.
ResNet-18 of width 16, or the config's ViT for what masks patches, on 28 pixel
images, 128 of them a step, one device. MAE cannot do without a quarter of them.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from contrastive_jax.commands import command_line
from contrastive_jax.models import encoders
from contrastive_jax.training import build, step
from experiments import small_configs
from experiments.benchmarks import timing

BATCH_SIZE = 128

_ONLY = flags.DEFINE_list(
  'only', small_configs.NAMES, 'Objectives, by their config.'
)


def make_job(name: str) -> build.Job:
  """Returns the objective's job on digits, drawn as 28 pixel images."""
  config = small_configs.load(name)
  config.data.image_size = 28
  if not small_configs.is_vit(config):
    config.encoder.name = 'resnet18'
    config.encoder.width = 16
  config.batch_size = BATCH_SIZE
  return build.build(config, step.make_mesh(jax.devices()[:1]))


def bare_passes(job: build.Job) -> Callable[[], Any]:
  """Returns a call that does the encoder's passes and nothing else.

  Args:
    job: whose views and target network say which passes there are.

  Returns:
    The call; it handles one batch.
  """
  views = [
    jnp.asarray(view, jnp.float32) / 255
    for view in build.first_batch(job)['views']
  ]
  has_target = 'target' in build.init_state(job).model_state
  one_direction = has_target and not job.config.objective.get('symmetric', True)
  trained = views[:1] if one_direction else views
  targets = views[1:2] if one_direction else views[:2] if has_target else []
  encoder = encoders.make(job.config.encoder, job.run).module
  variables = encoder.init(jax.random.key(0), views[0], train=False)

  options = {}
  if job.config.objective.name == 'mae':
    quarter = math.prod(encoder.grid) // 4
    options['visible'] = jnp.tile(jnp.arange(quarter), (BATCH_SIZE, 1))

  def forward(variables, images):
    features, _ = encoder.apply(
      variables, images, train=True, mutable=['batch_stats'], **options
    )
    return features

  @jax.jit
  def passes(variables, trained, targets):
    gradient = jax.grad(
      lambda v: sum(jnp.sum(forward(v, images)) for images in trained)
    )(variables)
    return gradient, [forward(variables, images) for images in targets]

  return lambda: passes(variables, trained, targets)


def main(argv: list[str]) -> None:
  """Prints two ratios an objective."""
  del argv
  reference = timing.stepper(make_job('simclr'))
  for name in _ONLY.value:
    job = make_job(name)
    ours = timing.stepper(job)
    for label, other, target in (
      ('SimCLR', reference, None),
      ('its bare passes', bare_passes(job), 0.9),
    ):
      timing.compare(
        f'images, {name} against {label}',
        ours,
        other,
        items=BATCH_SIZE,
        rounds=5,
        target=target,
      )


if __name__ == '__main__':
  command_line.set_up_cpu(1)
  app.run(main)

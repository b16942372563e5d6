"""The small run that is hurt, and what of it has to be as if it were not."""

import json
import logging
import pathlib
from typing import Any

_TIMED = ('images_per_second', 'data_wait', 'seconds_left')
COMMAND = (
  '-m',
  'contrastive_jax.main',
  '--config=tests/tiny.py',
  '--config.steps=60',
  '--config.log.every_steps=5',
  '--config.checkpoint.every_steps=10',
)


def found(workdir: pathlib.Path) -> dict[str, Any]:
  """Returns what a run has written, without what is about time."""
  from tensorboard.backend.event_processing import event_accumulator

  logging.getLogger('tensorboard').setLevel(logging.WARNING)

  def untimed(report):
    return {k: v for k, v in report.items() if k not in _TIMED}

  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  events = event_accumulator.EventAccumulator(
    str(workdir), size_guidance={event_accumulator.TENSORS: 0}
  ).Reload()
  scalars = {
    tag: [
      (event.step, event.tensor_proto.SerializeToString())
      for event in events.Tensors(tag)
    ]
    for tag in events.Tags()['tensors']
    if tag not in _TIMED
  }
  return {
    'summary.json': untimed(json.loads((workdir / 'summary.json').read_text())),
    'metrics.jsonl': [untimed(json.loads(line)) for line in lines],
    'TensorBoard': scalars,
  }

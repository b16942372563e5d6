"""The augmented views of a config, before any training.

  python -m contrastive_jax.preview --config=configs/simclr_small.py:digits \
      --images=8

A row an image: as it is, then every view of epoch 0, as the training step makes
them of it. What is seen is what is trained on; what a config leaves open is
chosen for the devices that `contrastive_jax.main` would have.
"""

import pathlib
import re
import sys
from collections.abc import Sequence

from contrastive_jax.commands import command_line
from contrastive_jax.config import Error


def main(argv: Sequence[str]) -> None:
  """Draws the sheet and says what is wrong with it."""
  parser = command_line.config_parser(
    'preview', 'Draws augmented views, before any training.'
  )
  parser.add_argument(
    '--images', type=int, default=8, help='1 to 64; default: 8'
  )
  parser.add_argument(
    '--output',
    help='a PNG file; default: preview_CONFIG_SOURCE.png, in this folder',
  )
  options, config = command_line.parse(parser, argv)
  # Only now: these imports take seconds, and --help is not to wait for them.
  import jax

  from contrastive_jax.reporting import sheet as sheets
  from contrastive_jax.training import build, sizing, step

  output = options.output or _output(options.config)
  with command_line.errors_in_a_sentence():
    if not 1 <= options.images <= sheets.MEASURED:
      raise Error(
        f'--images is {options.images}: it must be from 1 to {sheets.MEASURED}'
      )
    source, notes = None, ()
    if sizing.is_open(config):
      rows = config.batch_size or 0
      command_line.set_up_cpu(command_line.devices_of_cpu(rows))
      whole = build.build(config)
      config, source, notes = whole.config, whole.source, whole.notes
    # One device will do, whatever number the batch would divide by.
    mesh = step.make_mesh(jax.local_devices()[:1])
    job = build.build(config, mesh, source=source)
    chosen = [note for note in notes if note.startswith(sizing.OPEN)]
    for note in (*chosen, *job.source.notes):
      print(note)
    views = sheets.sheet(job)
    picture = sheets.draw(views, options.images)
    picture.savefig(output, format='png', dpi=120)
  for note in sheets.notes(views):
    print(f'note: {note}')
  shown = min(options.images, len(views.images))
  print(f'{output}: {shown} images in {len(views.views)} views each')


def _output(config: str) -> str:
  """Returns the file's name: of the config, and of its source if given."""
  path, _, source = config.partition(':')
  parts = [pathlib.Path(path).stem, *re.findall(r'[\w.-]+', source)[-2:]]
  return f'preview_{"_".join(parts)}.png'


if __name__ == '__main__':
  main(sys.argv)

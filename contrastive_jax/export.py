"""The encoder of a run as a file for torchvision, timm, or anything else.

  python -m contrastive_jax.export --workdir=runs/digits --to=torchvision

Writes into WORKDIR/export_FORMAT (of another --layer
WORKDIR/export_FORMAT_LAYER; or --output) the weights, encoder.json (what
its images have to be like: size, mean, std, interpolation), and
certificate.json: how far the features of both are apart on 32 images of the
run's own data. It fails if that is above --bound. For the first three an
interpreter that has their library is needed for the certificate: --python.

FORMAT is torchvision, timm or bert (a state dict as safetensors, for
load_state_dict(strict=True); bert is transformers' BertModel), safetensors or
npz (our own names), or stablehlo (a function of uint8 images, or of tokens, of
any batch size, by jax.export; of heads, too: of a run of images with texts
--layer=projector and text_projector lead into their common space). What cannot
be had where: contrastive_jax/weights/README.md.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from contrastive_jax.commands import command_line, compiled

_FORMATS = ('torchvision', 'timm', 'bert', 'safetensors', 'npz', 'stablehlo')


def main(argv: Sequence[str]) -> None:
  """Exports, and prints how far the two sides are apart."""
  parser = argparse.ArgumentParser(
    prog='python -m contrastive_jax.export',
    description='Writes the encoder of a run as a file for others.',
  )
  parser.add_argument('--workdir', required=True, help='of the run')
  parser.add_argument('--to', required=True, choices=_FORMATS)
  parser.add_argument(
    '--layer',
    default='encoder',
    help='text_encoder: of the texts beside images; a head: stablehlo alone',
  )
  parser.add_argument('--step', type=int, help='default: the newest')
  parser.add_argument('--output', help='default: WORKDIR/export_FORMAT')
  parser.add_argument(
    '--python', default=sys.executable, help='that has torch, for the check'
  )
  parser.add_argument(
    '--bound',
    type=float,
    default=1e-4,
    help='of the largest difference, in root mean squares of the features',
  )
  options = parser.parse_args(argv[1:])
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  compiled.keep()
  # Only now: the import takes seconds, and --help is not to wait for it.
  from contrastive_jax.weights import export

  with command_line.errors_in_a_sentence():
    done = export.export(
      options.workdir,
      options.to,
      layer=options.layer,
      step=options.step,
      output=options.output,
      python=options.python,
      bound=options.bound,
    )
  for note in done.notes:
    print(note)
  found = done.certificate
  if found['largest_relative'] is not None:
    print(
      f'on {found["images"]}: features differ by at most '
      f'{found["largest_relative"]:.1e} of their size, on average '
      f'{found["mean_relative"]:.1e} (bound {found["bound"]:g})'
    )
  print(f'the encoder of step {found["step"]:,} is in {done.folder}')


if __name__ == '__main__':
  main(sys.argv)

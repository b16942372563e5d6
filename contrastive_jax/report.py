"""One page about a run, or several beside each other.

  python -m contrastive_jax.report --workdir=DIR [--workdir=DIR2 ...] \
      [--output=FILE]

A single HTML file, DIR/report.html, that opens without a network. Of a run that
is still going on, or crashed, it shows what there is and says what is missing.
Where the accelerator is taken by the run itself: JAX_PLATFORMS=cpu.
"""

import argparse
import sys
from collections.abc import Sequence

from contrastive_jax.commands import command_line


def main(argv: Sequence[str]) -> None:
  """Writes the report; what is missing from it is printed, too."""
  parser = argparse.ArgumentParser(
    prog='python -m contrastive_jax.report',
    description='Writes a page about one run or several.',
  )
  parser.add_argument(
    '--workdir',
    action='append',
    required=True,
    help='work folder of a run; may be given several times',
  )
  parser.add_argument('--output', help='default: report.html in the first one')
  options = parser.parse_args(argv[1:])
  # Only now: the import takes seconds, and --help is not to wait for it.
  from contrastive_jax.reporting import document

  with command_line.errors_in_a_sentence():
    output, gaps = document.write(options.workdir, options.output)
  for gap in gaps:
    print(gap)
  print(f'the report is in {output}')


if __name__ == '__main__':
  main(sys.argv)

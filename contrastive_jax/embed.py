"""What does a run's encoder make of any images? One vector each, in a file.

  python -m contrastive_jax.embed --workdir=runs/digits \
      --images=folder:/path/to/images --output=images.npz \
      --neighbors=8 --duplicates=0.98

`--images` is any data source; without it, the run's own. A row is an image: its
id, split, path, text and label if there are any, and its vector (float32):
arrays `ids`, `splits`, `paths`, `texts`, `labels`, `vectors` of an .npz, or the
columns of a .parquet. Rows are in the order of the ids, train before test; an
image that cannot be read has none, and is named. A command that was killed goes
on where it stood: OUTPUT.part keeps what is done until the end.

`--layer=projector` takes the head's output instead of the encoder's (of a run
of images with texts `text_encoder` and `text_projector` are the texts'), and
`--whole_image` squeezes all of an image into the square, where evaluation sees
the central part (data.eval_crop). `--neighbors=K` also writes a page with 30
images and the K nearest to each, OUTPUT.neighbors.html, and `--duplicates=0.98`
the groups that are joined by pairs of at least that cosine, with copies of
files and links to them, OUTPUT.duplicates.csv. `--search=TEXT`, as often as
you like, writes a page of what is nearest to each text, OUTPUT.search.html, and
prints the first of it: of a run of sentences, or of images with texts, where
`--layer` is projector.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from contrastive_jax.commands import command_line, compiled


def main(argv: Sequence[str]) -> None:
  """Embeds the images, and prints what was written."""
  parser = argparse.ArgumentParser(
    prog='python -m contrastive_jax.embed',
    description='Writes a vector of each image.',
  )
  parser.add_argument('--workdir', required=True, help='of the run')
  parser.add_argument('--images', help="a data source; default: the run's own")
  parser.add_argument('--output', required=True, help='a .npz or .parquet file')
  parser.add_argument(
    '--split', choices=('train', 'test', 'all'), default='all'
  )
  parser.add_argument('--step', type=int, help='default: the newest')
  parser.add_argument(
    '--layer',
    default='encoder',
    help='or projector; of texts text_encoder, text_projector',
  )
  parser.add_argument(
    '--whole_image',
    action='store_true',
    help='squeezed into the square, instead of its central part',
  )
  parser.add_argument('--neighbors', type=int, help='how many to show of each')
  parser.add_argument('--seed', type=int, default=0, help='of what is shown')
  parser.add_argument(
    '--duplicates', type=float, help='the least cosine, in (0, 1]'
  )
  parser.add_argument(
    '--search',
    metavar='TEXT',
    action='append',
    default=[],
    help='what is nearest to it (as many as --neighbors, or 8)',
  )
  options = parser.parse_args(argv[1:])
  command_line.set_up_cpu(len(os.sched_getaffinity(0)))
  compiled.keep()
  # Only now: the import takes seconds, and --help is not to wait for it.
  from contrastive_jax.evaluation import duplicates, embed, encoder, tables
  from contrastive_jax.reporting import neighbors

  with command_line.errors_in_a_sentence():
    output = tables.check(options.output)
    duplicates.check(options.duplicates)
    given = embed.opened(
      options.workdir, options.images, split=options.split, step=options.step
    )
    neighbors.check(options.neighbors, embed.size(given), options.seed)
    asked = options.search
    vectors = embed.of_texts(given, options.layer, asked) if asked else None
    found = embed.compute(
      given,
      encoder.frozen(given.job, options.layer)(given.state),
      output.with_name(f'{output.name}.part'),
      {'layer': options.layer},
      whole_image=options.whole_image,
      texts=options.layer in given.job.objective.text_modules,
    )
    lines, plural = [], neighbors.plural(found, given.job)
    if options.duplicates is not None:
      path = output.with_suffix('.duplicates.csv')
      root = embed.folder(options.images or given.source.name)
      counts = duplicates.write(
        found,
        options.duplicates,
        path,
        root,
        files=options.layer not in given.job.objective.text_modules,
      )
      lines.append(
        f'{counts.groups:,} groups of {counts.images:,} {plural} that are '
        f'nearly the same (cosine of at least {options.duplicates:g}), '
        f'{counts.copies:,} of them copies of a file, and {counts.links:,} '
        f'links to them: {path}'
      )
    if options.neighbors is not None:
      path = output.with_suffix('.neighbors.html')
      neighbors.write(found, given.job, options.neighbors, path, options.seed)
      lines.append(f'neighbors: {path}')
    if vectors is not None:
      path = output.with_suffix('.search.html')
      k = options.neighbors or 8
      hits = neighbors.search(found, given.job, asked, vectors, k, path)
      lines += [
        f'{text!r}: {", ".join(names[:3])}'
        for text, names in zip(asked, hits, strict=True)
      ]
      lines.append(f'searched for: {path}')
    tables.write(found, output)
  found.store.remove()
  for line in [*embed.left_out(found.names(found.unreadable)), *lines]:
    print(line)
  n, d = found.vectors.shape
  print(f'{n:,} {plural}, {d:,} numbers each: {output}')


if __name__ == '__main__':
  main(sys.argv)

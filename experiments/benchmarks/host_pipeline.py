"""JPEG files of 500 x 375 to two 224 pixel views, on one core, beside PIL.

  python -m experiments.benchmarks.host_pipeline

The photographs are those of the scikit-image and scikit-learn wheels, cut to
500 x 375 and saved as JPEG (quality 90) 300 times over, with other borders.
Ours is meant to do 600 files a second without antialiasing, which PIL always
does. Then what a recipe pays for on the host: antialiasing, the rule that draws
the crops, and the accurate transform of JPEG, each against its plain form.
"""

import functools
import math
import os
import pathlib
import tempfile

import numpy as np
import skimage.data
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

from contrastive_jax.data import crops, pipeline, sources
from contrastive_jax.data import split as split_lib
from experiments.benchmarks import timing

FILES, BATCH, EPOCHS = 300, 50, 6
VIEW = pipeline.View(size=224, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))


def write_photographs(folder: pathlib.Path) -> None:
  """Fills a folder with JPEG files of 500 x 375."""
  photographs = [
    *load_sample_images().images,
    skimage.data.rocket(),
    skimage.data.astronaut(),
    skimage.data.retina(),
    skimage.data.hubble_deep_field(),
  ]
  rng = np.random.default_rng(0)
  for number in range(FILES):
    image = Image.fromarray(photographs[number % len(photographs)])
    image = image.resize((560, 420), Image.Resampling.BICUBIC)
    left, top = int(rng.integers(60)), int(rng.integers(45))
    image = image.crop((left, top, left + 500, top + 375))
    image.save(folder / f'{number:03}.jpg', quality=90)


def pil_views(path: pathlib.Path, rng: np.random.Generator, resample) -> list:
  """What a PIL pipeline does: decode, two random resized crops."""
  image = Image.open(path).convert('RGB')
  views = []
  for _ in range(2):
    area = 500 * 375 * rng.uniform(*VIEW.scale)
    ratio = math.exp(rng.uniform(*np.log(VIEW.ratio)))
    width = min(500.0, math.sqrt(area * ratio))
    height = min(375.0, math.sqrt(area / ratio))
    left = rng.uniform(0, 500 - width)
    top = rng.uniform(0, 375 - height)
    box = (left, top, left + width, top + height)
    views.append(np.asarray(image.resize((224, 224), resample, box=box)))
  return views


def main() -> None:
  """Prints throughputs and ratios: against PIL, and against our plain form."""
  # Threads that are made from here on inherit it.
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    write_photographs(folder)
    paths = sorted(folder.glob('*.jpg'))
    split = sources.load(f'folder:{folder}').train
    compare = functools.partial(timing.compare, items=EPOCHS * FILES, rounds=3)
    for interpolation, resample in (
      ('bicubic', Image.Resampling.BICUBIC),
      ('bilinear', Image.Resampling.BILINEAR),
    ):
      for antialias in (False, True):
        compare(
          f'files, {interpolation}, one core, against PIL'
          + (', antialiased' if antialias else ''),
          functools.partial(our_views, split, interpolation, antialias),
          functools.partial(all_pil_views, paths, resample),
          target=None if antialias else 1.5,
        )
    plain = functools.partial(our_views, split)
    compare('antialiased, against not', lambda: plain(antialias=True), plain)
    for rule in crops.RULES:
      if rule != VIEW.rule:
        compare(
          f'crops by the rule of {rule}, against {VIEW.rule}',
          functools.partial(plain, rule=rule),
          plain,
        )
    encoded = [path.read_bytes() for path in paths]
    compare(
      'JPEG decoded by the accurate transform, against the fast one',
      functools.partial(decode_all, encoded, 'INTEGER_ACCURATE'),
      functools.partial(decode_all, encoded, 'INTEGER_FAST'),
    )


def decode_all(encoded: list[bytes], transform: str) -> None:
  """Decodes all files so many times."""
  for image in EPOCHS * encoded:
    tf.io.decode_jpeg(image, 3, dct_method=transform)


def our_views(
  split: split_lib.Split,
  interpolation: str = 'bicubic',
  antialias: bool = False,
  rule: str = VIEW.rule,
) -> None:
  """Six epochs of ours, start included: nothing is read ahead of the clock."""
  view = VIEW._replace(rule=rule)
  batches = pipeline.TrainBatches(
    split,
    [view, view],
    batch_size=BATCH,
    seed=0,
    interpolation=interpolation,
    antialias=antialias,
  )
  for _ in range(EPOCHS * FILES // BATCH):
    next(batches)
  batches.close()


def all_pil_views(paths: list[pathlib.Path], resample) -> None:
  """Six epochs of PIL's."""
  rng = np.random.default_rng(0)
  for path in EPOCHS * paths:
    pil_views(path, rng, resample)


if __name__ == '__main__':
  main()

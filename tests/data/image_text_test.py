"""Images with texts: each text stays with its image, however they come."""

import io
import itertools
import tarfile

import numpy as np
import PIL.Image
import pytest
import tokenizers

from contrastive_jax.config import Error
from contrastive_jax.data import modalities, sources
from contrastive_jax.data import split as split_lib
from contrastive_jax.training import build
from experiments import small_configs
from tests import tiny

COLORS = {'red': (255, 0, 0), 'green': (0, 255, 0), 'blue': (0, 0, 255)}


def png(color, size=8):
  buffer = io.BytesIO()
  PIL.Image.new('RGB', (size, size), COLORS[color]).save(buffer, 'PNG')
  return buffer.getvalue()


def examples(count=30):
  names = itertools.islice(itertools.cycle(COLORS), count)
  return [(f'{i:03}', name) for i, name in enumerate(names)]


@pytest.fixture(params=['folder', 'csv', 'tar'])
def source(request, tmp_path):
  """The same pictures in three ways."""
  if request.param == 'folder':
    for key, color in examples():
      (tmp_path / f'{key}.png').write_bytes(png(color))
      (tmp_path / f'{key}.txt').write_text(f'\n a {color} square\nmore\n')
    (tmp_path / 'without.png').write_bytes(png('red'))
    return f'image_text:{tmp_path}'
  if request.param == 'csv':
    lines = ['path,caption']
    for key, color in examples():
      (tmp_path / f'{key}.png').write_bytes(png(color))
      lines.append(f'{key}.png,a {color} square')
    (tmp_path / 'a.csv').write_text('\n'.join(lines))
    return f'csv:{tmp_path}/a.csv'
  with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
    for key, color in examples():
      for suffix, data in (
        ('png', png(color)),
        ('txt', f'a {color} square\n'.encode()),
      ):
        member = tarfile.TarInfo(f'{key}.{suffix}')
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
  return f'tar:{tmp_path}/a.tar'


def config_of(source):
  config = tiny.shrink(small_configs.load('clip', source))
  config.batch_size, config.data.image_size = 8, 8
  return config


def test_a_text_stays_with_its_image(source):
  job = build.build(config_of(source))
  made = tokenizers.Tokenizer.from_str(job.modality.files['tokenizer.json'])
  for start in (0, 5):
    batches = build.train_batches(job, start)
    batch = next(batches)
    batches.close()
    images, rows = batch['views']
    for image, tokens, n in zip(
      images, rows['tokens'], rows['length'], strict=True
    ):
      color = made.decode(tokens[:n].tolist()).split()[1]
      assert np.array_equal(image[0, 0], COLORS[color])
  found = job.source
  assert found.train.size + (found.test.size if found.test else 0) == 30
  if found.test is None:
    assert source.startswith('tar:')
  else:
    assert found.test.size == 3


def test_several_texts_of_an_image(tmp_path):
  lines = ['path,caption']
  for key, color in examples():
    (tmp_path / f'{key}.png').write_bytes(png(color))
    lines += [f'{key}.png,{color} {key}', f'{key}.png,again {color} {key}']
  lines.append(lines[-1])  # the same twice is one
  (tmp_path / 'a.csv').write_text('\n'.join(lines))
  found = sources.load(f'csv:{tmp_path}/a.csv')
  assert found.train.size + found.test.size == 60
  # All of an image on one side.
  splits = found.train, found.test
  sides = [{c.split()[-1] for c in split.captions} for split in splits]
  assert not sides[0] & sides[1]


def test_an_image_with_several_texts_is_held_out_whole(tmp_path):
  lines = ['path,caption']
  for key, color in examples(20):
    (tmp_path / f'{key}.png').write_bytes(png(color))
    lines += [f'{key}.png,{color} {n}' for n in range(5)]
  (tmp_path / 'a.csv').write_text('\n'.join(lines))
  source = sources.load(f'csv:{tmp_path}/a.csv')
  found = split_lib.held_out(source, 0.2)
  assert found.test.size == 5 * round(0.2 * len(set(source.train.paths)))
  assert found.train.size + found.test.size == source.train.size
  assert not set(found.train.paths) & set(found.test.paths)


def test_what_has_no_texts_is_refused(tmp_path):
  with pytest.raises(Error, match='has no texts beside its images'):
    build.build(config_of('digits'))
  (tmp_path / 'a.png').write_bytes(png('red'))
  with pytest.raises(Error, match='0 of 1 images have a text beside them'):
    sources.load(f'image_text:{tmp_path}')
  (tmp_path / 'b.png').write_bytes(png('blue'))
  (tmp_path / 'c.png').write_bytes(png('blue'))
  table = tmp_path / 'a.csv'
  table.write_text(
    'path,caption,split\na.png,x,train\nb.png,,train\nc.png,y,test\n'
  )
  found = sources.load(f'csv:{table}')
  with pytest.raises(Error, match='1 of 2 images of .* have no caption'):
    modalities.make(config_of(f'csv:{table}'), found)


def test_texts_are_left_alone_by_other_objectives():
  config = tiny.shrink(
    small_configs.load('simclr', small_configs.pairs_source())
  )
  config.data.image_size = 8
  batch = build.first_batch(build.build(config))
  assert [np.shape(view) for view in batch['views']] == [(64, 8, 8, 3)] * 2


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'objective.name': 'simclr'}, 'simclr has no tower of text'),
    ({'text_encoder.name': ''}, 'CLIP has a tower of text, too'),
    (
      {'augment.blur': (0.0, 0.0), 'augment.solarize': (0.0, 0.0)},
      'has one view',
    ),
  ],
)
def test_configs_that_do_not_fit(changes, said):
  config = config_of(small_configs.pairs_source())
  with config.unlocked():
    config.update_from_flattened_dict(changes)
    if config.objective.name == 'simclr':
      from contrastive_jax import objectives

      config.objective = {
        'name': 'simclr',
        **objectives.default_fields('simclr'),
      }
  with pytest.raises(Error, match=said):
    build.build(config)

"""Predictions: by the saved head, of whom it may, and how far they are."""

import csv
import json
import pathlib

import numpy as np
import pytest
import scipy.special
from PIL import Image

from contrastive_jax import predict as command
from contrastive_jax import train
from contrastive_jax.commands import command_line
from contrastive_jax.data import split as split_lib
from contrastive_jax.evaluation import classifier, encoder, finetune, predict
from contrastive_jax.training import build
from tests import tiny


@pytest.fixture(scope='module')
def workdir(tmp_path_factory) -> pathlib.Path:
  path = tmp_path_factory.mktemp('runs') / 'digits'
  config = tiny.config()
  config.evaluation.baselines = False
  train.pretrain(config, path)
  return path


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  monkeypatch.setattr(command_line, 'set_up_cpu', lambda devices: None)
  monkeypatch.setattr(finetune, '_LEAST_STEPS', 1)
  monkeypatch.setattr(finetune, 'LEARNING_RATES', (0.05,))


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
  with path.open() as file:
    return list(csv.DictReader(file))


def test_probabilities_are_the_softmax_of_the_saved_head(workdir, tmp_path):
  said = []
  output = tmp_path / 'a.csv'
  found = predict.predict(workdir, output, images='digits', say=said.append)
  assert said[0] == 'fitting linear on the labels of digits train'
  assert 'right on ' in said[1] and '359 test images' in said[1]
  assert not list(tmp_path.glob('*.part'))
  (kept,) = (workdir / 'classifiers').iterdir()
  assert kept.name == 'linear_4.npz'
  job, state = encoder.load(workdir)
  encode = encoder.frozen(job)(state)
  vectors = np.concatenate(
    [encoder.encode(job, encode, split)[0] for split in job.source[1:3]]
  )
  with np.load(kept) as head:
    assert list(head['class_names']) == list('0123456789')
    shares = scipy.special.softmax(vectors @ head['weights'] + head['bias'], 1)
    about = json.loads(str(head['about']))
  rows = rows_of(output)
  assert tuple(rows[0]) == predict.COLUMNS and len(rows) == 1797
  assert [rows[i]['path'] for i in (0, 1438)] == [
    'digits train #0',
    'digits test #0',
  ]
  assert [int(row['class']) for row in rows] == list(shares.argmax(axis=1))
  np.testing.assert_allclose(
    [float(row['probability']) for row in rows], shares.max(axis=1), atol=1e-4
  )
  labels = np.concatenate([split.labels for split in job.source[1:3]])
  right = shares.argmax(axis=1) == labels
  assert found.right == np.sum(right) and found.known == 1797
  assert about['accuracy'] == np.mean(right[1438:])
  # Training images are in the bank.
  assert all(float(row['distance']) < 1e-4 for row in rows[:1438])
  # Now it is there.
  said.clear()
  predict.predict(workdir, tmp_path / 'b.csv', images='digits', say=said.append)
  assert said == []
  assert (tmp_path / 'b.csv').read_text() == output.read_text()


def test_the_distance_and_its_percentile_by_hand():
  angles = np.deg2rad([0, 10, 30, 60, 100])
  bank = np.float32(np.stack([np.cos(angles), np.sin(angles)], 1))
  own = classifier.own_distances(bank, np.random.default_rng(0))
  # Of 0 and 10 the nearest is at 10 degrees, of 30 at 20, then 30 and 40.
  expected = 1 - np.cos(np.deg2rad([10, 10, 20, 30, 40]))
  np.testing.assert_allclose(own, expected, atol=1e-6)
  found = classifier.Classifier(
    {}, ('a', 'b'), np.eye(2, dtype=np.float32), np.zeros(2), 3 * bank, own, {}
  )
  asked = np.deg2rad([100, 45, 125, 180])
  asked = np.float32(np.stack([np.cos(asked), np.sin(asked)], 1))
  distance, percentile = found.distances(asked)
  degrees = [0, 15, 25, 80]
  np.testing.assert_allclose(
    distance, 1 - np.cos(np.deg2rad(degrees)), atol=1e-6
  )
  np.testing.assert_array_equal(percentile, [0, 40, 60, 100])
  # A copy is no further from itself.
  twice = np.concatenate([bank, bank[:1]])
  own = classifier.own_distances(twice, np.random.default_rng(0))
  np.testing.assert_allclose(own[:2], 0, atol=1e-6)
  assert not len(classifier.own_distances(bank[:1], np.random.default_rng(0)))


def test_a_fine_tuned_encoder_is_kept(workdir, tmp_path, monkeypatch):
  said = []
  for name in ('a.csv', 'b.csv'):
    predict.predict(
      workdir,
      tmp_path / name,
      images='digits',
      head='finetune_10',
      say=said.append,
    )
  assert len(said) == 2  # the second time it is there
  assert (tmp_path / 'a.csv').read_text() == (tmp_path / 'b.csv').read_text()
  # What the protocol says, which measures and forgets it.
  job, state = encoder.load(workdir)
  tuned = finetune.finetune(job, state, 0.1, seed=job.config.seed)
  rows = rows_of(tmp_path / 'b.csv')[1438:]
  assert [int(row['class']) for row in rows] == list(tuned.predicted)
  kept = classifier.load(workdir / 'classifiers' / 'finetune_10_4.npz')
  frozen = encoder.frozen(job)(state)
  assert encoder.fingerprint(kept.encoder(job, state)) != (
    encoder.fingerprint(frozen)
  )


def test_another_encoder_is_fitted_anew(workdir, tmp_path):
  path = workdir / 'classifiers' / 'linear_4.npz'
  predict.predict(workdir, tmp_path / 'a.csv', images='digits', say=str)
  found = classifier.load(path)
  found.about['encoder'] = 'of before'
  classifier.save(found, path)
  said = []
  predict.predict(workdir, tmp_path / 'a.csv', images='digits', say=said.append)
  assert 'of another encoder or other labels' in said[0]
  path.write_bytes(path.read_bytes()[:1000])
  with pytest.raises(ValueError, match='linear_4.npz is damaged .*: delete it'):
    predict.predict(workdir, tmp_path / 'a.csv', images='digits', say=str)
  path.unlink()


def test_images_without_a_label_are_filled_in(tmp_path):
  """The run's own data, in which every third label is missing."""
  digits = build.build(tiny.config()).source
  labels = np.where(np.arange(1438) % 3 == 0, -1, digits.train.labels)
  source = split_lib.source_from_arrays(
    digits.train.reader.images,
    labels,
    test_images=digits.test.reader.images,
    test_labels=digits.test.labels,
    class_names=[f'class {i}' for i in range(10)],
  )
  config = tiny.config()
  config.evaluation.baselines = False
  train.pretrain(config, tmp_path / 'run', source=source)
  said = []
  found = predict.predict(
    tmp_path / 'run', tmp_path / 'a.csv', source=source, say=said.append
  )
  rows = rows_of(tmp_path / 'a.csv')
  assert 'the 480 images without a label' in said
  assert [row['path'] for row in rows] == [
    f'arrays train #{i}' for i in range(0, 1438, 3)
  ]
  assert found.right is None and found.images == 480
  truth = [f'class {i}' for i in digits.train.labels[::3]]
  right = np.mean([row['class'] for row in rows] == np.array(truth))
  assert right > 0.5  # after 4 steps


def test_a_folder_of_other_classes(workdir, tmp_path, capsys):
  rng = np.random.default_rng(0)
  for name in ('3', 'bird'):
    (tmp_path / name).mkdir()
    for i in range(5):
      pixels = rng.integers(0, 256, (12, 12, 3), np.uint8)  # in color
      Image.fromarray(pixels).save(tmp_path / name / f'{i}.png')
  (tmp_path / 'bird' / '2.png').write_text('no image')
  output = tmp_path / 'out.csv'
  command.main(
    [
      'predict',
      f'--workdir={workdir}',
      f'--images=folder:{tmp_path}',
      f'--output={output}',
    ]
  )
  said = capsys.readouterr().out
  assert 'has classes that the run does not know (bird): each image' in said
  assert f'cannot be read: 1 ({tmp_path}/bird/2.png)' in said
  assert 'of the 5 that have a label of these classes' in said
  assert f'9 images: {output}' in said
  assert {row['class'] for row in rows_of(output)} <= set('0123456789')


@pytest.mark.parametrize(
  'flags, sentence',
  [
    (['--output=a.npz'], 'a.npz is no .csv file'),
    (['--head=knn'], '--head=knn: there are linear and finetune_PERCENT'),
    (['--head=finetune_0'], '--head=finetune_0: there are linear'),
    ([], 'all images of digits have labels: there is nothing to predict'),
    (['--images=folder:/nowhere'], 'there is no folder /nowhere'),
    (['--images=tests.predict_test:2'], 'has images of 2 channels, and the'),
    (['--step=9'], 'no checkpoint of step 9'),
  ],
)
def test_what_is_refused(workdir, tmp_path, flags, sentence):
  arguments = ['', f'--workdir={workdir}', f'--output={tmp_path}/a.csv', *flags]
  with pytest.raises(SystemExit, match=f'^error: .*{sentence}'):
    command.main(arguments)
  assert not list(tmp_path.iterdir())


def test_a_run_without_labels(tmp_path):
  images = build.build(tiny.config()).source.train.reader.images[:200]
  source = split_lib.source_from_arrays(images)
  train.pretrain(tiny.config(), tmp_path / 'run', source=source)
  with pytest.raises(
    ValueError, match='linear is fitted on labels, and arrays'
  ):
    predict.predict(
      tmp_path / 'run', tmp_path / 'a.csv', source=source, say=str
    )


# A source of its own, of images with two channels.
SPEC = 'tests.predict_test:CHANNELS'


def load(where, *, channels=None, **options):
  del channels, options
  images = np.zeros((20, 8, 8, int(where)), np.uint8)
  split = split_lib.from_arrays('odd', images, None, None)
  return split_lib.Source('odd', split, None)

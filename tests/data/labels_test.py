"""Labels that are partly absent, of one class, or of other classes in test."""

import dataclasses

import jax
import numpy as np
import pytest

from contrastive_jax import train
from contrastive_jax.data import labels, sources
from contrastive_jax.data import split as split_lib
from contrastive_jax.evaluation import run as evaluation
from contrastive_jax.training import build, step
from tests import tiny

_RNG = np.random.default_rng(0)


def _source(train_labels, test_labels=None, classes=None):
  def images(n):
    return _RNG.integers(0, 256, (n, 8, 8, 1), np.uint8)

  test = {}
  if test_labels is not None:
    test = {
      'test_images': images(len(test_labels)),
      'test_labels': np.array(test_labels),
    }
  return split_lib.source_from_arrays(
    images(len(train_labels)),
    np.array(train_labels),
    class_names=classes,
    **test,
  )


def _job(source, name='simclr_small', **changes):
  config = tiny.config_of(name)
  config.update_from_flattened_dict(changes)
  return build.build(config, step.make_mesh(jax.devices()[:1]), source)


def _said(source):
  return '\n'.join(labels.checked(source).notes)


def test_whole_labels_are_not_mentioned():
  source = sources.load('digits')
  assert labels.checked(source) is source


def test_absent_labels_are_counted():
  source = _source([0, 1, -1, -1, -1] * 4, [0, 1, -1])
  said = _said(source)
  assert '12 of 20 images of arrays train have no label' in said
  assert '1 of 3 images of arrays test have no label' in said
  assert labels.unlabeled(source.train) == 12
  # The order does not decide: the first record has no label, or has one.
  for order in (slice(None), slice(None, None, -1)):
    other = _source(np.array([-1, -1, 0, 1])[order], [0, 1])
    assert labels.checked(other).train.num_classes == 2
  assert _source([-1, -1, -1]).train.labels is None


def test_a_test_split_without_any_label_is_none_to_measure_by():
  source = _source([0, 1] * 8, [0, 1])
  blank = dataclasses.replace(source.test, labels=np.int32([-1, -1]))
  source = labels.checked(source._replace(test=blank))
  assert 'no image of arrays test has a label' in '\n'.join(source.notes)
  assert source.train.num_classes == 2
  assert source.test.size == 2 and source.test.num_classes is None
  assert not labels.measurable(source)
  assert labels.measurable(labels.checked(_source([0, 1] * 8, [-1, 1])))


def test_what_is_held_out_has_labels():
  source = _source([0, 1] * 10 + [-1] * 20, [0, 1])
  rest, held = split_lib.held_out(source, 0.2)[1:3]
  assert np.bincount(held.labels).tolist() == [2, 2]
  assert labels.unlabeled(rest) == 20 and rest.size == 36


def test_a_single_class_is_no_label():
  source = labels.checked(_source([0, 0, 0, -1], [0, 0], ('cat',)))
  assert source.train.num_classes is None is source.test.num_classes
  assert 'are of one class (cat)' in '\n'.join(source.notes)
  with pytest.raises(ValueError, match='none, or all of one class'):
    _job(_source([0] * 100, [0]), 'supcon_small')
  assert _job(_source([0] * 100, [0])).run.num_classes is None


def test_test_labels_have_to_be_those_of_training():
  source = _source([0, 1] * 50, [0, 1])
  test = source.test
  three = dataclasses.replace(
    test, labels=np.array([0, 2]), num_classes=3, class_names=('0', '1', '2')
  )
  with pytest.raises(ValueError, match='test has the label 2, and .* 0 to 1'):
    _job(source._replace(test=three))
  swapped = dataclasses.replace(test, class_names=('1', '0'))
  with pytest.raises(ValueError, match='label 0 is 1 in .* test and 0 in'):
    _job(source._replace(test=swapped))
  with pytest.raises(ValueError, match='label 2, and arrays train has only 0'):
    _job(_source([0, 1] * 50, [2]))
  said = _said(_source([0, 1, 0], [2, 0], ('a', 'b', 'c')))
  assert 'arrays test has images of c, arrays train has none' in said


def test_evaluation_that_cannot_be_is_said_at_the_start():
  source = _source([0, 1, -1, -1] * 20 + [2] * 4, [0, 1])
  notes = _job(
    source, **{'evaluation.knn_k': 100, 'evaluation.labels_per_class': 10}
  ).notes
  assert any('knn_k is 100, and only 44 training images' in n for n in notes)
  assert any('class 2 has 4 training images' in n for n in notes)
  notes = _job(
    source, **{'evaluation.knn_k': 44, 'evaluation.labels_per_class': 4}
  ).notes
  assert not any('evaluation.' in note for note in notes)


def test_a_protocol_that_will_fail_is_known_before_any_feature():
  source = _source([0, 0, 0, 1], [0, 1])
  few = labels.lacking(source, 'linear_few', 5)
  assert few == (
    'linear_few needs 5 training images of every class, and arrays train has 1 '
    'of 1 (evaluation.labels_per_class)'
  )
  assert 'linear_lbfgs needs 2' in labels.lacking(source, 'linear_lbfgs', 5)
  assert labels.lacking(source, 'knn', 5) == ''
  assert labels.lacking(source, 'linear_few', 1) == ''


def test_a_run_with_labels_here_and_there_is_measured_on_those(tmp_path):
  """From training to the evaluation, which once failed after hours."""
  digits = sources.load('digits')
  images, given = digits.train.reader.images, digits.train.labels.copy()
  given[::2] = -1
  test_labels = digits.test.labels.copy()
  test_labels[:100] = -1
  source = split_lib.source_from_arrays(
    images,
    given,
    test_images=digits.test.reader.images,
    test_labels=test_labels,
  )
  config = tiny.config_of('supervised_small')
  config.steps = 2
  config.evaluation.baselines = False
  summary = train.pretrain(config, tmp_path, source)
  assert summary['test_images'] == 259
  assert 0 <= summary['knn_accuracy'] <= 1
  assert 0 <= summary['linear_accuracy'] <= 1


def test_protocols_leave_out_what_has_no_label():
  job = _job(_source([0, 1, -1] * 30, [0, 1, -1]))
  rows = evaluation._rows(job, None, (job.source.train, job.source.test))
  assert [len(part) for part in rows[0]] == [60] * 3
  assert [len(part) for part in rows[1]] == [2] * 3

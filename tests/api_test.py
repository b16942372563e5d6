"""What `import contrastive_jax as cj` offers, on images in memory."""

import json

import numpy as np
import pytest
import sklearn.datasets

import contrastive_jax as cj
from contrastive_jax.config import Error
from tests import tiny


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """Digits as arrays, trained on with a config that says another source."""
  digits = sklearn.datasets.load_digits()
  images = (digits.images * 15.9).astype(np.uint8)[:600, ..., None]
  source = cj.from_arrays(images, digits.target[:600], name='some digits')
  config = tiny.get_config()  # says 'digits', which is not what is given
  workdir = tmp_path_factory.mktemp('arrays') / 'run'
  reports = []
  summary = cj.pretrain(
    config, workdir, source=source, on_report=reports.append
  )
  return images, source, workdir, summary, reports


def test_a_run_on_arrays_is_evaluated_and_reported(trained):
  _, _, workdir, summary, reports = trained
  assert [report['step'] for report in reports] == [2, 4]
  assert 0 <= summary['knn_accuracy'] <= 1
  config = json.loads((workdir / 'config.json').read_text())
  assert config['data']['source'] == 'some digits'
  assert config['run']['num_examples'] == 480  # a fifth of 600 is held out


def test_its_encoder_maps_images_to_features(trained):
  images, source, workdir, *_ = trained
  features = cj.load_encoder(workdir, source=source)(images[:5])
  assert features.shape == (5, 16)
  assert np.isfinite(features).all()


def test_it_is_evaluated_on_the_arrays(trained):
  _, source, workdir, summary, _ = trained
  found = cj.evaluate(workdir, ['knn'], source=source, say=lambda _: None)
  ours = [r for r in found['results'] if r['protocol'] == 'knn']
  assert {r['examples'] for r in ours} == {120}
  assert summary['test_images'] == 120


def test_without_the_arrays_nothing_else_is_measured(trained):
  *_, workdir, _, _ = trained
  with pytest.raises(Error, match="'some digits'.*from Python"):
    cj.evaluate(workdir, ['knn'])

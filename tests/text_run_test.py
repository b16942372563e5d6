"""A run of text, as a user has it: continued, looked at, taken away."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest

from contrastive_jax.config import Error
from contrastive_jax.evaluation import embed, encoder, predict, tables
from contrastive_jax.evaluation.run import evaluate
from contrastive_jax.reporting import document, neighbors, sheet
from contrastive_jax.train import pretrain
from contrastive_jax.training import build
from contrastive_jax.weights import export
from experiments import small_configs
from experiments.data import sentences
from tests import tiny

TEXTS = [row[0] for row in sentences.rows()[:5]]


def config_of(steps=4, **more):
  config = tiny.shrink(small_configs.load('simcse'))
  config.steps = steps
  config.evaluation.baselines = False
  config.update_from_flattened_dict(more)
  return config


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('text') / 'run'
  pretrain(config_of(), folder)
  return folder


def leaves(workdir):
  _, state = encoder.load(workdir)
  state = state.replace(rng=jax.random.key_data(state.rng))
  return jax.tree.leaves(jax.device_get(state))


def test_continued_is_uninterrupted(workdir, tmp_path):
  """To the bit, with dropout; and by the tokenizer that the run began with."""
  folder = tmp_path / 'run'
  shutil.copytree(workdir, folder)
  shutil.rmtree(folder / 'checkpoints' / '4')
  kept = (folder / 'tokenizer.json').read_text()
  pretrain(config_of(), folder)
  assert (folder / 'tokenizer.json').read_text() == kept
  for one, other in zip(leaves(folder), leaves(workdir), strict=True):
    np.testing.assert_array_equal(one, other)


def test_another_tokenizer_is_refused(workdir, tmp_path):
  folder = tmp_path / 'run'
  shutil.copytree(workdir, folder)
  path = folder / 'tokenizer.json'
  fields = json.loads(path.read_text())
  a, b, *rest = fields['model']['merges']
  fields['model']['merges'] = [b, a, *rest]
  path.write_text(json.dumps(fields))
  with pytest.raises(Error, match='holds a run with tokenizer|run.tokenizer'):
    pretrain(config_of(6), folder)
  path.write_text('{')
  with pytest.raises(Error, match='is no tokenizer.json'):
    pretrain(config_of(6), folder)


def test_sentences_to_vectors(workdir, tmp_path):
  encode = encoder.load_encoder(workdir)
  found = encode(TEXTS)
  assert found.shape == (5, 32) and found.dtype == np.float32
  # Whatever else is asked for beside it.
  many = encode(TEXTS * 80)
  np.testing.assert_allclose(many[:5], found, atol=1e-5)
  np.testing.assert_allclose(many[-5:], found, atol=1e-5)
  with pytest.raises(Error, match='a sequence of texts'):
    encode('a text alone')
  # What contrastive_jax.embed does gives the same.
  given = embed.opened(workdir)
  frozen = encoder.frozen(given.job)(given.state)
  every = embed.compute(given, frozen, tmp_path / 'part', {'layer': 'encoder'})
  names = every.names(every.numbers)
  rows = dict(zip(names, every.vectors, strict=True))
  columns = {row[0]: '\t'.join(row[:3]) for row in sentences.rows()}
  for text, vector in zip(TEXTS, found, strict=True):
    np.testing.assert_allclose(rows[columns[text]], vector, atol=1e-5)
  path = tmp_path / 'neighbors.html'
  neighbors.write(every, given.job, 2, path)
  page = path.read_text()
  assert page.count('class="sentence"') == 30 * 3
  assert '30 of 320 sentences' in page


def test_the_report_shows_sentences(workdir, tmp_path):
  path, gaps = document.write([workdir], tmp_path / 'report.html')
  page = path.read_text()
  assert not gaps
  assert page.count('class="sentence"') == 8 * 8
  assert '65 sentences of' in page
  assert 'trained a _text_micro on' in page
  assert '255 sentences of at most 32 tokens' in page


def test_recall_is_compared(workdir, tmp_path):
  """Of several runs, each less the best on the same sentences."""
  other = tmp_path / 'other'
  shutil.copytree(workdir, other)
  for folder in (workdir, other):
    evaluate(folder, ['retrieval'])
  path, _ = document.write([workdir, other], tmp_path / 'report.html')
  page = path.read_text()
  assert page.count('retrieval, recall@1, text to pair') == 2


def test_vectors_stand_beside_their_sentences(workdir, tmp_path):
  given = embed.opened(workdir)
  found = embed.compute(
    given,
    encoder.frozen(given.job)(given.state),
    tmp_path / 'part',
    {'layer': 'encoder'},
  )
  tables.write(found, tmp_path / 'out.npz')
  with np.load(tmp_path / 'out.npz') as table:
    texts = table['texts']
    ours = encoder.load_encoder(workdir)(list(texts[:5]))
    np.testing.assert_allclose(table['vectors'][:5], ours, atol=1e-5)
  assert sorted(texts) == sorted(row[0] for row in sentences.rows())


def test_the_head_ends_in_its_tanh(workdir):
  """As the loss has it: the paper's pooler."""
  job, state = encoder.load(workdir)
  frozen = encoder.frozen(job, 'projector')(state)
  features = encoder.load_encoder(workdir)(TEXTS)
  (layer,) = state.params['projector'].values()
  wanted = np.tanh(features @ layer['kernel'] + layer['bias'])
  found = encoder.encode_texts(job, frozen, TEXTS)
  np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'encoder.causal': True, 'encoder.pool': 'token'}, 'set pool=last'),
    ({'encoder.drop_path': 0.1}, 'has none: it has dropout'),
  ],
)
def test_fields_that_would_do_nothing(changes, said):
  with pytest.raises(Error, match=said):
    build.build(config_of(**changes))


def test_the_preview():
  views = sheet.sheet(build.build(config_of(**{'text.views': 'negatives'})))
  assert sheet.notes(views) == []
  known = {row[0]: row[:3] for row in sentences.rows()}
  for text, *row in zip(views.images, *views.views, strict=True):
    assert tuple(row) == known[text]
  figure = sheet.draw(views, 5)
  assert len(figure.texts) == 5 * 4 + 4 + 1


@pytest.mark.parametrize('to', ['safetensors', 'npz', 'stablehlo'])
def test_taken_away(workdir, tmp_path, to):
  found = export.export(workdir, to, output=tmp_path / to)
  assert found.certificate['largest_relative'] < 1e-5
  assert (tmp_path / to / 'tokenizer.json').is_file()
  sidecar = json.loads((tmp_path / to / 'encoder.json').read_text())
  assert sidecar['input']['max_length'] == 32
  # Whatever the longest of these sentences is.
  with np.load(tmp_path / to / 'reference.npz') as reference:
    assert reference['tokens'].shape[1] == 32
  if to == 'stablehlo':
    function = jax.export.deserialize(
      bytearray((tmp_path / to / 'encoder.stablehlo').read_bytes())
    )
    job, _ = encoder.load(workdir)
    rows = job.modality.of_texts(['a word ' * 40, *TEXTS])
    ours = encoder.load_encoder(workdir)(['a word ' * 40, *TEXTS])
    np.testing.assert_allclose(function.call(rows), ours, atol=1e-5)


def test_what_bert_is_not(workdir, tmp_path):
  with pytest.raises(Error, match='bert has no encoder that is _text_micro'):
    export.export(workdir, 'bert', output=tmp_path / 'bert')


def test_a_run_that_starts_from_another(workdir, tmp_path):
  init = {
    'encoder.init': f'run:{workdir}',
    'text.tokenizer': str(workdir / 'tokenizer.json'),
  }
  pretrain(config_of(1, **init), tmp_path / 'run')
  start = json.loads((tmp_path / 'run' / 'start.json').read_text())
  ours = encoder.load(workdir)
  knn = json.loads((workdir / 'summary.json').read_text())['knn_accuracy']
  assert ours and abs(start['online_knn'] - knn) < 0.02


def test_classes_of_sentences(workdir, tmp_path):
  path = tmp_path / 'classes.csv'
  found = predict.predict(
    workdir, path, images=small_configs.text_source(), say=str
  )
  with open(path, newline='') as file:
    rows = list(csv.DictReader(file))
  assert found.images == len(rows) == len(sentences.rows())
  assert {row['text'] for row in rows} == {row[0] for row in sentences.rows()}

"""Sentences: from a file to padded numbers, in one order whoever asks."""

import csv
import itertools
import json
import sys

import jax
import numpy as np
import pytest
import tokenizers

from contrastive_jax.config import Error
from contrastive_jax.data import modalities, order, sources, tokenize
from contrastive_jax.training import build, step
from experiments import small_configs
from experiments.data import sentences
from tests import tiny

ROWS = sentences.rows()


def config_of(source=None, **more):
  config = tiny.shrink(small_configs.load('simcse', source))
  config.update_from_flattened_dict(more)
  return config


def modality_of(source=None, folder=None, **more):
  config = config_of(source, **more)
  source = sources.load(config.data.source)
  return modalities.make(config, source, folder), source


def batches_of(modality, split, **options):
  options = dict(batch_size=64, seed=3, start_step=0) | options
  return modality.train_batches(split, **options)


def test_a_line_is_a_sentence(tmp_path):
  path = tmp_path / 'some.txt'
  path.write_text('\ufeffone\n\n two words \r\nZwölf Boxkämpfer\n', 'utf-8')
  source = sources.load(f'text:{path}')
  assert source.train.reader.text == ('one', 'two words', 'Zwölf Boxkämpfer')
  assert source.test is None and source.train.num_classes is None
  assert source.train.describe(1) == 'two words'


def test_columns_of_a_table():
  source = sources.load(small_configs.text_source())
  assert source.modality == 'text'
  assert source.train.size + source.test.size == len(ROWS)
  # A fifth of every class.
  assert np.all(np.bincount(source.test.labels) == round(len(ROWS) / 25))
  found = dict(zip(source.train.reader.text, source.train.labels, strict=True))
  for text, _, _, who in ROWS:
    if text in found:
      assert source.train.class_names[found[text]] == who
  pairs = {text: (pair, negative) for text, pair, negative, _ in ROWS}
  reader = source.test.reader
  for row in zip(reader.text, reader.pair, reader.negative, strict=True):
    assert pairs[row[0]] == row[1:]


@pytest.mark.parametrize(
  ('text', 'said'),
  [
    ('text,label\n,a\nb,b\n', '1 of 2 rows have no text'),
    ('text,negative\na,b\nb,c\n', 'a column negative, and none named pair'),
    ('text\na\n', '1 sentences: at least 2'),
    ('text,pair,negative\na,b,c\nd,e,\n', '1 of 2 rows have no negative'),
    ('words\na\nb\n', 'one is named path, of images, or text'),
    ('text,split\na,test\nb,test\n', 'no rows to train on'),
    (
      'text,label,split\na,x,train\nb,y,train\nc,z,test\n',
      r'the class z, which training has not \(1 rows of 1 such',
    ),
  ],
)
def test_a_table_that_is_none_of_texts(tmp_path, text, said):
  path = tmp_path / 'a.csv'
  path.write_text(text)
  with pytest.raises(Error, match=said):
    sources.load(f'csv:{path}')


def test_bytes_that_are_no_text(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_bytes(b'one\n\xff\xfe\n')
  with pytest.raises(Error, match='cannot be read as UTF-8'):
    sources.load(f'text:{path}')


def test_a_fitted_tokenizer_writes_every_text():
  text = tokenize.fit([row[0] for row in ROWS], 400)
  made = tokenizers.Tokenizer.from_str(text)
  for sentence in ('The old sailor walks.', 'ein Bär 🐻 und 漢字', '\t\x00'):
    decoded = made.decode(made.encode(sentence).ids)
    assert decoded.strip() == f' {sentence}'.strip()
  tokens = tokenize.tokenized(text, ['', 'The old sailor walks.'], 32)
  assert tokens.lengths(np.arange(2))[0] == 2  # where it begins and ends
  assert list(tokens.rows(np.array([0]), 4)['tokens'][0]) == [1, 2, 0, 0]
  # The same for whoever fits it: the processes of a job, a run continued.
  tokenize._fitted.cache_clear()
  assert tokenize.fit([row[0] for row in ROWS], 400) == text


def test_what_is_too_long_is_cut_and_said():
  modality, source = modality_of(**{'text.max_length': 8})
  batch = next(batches_of(modality, source.train))
  for view in batch['views']:
    assert view['tokens'].shape == (64, 8)
    assert np.all(view['tokens'][:, 0] == 1)
    assert np.all(view['tokens'][np.arange(64), view['length'] - 1] == 2)
  assert any('have 8 or are cut there' in note for note in modality.notes)


@pytest.mark.parametrize('views', ['same', 'pairs', 'negatives'])
def test_views_are_the_columns(views):
  modality, source = modality_of(**{'text.views': views})
  batch = next(batches_of(modality, source.train))
  made = tokenizers.Tokenizer.from_str(modality.files['tokenizer.json'])
  reader = source.train.reader
  columns = {
    'same': [reader.text] * 2,
    'pairs': [reader.text, reader.pair],
    'negatives': [reader.text, reader.pair, reader.negative],
  }[views]
  assert modality.global_views == len(columns) == len(batch['views'])
  for view, column in zip(batch['views'], columns, strict=True):
    for tokens, length, i in zip(
      view['tokens'], view['length'], batch['id'], strict=True
    ):
      assert made.decode(list(tokens[:length])).strip() == column[i]


def test_who_has_no_pair_is_its_own(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('text,pair\nred,crimson\nblue,\n')
  source = sources.load(f'csv:{path}')
  assert source.train.reader.columns('pairs')[1] == ('crimson', 'blue')
  modality, _ = modality_of(f'csv:{path}', **{'text.views': 'all'})
  assert any('1 of 2 sentences have no pair' in n for n in modality.notes)


def test_the_order_is_one_for_all_processes_and_after_a_resume():
  modality, source = modality_of()
  alone = list(itertools.islice(batches_of(modality, source.train), 9))
  # 3 steps an epoch: every sentence once at most, in another order.
  first, second = (
    np.concatenate([b['id'] for b in alone[i : i + 3]]) for i in (0, 3)
  )
  assert len(np.unique(first)) == len(first) == 192
  assert not np.array_equal(first, second)
  later = next(batches_of(modality, source.train, start_step=8))
  parts = [
    next(
      batches_of(
        modality,
        source.train,
        start_step=8,
        process_index=i,
        process_count=4,
      )
    )
    for i in range(4)
  ]
  together = jax.tree.map(lambda *x: np.concatenate(x), *parts)
  for found in (later, together):
    jax.tree.map(np.testing.assert_array_equal, found, alone[8])


def test_the_order_is_that_of_images():
  """One rule: what is known of one data set is known of all."""
  modality, source = modality_of()
  found = next(batches_of(modality, source.train))
  plan = order.Order(64, 3, 0, 64, 3, 0)
  assert np.array_equal(
    found['id'], next(order.batches(source.train.size, plan))[1]
  )


def test_few_lengths_and_so_few_compilations(tmp_path):
  """Sentences of 1 to 60 words: a step is compiled for four lengths."""
  rng = np.random.default_rng(0)
  path = tmp_path / 'a.txt'
  lines = [' '.join(['word'] * n) for n in rng.integers(1, 61, 40)]
  lines += ['word'] * 600
  rng.shuffle(lines)
  path.write_text('\n'.join(lines))
  config = config_of(f'text:{path}', **{'text.max_length': 64})
  config.batch_size = 8
  job = build.build(config, step.make_mesh(jax.devices()[:1]))
  train_step = build.global_step(job, donate=False)
  state, batches = build.init_state(job), build.train_batches(job, 0)
  lengths = set()
  for _ in range(60):
    batch = next(batches)
    lengths.add(batch['views'][0]['tokens'].shape[1])
    (state, _), _ = train_step(state, step.shard(batch, job.mesh))
  assert lengths == {8, 16, 32, 64}
  assert train_step._cache_size() == 4


def test_pairs_with_a_score_need_not_mean_the_same(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text(
    'text,pair,score,split\na,b,,train\nc,d,0.5,train\ne,f,,test\ng,h,,val\n'
  )
  source = sources.load(f'csv:{path}')
  assert 'val (1 sentences) is not used' in source.notes
  np.testing.assert_array_equal(source.train.reader.score, [np.nan, 0.5])
  config = config_of(f'csv:{path}', **{'text.views': 'all'})
  made = modalities.make(config, source)
  assert config.text.views == 'same'
  assert '1 pairs have a score and are not trained on as such' in made.notes
  made = modalities.make(
    config_of(f'csv:{path}', **{'text.views': 'pairs'}), source
  )
  assert '1 pairs have a score: they are taken to mean the same' in made.notes


def test_the_tokenizer_is_the_runs_own(tmp_path):
  """What a folder keeps is used, whatever the data would give now.

  Unless no checkpoint was ever made with it: the run never was.
  """
  made, _ = modality_of()
  (tmp_path / 'tokenizer.json').write_text(made.files['tokenizer.json'])
  other = tmp_path / 'other.csv'
  with open(other, 'w') as file:
    csv.writer(file).writerows([['text'], ['something'], ['else']])
  fitted, _ = modality_of(f'csv:{other}')
  anew, _ = modality_of(f'csv:{other}', tmp_path)
  (tmp_path / 'checkpoints' / '2').mkdir(parents=True)
  kept, _ = modality_of(f'csv:{other}', tmp_path)
  assert fitted.files != made.files
  assert anew.files == fitted.files
  assert kept.files == made.files


def test_a_tokenizer_that_exists(tmp_path):
  path = tmp_path / 'words.json'
  vocabulary = {'[PAD]': 3, 'the': 0, 'old': 1, '[UNK]': 2}
  library = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocabulary, unk_token='[UNK]')
  )
  library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  library.save(str(path))
  modality, source = modality_of(**{'text.tokenizer': str(path)})
  batch = next(batches_of(modality, source.train))
  assert modality.vocabulary == 4
  assert np.all(batch['views'][0]['tokens'] < 4)
  assert np.any(batch['views'][0]['tokens'] == 2)
  path.write_text(json.dumps({'model': 1}))
  with pytest.raises(Error, match='is no tokenizer.json'):
    modality_of(**{'text.tokenizer': str(path)})
  with pytest.raises(Error, match='there is no tokenizer'):
    modality_of(**{'text.tokenizer': str(tmp_path / 'none.json')})


def test_every_sentence_is_evaluated_once():
  modality, source = modality_of()
  batches = list(modality.eval_batches(source.test, batch_size=48))
  ids = np.concatenate([b['id'][b['mask']] for b in batches])
  assert np.array_equal(ids, np.arange(source.test.size))
  assert all(len(b['label']) == 48 for b in batches)


def test_without_the_library(monkeypatch):
  monkeypatch.setitem(sys.modules, 'tokenizers', None)
  tokenize._fitted.cache_clear()
  with pytest.raises(Error, match=r"pip install 'contrastive_jax\[text\]'"):
    modality_of()

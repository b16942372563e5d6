"""A run of images with texts: retrieval both ways, and classes by names."""

import dataclasses
import io
import json

import jax
import numpy as np
import pytest

from contrastive_jax import embed
from contrastive_jax.commands import command_line
from contrastive_jax.config import Error
from contrastive_jax.evaluation import embed as embed_lib
from contrastive_jax.evaluation import (
  encoder,
  features,
  pairs,
  zero_shot,
)
from contrastive_jax.evaluation.run import evaluate
from contrastive_jax.reporting import document, embeddings, folder, neighbors
from contrastive_jax.reporting import sheet as sheets
from contrastive_jax.train import pretrain
from contrastive_jax.training import build
from contrastive_jax.weights import export, start, towers
from experiments import small_configs
from tests import tiny
from tests.evaluation import run_helpers


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('pairs') / 'run'
  config = tiny.shrink(small_configs.load('clip'))
  config.steps, config.optimizer.base_learning_rate = 160, 0.012
  config.log.every_steps = 80
  pretrain(config, folder)
  return folder


def test_names_are_enough(workdir):
  protocols = ['zero_shot', 'spearman', 'retrieval']
  found = evaluate(workdir, protocols, baselines=True)
  # What these data are not fit for takes nothing else with it.
  (sentence,) = found['failed']
  assert sentence.startswith('spearman needs text with the columns pair and')
  rows = {
    (r['protocol'], r['representation'], r['metric']): r
    for r in found['results']
  }
  trained = rows['zero_shot', 'trained encoder', 'accuracy']
  # Ten classes, 32 images; 53 % was seen.
  assert trained['low'] > 0.2
  names = {name for _, name, _ in rows}
  assert names == {'trained encoder', 'untrained encoder'}
  metrics = {m for p, _, m in rows if p == 'retrieval'}
  assert metrics == {
    f'recall@{k}, {way}'
    for k in (1, 5, 10)
    for way in ('image to text', 'text to image')
  }


def test_by_an_oracle(workdir):
  """One class and one image at a time."""
  prompts = ['a {}', 'the number {}']
  job, state = encoder.load(workdir)
  found = zero_shot.measure(job, state, job.source, prompts, 'trained encoder')
  split = job.source.test
  frozen = {
    name: encoder.frozen(job, name)(state)
    for name in ('projector', 'text_projector')
  }

  def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x)

  classes = [
    unit(
      np.mean(
        [
          unit(
            encoder.encode_texts(
              job, frozen['text_projector'], [prompt.format(name)]
            )[0]
          )
          for prompt in prompts
        ],
        axis=0,
      )
    )
    for name in split.class_names
  ]
  images, labels, _ = encoder.encode(job, frozen['projector'], split)
  right = [
    max(range(10), key=lambda c: unit(z) @ classes[c]) == label
    for z, label in zip(images, labels, strict=True)
  ]
  assert found['value'] == pytest.approx(np.mean(right))


def test_a_prompt_without_a_place(workdir):
  found = evaluate(workdir, ['zero_shot'], prompts=['a digit'])
  assert "the prompt 'a digit' has no {} for" in found['failed'][0]


def test_other_prompts_are_another_result(workdir):
  for prompts in (['a {}'], ['{}, {curly}']):
    found = evaluate(workdir, ['zero_shot'], prompts=prompts)
    assert not found['failed']
  settings = [
    r['setting'] for r in found['results'] if r['protocol'] == 'zero_shot'
  ]
  assert "1 prompts a class, as 'a {}'" in settings
  assert "1 prompts a class, as '{}, {curly}'" in settings


def test_an_image_without_a_text_is_not_asked_for(workdir):
  job, state = encoder.load(workdir)
  test = job.source.test
  captions = tuple(c if i % 2 else '' for i, c in enumerate(test.captions))

  def measured(captions):
    split = dataclasses.replace(test, captions=captions)
    source = job.source._replace(test=split)
    fitting = pairs.fitting(job, [source], 'retrieval')
    return pairs.measure(job, state, *fitting, 'retrieval', 'trained encoder')

  found = measured(captions)
  assert {r['examples'] for r in found} <= {
    test.size // 2,
    len(set(captions) - {''}),
  }
  with pytest.raises(Error, match='there are none'):
    measured(('',) * test.size)


def test_the_tower_of_images_is_fine_tuned(workdir, monkeypatch):
  run_helpers.check_fine_tuning(workdir, monkeypatch)


def test_a_run_without_texts(tmp_path):
  config = tiny.config()
  config.steps = 2
  config.evaluation.baselines = False
  pretrain(config, tmp_path / 'run')
  with pytest.raises(Error, match='zero_shot needs a tower of text'):
    evaluate(tmp_path / 'run', ['zero_shot'])


def test_a_locked_tower_stays_as_it_is(workdir, tmp_path):
  """LiT: whatever encoder.init has put there, to the bit, and no optimizer."""
  config = tiny.shrink(small_configs.load('clip'))
  config.steps = 3
  config.evaluation.baselines = False
  config.objective.lock_image = True
  config.encoder.init = f'run:{workdir}'
  config.text.tokenizer = str(workdir / 'tokenizer.json')
  pretrain(config, tmp_path / 'run')
  (_, before), (_, after) = (
    encoder.load(workdir),
    encoder.load(tmp_path / 'run'),
  )
  assert 'encoder' not in after.params
  jax.tree.map(
    np.testing.assert_array_equal,
    after.model_state['locked']['encoder'],
    before.params['encoder'],
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    after.model_state['batch_stats']['encoder'],
    before.model_state['batch_stats']['encoder'],
  )
  summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
  base = json.loads((workdir / 'summary.json').read_text())
  assert summary['knn_accuracy'] == base['knn_accuracy']


def test_a_tower_of_text_comes_in_and_goes_out(workdir, tmp_path):
  job, state = encoder.load(workdir)
  trained = towers.arrays_of(job, state, 'text_encoder')
  done = export.export(
    workdir, 'npz', layer='text_encoder', output=tmp_path / 'text'
  )
  assert done.certificate['largest_relative'] < 1e-5
  assert done.certificate['parameters'] == sum(a.size for a in trained.values())
  sidecar = json.loads((tmp_path / 'text' / 'encoder.json').read_text())
  assert sidecar['input']['max_length'] == job.config.text.max_length
  config = tiny.shrink(small_configs.load('clip'))
  config.text.tokenizer = str(workdir / 'tokenizer.json')
  for init in (f'run:{workdir}', str(tmp_path / 'text' / 'encoder.npz')):
    config.text_encoder.init = init
    other = build.build(config)
    fresh = build.init_state(other)
    begun, notes = start.with_weights(other, fresh)
    assert notes[0].startswith('text encoder from')
    found = towers.arrays_of(other, begun, 'text_encoder')
    for name, array in trained.items():
      np.testing.assert_array_equal(found[name], array)
    # The images' tower is where it was.
    jax.tree.map(
      np.testing.assert_array_equal,
      begun.params['encoder'],
      fresh.params['encoder'],
    )

  def refused(**fields):
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(fields)
    other = build.build(changed)
    with pytest.raises(Error) as error:
      start.with_weights(other, build.init_state(other))
    return str(error.value)

  assert 'does not fit bert_tiny' in refused(
    **{'text_encoder.name': 'bert_tiny'}
  )
  for init, there in (
    (f'run:{workdir}', workdir),
    (str(tmp_path / 'text' / 'encoder.npz'), tmp_path / 'text'),
  ):
    ours = {'text_encoder.init': init}
    other = refused(**ours, **{'text.vocabulary': 300, 'text.tokenizer': ''})
    assert f'set text.tokenizer={there}/tokenizer.json' in other
    other = refused(**ours, **{'text_encoder.causal': False})
    assert 'was trained with causal=True' in other
  longer = job.config.text.max_length + 1
  assert 'set text.max_length' in refused(**{'text.max_length': longer})


def test_the_ways_into_the_common_space_go_out(workdir, tmp_path):
  """As functions: a search elsewhere needs the heads as well."""
  job, state = encoder.load(workdir)
  for layer, texts in (('projector', False), ('text_projector', True)):
    done = export.export(
      workdir, 'stablehlo', layer=layer, output=tmp_path / layer
    )
    assert done.certificate['largest_relative'] < 1e-5
    function = jax.export.deserialize(
      bytearray((tmp_path / layer / 'encoder.stablehlo').read_bytes())
    )
    own = towers.before(job, layer)
    vectors = encoder.encode(
      job,
      encoder.frozen(job, layer)(state),
      job.source.test,
      limit=5,
      texts=texts,
    )[0]
    found = np.asarray(function.call(towers.inputs(job, own, 5)))
    np.testing.assert_allclose(found, vectors, rtol=1e-4, atol=1e-5)
  with pytest.raises(Error, match='npz takes an encoder alone'):
    export.export(workdir, 'npz', layer='text_projector')
  with pytest.raises(Error, match='has no head; behind its encoder'):
    export.export(workdir, 'stablehlo', layer='head')


def test_both_towers_are_embedded_and_searched(workdir, tmp_path, monkeypatch):
  monkeypatch.setattr(command_line, 'set_up_cpu', lambda devices: None)
  tables = {}
  for layer in ('projector', 'text_projector'):
    output = tmp_path / f'{layer}.npz'
    embed.main(
      [
        'embed',
        f'--workdir={workdir}',
        '--split=test',
        f'--output={output}',
        f'--layer={layer}',
        '--search=the digit seven',
        '--search=the digit one',
        '--neighbors=3',
      ]
    )
    tables[layer] = np.load(output)['vectors']
  job, state = encoder.load(workdir)
  split = job.source.test
  texts = encoder.encode_texts(
    job, encoder.frozen(job, 'text_projector')(state), split.captions
  )
  np.testing.assert_allclose(tables['text_projector'], texts, atol=1e-5)
  found = (tmp_path / 'projector.search.html').read_text()
  assert found.count('<tr>') == 2 and found.count('<img') == 6
  # Of texts it is texts that are found and shown: the asked one before all.
  found = (tmp_path / 'text_projector.neighbors.html').read_text()
  assert '<img' not in found and found.count('class="sentence"') > 90


def test_no_common_space_no_search(workdir):
  given = embed_lib.opened(workdir, say=str)
  with pytest.raises(Error, match='no common space with encoder: --layer=pro'):
    embed_lib.of_texts(given, 'encoder', ['one'])


def test_the_report_finds_images_by_text(workdir, tmp_path):
  seen = embeddings.load(folder.read(workdir)).embeddings
  rows, nearest, _ = embeddings.found_by_text(seen)
  images, texts = seen.common
  job, state = encoder.load(workdir)
  text_encoder = encoder.frozen(job, 'text_projector')(state)
  for row, text, found in zip(rows, texts, nearest, strict=True):
    asked = encoder.encode_texts(job, text_encoder, [seen.captions[row]])
    np.testing.assert_allclose(text, features.unit(asked)[0], atol=1e-5)
    by_hand = np.argsort(-(images @ text), kind='stable')[:7]
    np.testing.assert_array_equal(found, by_hand)
  output = tmp_path / 'report.html'
  document.write([workdir], output)
  assert 'Images by their texts' in output.read_text()


def test_an_image_is_found_once(workdir, tmp_path):
  """However many texts it has, which are rows of their own."""
  job, state = encoder.load(workdir)
  test = job.source.test
  paths = tuple(test.paths[i // 5] for i in range(test.size))
  split = dataclasses.replace(test, paths=paths)
  given = embed_lib.opened(workdir, say=str)
  given = given._replace(splits={'test': split})
  found = embed_lib.compute(
    given,
    encoder.frozen(job, 'projector')(state),
    tmp_path / 'part',
    {'layer': 'projector'},
  )
  vectors = embed_lib.of_texts(given, 'projector', ['seven', '$ and $#'])
  hits = neighbors.search(
    found, job, ['seven', '$ and $#'], vectors, 4, tmp_path / 'a.html'
  )
  assert [len(set(names)) for names in hits] == [4, 4]


def test_what_has_no_text_is_not_embedded_as_one(workdir, tmp_path):
  given = embed_lib.opened(workdir, split='test', say=str)
  test = given.splits['test']
  without = dataclasses.replace(test, captions=('', *test.captions[1:]))
  given = given._replace(splits={'test': without})
  encode = encoder.frozen(given.job, 'text_projector')(given.state)
  with pytest.raises(Error, match=r'1 of 32 of .* have no text'):
    embed_lib.compute(given, encode, tmp_path / 'a', {}, texts=True)


def test_a_sheet_has_pictures_and_texts(workdir):
  job, _ = encoder.load(workdir)
  views = sheets.sheet(job)
  captions = job.source.train.captions
  assert set(views.views[1]) <= {text.strip() for text in captions}
  assert sheets.notes(views) == []
  figure = sheets.draw(views, 4)
  written = {text.get_text() for a in figure.axes for text in a.texts}
  assert written and written <= set(views.views[1])
  # A dollar is no formula.
  costs = ['price: $20 #1 and $30 %'] * len(views.images)
  priced = views._replace(views=(views.views[0], costs))
  sheets.draw(priced, 2).savefig(io.BytesIO())
  texts = sheets.Sheet(costs, (costs, costs), ('a', 'b'), ())
  sheets.draw(texts, 2).savefig(io.BytesIO())

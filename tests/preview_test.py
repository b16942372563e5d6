"""What the preview shows is what the step trains on."""

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from contrastive_jax import preview, recipes
from contrastive_jax.commands import command_line
from contrastive_jax.data import modalities
from contrastive_jax.reporting import sheet as sheets
from contrastive_jax.training import build, step
from contrastive_jax.training.state import TrainState
from tests import tiny

# ml_collections loads a config file as it did before Python 3.12.
_LOADING = 'ignore:the load_module.. method is deprecated:DeprecationWarning'


def _job(**augment):
  config = tiny.get_config()
  config.batch_size = 32
  config.augment.update(augment)
  return build.build(config)


def test_views_are_those_of_the_training_step():
  job = _job(local_crops=1, local_size=6, crop_scale=(0.2, 1.0))
  job.config.data.mean, job.config.data.std = (0.3,), (0.2,)

  def spy(params, model_state, batch, **_):
    return params['w'] * 0.0, (model_state, {}, batch['views'])

  modality = modalities.make(job.config, job.source)
  job = job._replace(modality=modality)
  gradient_fn = step.make_gradient_fn(
    job.objective._replace(loss=spy), modality
  )
  params = {'w': jnp.zeros(())}
  state = TrainState(
    jnp.zeros((), jnp.int32), params, {}, (), jax.random.key(0)
  )
  batch = build.first_batch(job)
  _, seen = step.mapped(gradient_fn, job.mesh)(state, batch)
  sheet = sheets.sheet(job)
  assert sheet.titles == ('view 1', 'view 2', 'local crop 1')
  for shown, fed in zip(sheet.views, seen, strict=True):
    fed = np.asarray(fed) * 0.2 + 0.3
    np.testing.assert_allclose(shown[: len(fed)], fed, atol=0.5 / 255)
  source = job.source.train.reader.images[batch['id']]
  np.testing.assert_array_equal(np.stack(sheet.images[: len(source)]), source)


def _sheet(*views: np.ndarray) -> sheets.Sheet:
  titles = ('view 1', 'view 2', 'local crop 1')
  return sheets.Sheet([np.zeros((4, 4, 3), np.uint8)] * 20, views, titles, ())


def test_notes_on_flat_and_on_equal_views():
  rng = np.random.default_rng(0)
  a, b, local = rng.uniform(size=(3, 20, 4, 4, 3))
  assert sheets.notes(_sheet(a, b, local)) == []
  # One color is nothing to see, though its channels differ.
  flat = local.copy()
  flat[:3] = [0.2, 0.5, 0.9]
  (note,) = sheets.notes(_sheet(a, b, flat))
  assert note.startswith('3 of 20 images are nearly constant in local crop 1')
  assert 'below 2 % of their range; of the images as they are, 20)' in note
  b[:3] = a[:3] + 0.01
  (note,) = sheets.notes(_sheet(a, b, local))
  assert note.startswith('view 1 and view 2 of 3 of 20 images are nearly the')
  b[2] = local[2]  # 2 of 20 are not many
  assert sheets.notes(_sheet(a, b, local)) == []


@pytest.mark.filterwarnings(_LOADING)
def test_the_command_draws_a_sheet(tmp_path, capsys):
  output = tmp_path / 'preview.png'
  # A whole image, seen twice, is nothing to learn from.
  arguments = (
    '--config.augment.crop_scale=(1.0,1.0)',
    '--config.augment.crop_ratio=(1.0,1.0)',
    '--config.augment.flip=0.0',
    '--config.augment.jitter=0.0',
    '--config.augment.blur=(0.0,0.0)',
    f'--output={output}',
  )
  preview.main(['preview', '--config=tests/tiny.py', *arguments, '--images=3'])
  printed = capsys.readouterr().out
  assert 'note: view 1 and view 2 of 64 of 64 images are nearly the' in printed
  assert '3 images in 2 views each' in printed
  with PIL.Image.open(output) as image:
    assert min(image.size) > 300
    assert np.asarray(image.convert('L')).std() > 20


@pytest.mark.filterwarnings(_LOADING)
def test_what_is_chosen_is_for_all_devices(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(command_line, 'set_up_cpu', lambda _: None)  # it is
  rng = np.random.default_rng(0)
  np.save(tmp_path / 'a.npy', rng.integers(0, 256, (70, 40, 40, 3), np.uint8))
  config = f'--config=my_images:arrays:{tmp_path / "a.npy"}'
  output = f'--output={tmp_path / "a.png"}'
  preview.main(['preview', config, '--config.minutes=2', output])
  printed = capsys.readouterr().out
  assert 'in 2 minutes on 8 cpu devices' in printed
  (line,) = [x for x in printed.splitlines() if x.startswith('data.image_size')]
  whole = recipes.get_config('my_images', f'arrays:{tmp_path / "a.npy"}')
  whole.minutes = 2.0
  assert line in build.build(whole).notes


@pytest.mark.filterwarnings(_LOADING)
@pytest.mark.parametrize(
  'arguments, sentence',
  [
    (('--config=tests/nix.py',), 'there is no config file tests/nix.py'),
    (
      ('--config=tests/tiny.py', '--config.objektive.temperature=1'),
      "unknown config key 'objektive",
    ),
    (('--config=tests/tiny.py', '--imagse=3'), 'imagse'),
    (('--config=tests/tiny.py', '--images=65'), 'it must be from 1 to 64'),
    (('--config=tests/tiny.py:folder:/nix',), 'there is no folder /nix'),
  ],
)
def test_what_is_wrong_is_one_sentence(arguments, sentence):
  with pytest.raises(SystemExit, match=sentence) as stopped:
    preview.main(['preview', *arguments])
  assert str(stopped.value).startswith('error: ')
  assert '\n' not in str(stopped.value)

"""Every public loss has an example that runs and refuses what does not fit."""

import doctest
import functools
import importlib
import inspect
import math
import pathlib
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses

FOLDER = pathlib.Path(losses.__file__).parent
MODULES = sorted(p.stem for p in FOLDER.glob('*.py') if p.stem != '__init__')

# One array and no temperature: nothing that could not fit.
NOT_LOSSES = {'l2_normalize'}
LOSSES = sorted(set(losses.__all__) - NOT_LOSSES)

# Parameters that divide; whatever has another name is not looked at.
POSITIVE = {
  'temperature',
  'teacher_temperature',
  'base_temperature',
  'epsilon',
  'weight_sigma',
  'noise_ratio',
}


def rows(*shape):
  return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


Z, SCORES, IDS = rows(8, 4), rows(8, 5), jnp.arange(8)
PAIR = {'z_a': Z, 'z_b': Z[::-1]}
PATCHES = rows(8, 3, 5)
PREDICTION = {'prediction': Z, 'target': Z[::-1]}
EQUAL, ROWS, COLUMNS = (
  f'{what} must be equal'
  for what in ('they', 'their sizes of axis b', 'their sizes of axis d')
)

# By loss: arguments that fit.
FITTING = {
  'barlow_twins': PAIR,
  'batch_info_nce': {'rows': Z, 'columns': Z[::-1], 'temperature': 0.1},
  'clip': PAIR | {'temperature': 0.1},
  'dcl': PAIR | {'temperature': 0.1, 'weight_sigma': 0.5},
  'dino': {
    'student': [SCORES] * 3,
    'teacher': [SCORES] * 2,
    'center': jnp.zeros(5),
    'temperature': 0.1,
    'teacher_temperature': 0.04,
  },
  'ibot': {
    'student': PATCHES,
    'targets': jax.nn.softmax(PATCHES),
    'masked': jnp.ones((8, 3), bool),
    'temperature': 0.1,
  },
  'instance_nce': {
    'z': Z,
    'ids': IDS,
    'noise': jnp.zeros((8, 3), jnp.int32),
    'bank': rows(20, 4),
    'log_z': jnp.array(0.0),
    'temperature': 0.1,
  },
  'instance_softmax': {
    'z': Z,
    'ids': IDS,
    'bank': rows(20, 4),
    'temperature': 0.1,
  },
  'lejepa': {'views': [Z, Z[::-1]], 'directions': jnp.eye(4)},
  'koleo': {'z': Z},
  'mae': {'predicted': PATCHES, 'targets': PATCHES[::-1]},
  'negative_cosine': PREDICTION,
  'noise_contrastive': {
    'log_model_data': rows(3),
    'log_noise_data': rows(3),
    'log_model_noise': rows(6),
    'log_noise_noise': rows(6),
    'noise_ratio': 2,
  },
  'normalize_patches': {'patches': PATCHES},
  'normalized_squared_error': PREDICTION,
  'nt_xent': PAIR | {'temperature': 0.1},
  'queue_info_nce': {
    'queries': Z,
    'keys': Z[::-1],
    'queue': rows(16, 4),
    'temperature': 0.1,
  },
  'sigreg': {'z': Z, 'directions': jnp.eye(4)},
  'siglip': PAIR | {'scale': 10.0, 'bias': -2.0},
  'simcse': PAIR | {'negatives': Z + 1, 'temperature': 0.1},
  'sinkhorn': {'scores': SCORES, 'queue_scores': rows(3, 5), 'epsilon': 0.05},
  'supcon': {
    'views': [Z, Z[::-1]],
    'labels': IDS // 2,
    'temperature': 0.1,
    'base_temperature': 0.1,
  },
  'swav': {
    'scores': [SCORES] * 3,
    'queue_scores': [rows(6, 5)] * 2,
    'temperature': 0.1,
    'epsilon': 0.05,
  },
  'update_center': {
    'center': jnp.zeros(5),
    'teacher': [SCORES] * 2,
    'momentum': 0.9,
  },
  'update_patch_center': {
    'center': jnp.zeros(5),
    'teacher': PATCHES,
    'masked': jnp.ones((8, 3), bool),
    'momentum': 0.9,
  },
  'vicreg': PAIR,
  'vicregl': {
    'embeddings': [Z, Z[::-1]],
    'maps': [PATCHES] * 2,
    'centers': [PATCHES[..., :2]] * 2,
  },
  'visreg': {'views': [Z, Z[::-1]], 'directions': jnp.eye(4)},
}

# By loss: what is put in the place of a fitting argument, and the sentence that
# follows the loss's name.
MISFITS = {
  **{
    name: [
      ({b: Z[:1]}, f'{a} has shape (8, 4) and {b} (1, 4); {EQUAL}'),
      ({b: rows(8, 3)}, f'{a} has shape (8, 4) and {b} (8, 3); {EQUAL}'),
      ({a: rows(8)}, f'{a} has shape (8,); it must be [b, d]'),
      ({b: rows(2, 8, 4)}, f'{b} has shape (2, 8, 4); it must be [b, d]'),
    ]
    for name, a, b in (
      ('barlow_twins', 'z_a', 'z_b'),
      ('batch_info_nce', 'rows', 'columns'),
      ('clip', 'z_a', 'z_b'),
      ('dcl', 'z_a', 'z_b'),
      ('negative_cosine', 'prediction', 'target'),
      ('normalized_squared_error', 'prediction', 'target'),
      ('nt_xent', 'z_a', 'z_b'),
      ('vicreg', 'z_a', 'z_b'),
    )
  },
  'dino': [
    ({'student': [SCORES]}, 'student has length 1; it must be at least 2'),
    ({'teacher': []}, 'teacher has length 0; it must be at least 1'),
    ({'teacher': [SCORES] * 4}, 'teacher has length 4; it must be at most 3'),
    (
      {'student': [SCORES, SCORES[:1]]},
      f'student[0] has shape (8, 5) and student[1] (1, 5); {EQUAL}',
    ),
    (
      {'teacher': [SCORES, SCORES[:1]]},
      f'student[0] has shape (8, 5) and teacher[1] (1, 5); {EQUAL}',
    ),
    (
      {'center': jnp.zeros(1)},
      'student[0] has shape (8, 5) and center (1,); '
      'their sizes of axis K must be equal',
    ),
  ],
  'instance_nce': [
    ({'ids': IDS[:1]}, f'z has shape (8, 4) and ids (1,); {ROWS}'),
    (
      {'noise': jnp.zeros((1, 3), jnp.int32)},
      f'z has shape (8, 4) and noise (1, 3); {ROWS}',
    ),
    ({'bank': rows(20, 3)}, f'z has shape (8, 4) and bank (20, 3); {COLUMNS}'),
    ({'log_z': jnp.zeros(8)}, 'log_z has shape (8,); it must be []'),
  ],
  'instance_softmax': [
    ({'ids': IDS[:1]}, f'z has shape (8, 4) and ids (1,); {ROWS}'),
    ({'bank': rows(20, 3)}, f'z has shape (8, 4) and bank (20, 3); {COLUMNS}'),
  ],
  **dict.fromkeys(
    ('lejepa', 'visreg'),
    [
      ({'views': [Z]}, 'views has length 1; it must be at least 2'),
      (
        {'views': [Z, Z[:1]]},
        f'views[0] has shape (8, 4) and views[1] (1, 4); {EQUAL}',
      ),
      (
        {'directions': jnp.eye(3)},
        f'views[0] has shape (8, 4) and directions (3, 3); {COLUMNS}',
      ),
    ],
  ),
  'noise_contrastive': [
    (
      {'log_noise_data': rows(1)},
      f'log_model_data has shape (3,) and log_noise_data (1,); {EQUAL}',
    ),
    (
      {'log_noise_noise': rows(1)},
      f'log_model_noise has shape (6,) and log_noise_noise (1,); {EQUAL}',
    ),
  ],
  'queue_info_nce': [
    ({'keys': Z[:1]}, f'queries has shape (8, 4) and keys (1, 4); {EQUAL}'),
    (
      {'queue': rows(16, 3)},
      f'queries has shape (8, 4) and queue (16, 3); {COLUMNS}',
    ),
  ],
  'sigreg': [
    ({'z': rows(8)}, 'z has shape (8,); it must be [b, d]'),
    (
      {'directions': jnp.eye(3)},
      f'z has shape (8, 4) and directions (3, 3); {COLUMNS}',
    ),
  ],
  'siglip': [
    ({'z_b': rows(8, 1)}, f'z_a has shape (8, 4) and z_b (8, 1); {EQUAL}'),
  ],
  'simcse': [
    ({'z_b': rows(8, 1)}, f'z_a has shape (8, 4) and z_b (8, 1); {EQUAL}'),
    (
      {'negatives': rows(5, 4)},
      f'z_a has shape (8, 4) and negatives (5, 4); {EQUAL}',
    ),
  ],
  'sinkhorn': [
    ({'scores': rows(5)}, 'scores has shape (5,); it must be [b, K]'),
    (
      {'queue_scores': rows(3, 1)},
      'scores has shape (8, 5) and queue_scores (3, 1); '
      'their sizes of axis K must be equal',
    ),
  ],
  'supcon': [
    ({'views': []}, 'views has length 0; it must be at least 1'),
    (
      {'views': [Z, Z[:1]]},
      f'views[0] has shape (8, 4) and views[1] (1, 4); {EQUAL}',
    ),
    ({'labels': IDS[:1]}, f'views[0] has shape (8, 4) and labels (1,); {ROWS}'),
  ],
  'swav': [
    ({'scores': [SCORES]}, 'scores has length 1; it must be at least 2'),
    (
      {'scores': [SCORES, SCORES[:1]]},
      f'scores[0] has shape (8, 5) and scores[1] (1, 5); {EQUAL}',
    ),
    (
      {'queue_scores': [SCORES]},
      'queue_scores has length 1; it must be at least 2',
    ),
    (
      {'queue_scores': [SCORES] * 3},
      'queue_scores has length 3; it must be at most 2',
    ),
    (
      {'queue_scores': [rows(6, 1)] * 2},
      'scores[0] has shape (8, 5) and queue_scores[0] (6, 1); '
      'their sizes of axis K must be equal',
    ),
  ],
  'ibot': [
    (
      {'targets': PATCHES[:1]},
      f'student has shape (8, 3, 5) and targets (1, 3, 5); {EQUAL}',
    ),
    (
      {'masked': jnp.ones((8, 2), bool)},
      'student has shape (8, 3, 5) and masked (8, 2); '
      'their sizes of axis n must be equal',
    ),
    ({'student': SCORES}, 'student has shape (8, 5); it must be [b, n, K]'),
  ],
  'koleo': [({'z': rows(8)}, 'z has shape (8,); it must be [b, d]')],
  'mae': [
    (
      {'targets': PATCHES[:1]},
      f'predicted has shape (8, 3, 5) and targets (1, 3, 5); {EQUAL}',
    ),
  ],
  'normalize_patches': [
    ({'patches': SCORES}, 'patches has shape (8, 5); it must be [b, n, p]'),
  ],
  'vicregl': [
    ({'embeddings': [Z]}, 'embeddings has length 1; it must be at least 2'),
    (
      {'embeddings': [Z, Z[:1]]},
      f'embeddings[0] has shape (8, 4) and embeddings[1] (1, 4); {EQUAL}',
    ),
    (
      {'centers': [PATCHES[:, :2, :2]] * 2},
      'maps[0] has shape (8, 3, 5) and centers[0] (8, 2, 2); '
      'their sizes of axis p must be equal',
    ),
  ],
  'update_patch_center': [
    (
      {'center': jnp.zeros(1)},
      'center has shape (1,) and teacher (8, 3, 5); '
      'their sizes of axis K must be equal',
    ),
    (
      {'masked': jnp.ones((8, 2), bool)},
      'teacher has shape (8, 3, 5) and masked (8, 2); '
      'their sizes of axis n must be equal',
    ),
  ],
  'update_center': [
    ({'teacher': []}, 'teacher has length 0; it must be at least 1'),
    (
      {'teacher': [SCORES, rows(8, 1)]},
      f'teacher[0] has shape (8, 5) and teacher[1] (8, 1); {EQUAL}',
    ),
    (
      {'center': jnp.zeros(1)},
      'teacher[0] has shape (8, 5) and center (1,); '
      'their sizes of axis K must be equal',
    ),
  ],
}

DIVISORS = [
  (name, parameter)
  for name in LOSSES
  for parameter in inspect.signature(getattr(losses, name)).parameters
  if parameter in POSITIVE
]


def run_examples(examples):
  """Returns how many examples were run; fails with what they printed."""
  output = []
  result = doctest.DocTestRunner().run(examples, out=output.append)
  assert result.failed == 0, ''.join(output)
  return result.attempted


@pytest.mark.parametrize('name', losses.__all__)
def test_the_example_of_a_docstring_runs(name):
  finder = doctest.DocTestFinder(exclude_empty=False)
  # No globals: the example imports all that it needs.
  (examples,) = finder.find(getattr(losses, name), name, globs={})
  assert run_examples(examples) > 0


@pytest.mark.parametrize('module', MODULES)
def test_all_examples_of_a_module_run(module):
  module = importlib.import_module(f'contrastive_jax.losses.{module}')
  assert doctest.testmod(module).failed == 0


def test_the_example_of_the_readme_runs():
  path = FOLDER / 'README.md'
  # The fence would be taken for output.
  text = path.read_text().replace('```', '')
  examples = doctest.DocTestParser().get_doctest(text, {}, path.name, path, 0)
  assert run_examples(examples) > 0


def test_the_readme_names_every_loss():
  named = re.findall(r'`(\w+)`', (FOLDER / 'README.md').read_text())
  assert set(LOSSES) <= set(named)


def test_no_function_hides_a_module():
  assert not set(losses.__all__) & set(MODULES)
  for name in losses.__all__:
    assert isinstance(getattr(losses, name), types.FunctionType), name
  for name in ('gather', 'normalize', 'queue'):
    module = importlib.import_module(f'contrastive_jax.losses.{name}')
    assert getattr(losses, name) is module


@pytest.mark.parametrize('name', LOSSES)
def test_what_fits_is_taken(name):
  leaves = jax.tree.leaves(getattr(losses, name)(**FITTING[name]))
  assert all(jnp.isfinite(x).all() for x in leaves)


@pytest.mark.parametrize('name', LOSSES)
@pytest.mark.parametrize('traced', [False, True])
def test_shapes_that_do_not_fit_are_refused(name, traced):
  assert MISFITS[name]
  for changes, sentence in MISFITS[name]:
    arguments = FITTING[name] | changes
    arrays = {k: v for k, v in arguments.items() if not isinstance(v, float)}
    arrays.pop('noise_ratio', None)  # static: its logarithm is taken by math
    static = {k: v for k, v in arguments.items() if k not in arrays}
    loss = functools.partial(getattr(losses, name), **static)
    with pytest.raises(ValueError, match=re.escape(f'{name}: {sentence}')):
      jax.eval_shape(loss, **arrays) if traced else loss(**arrays)


@pytest.mark.parametrize('name, parameter', DIVISORS)
@pytest.mark.parametrize(
  'value, sentence',
  [
    (0, '0; it must be positive'),
    (0.0, '0; it must be positive'),
    (np.float32(-0.5), '-0.5; it must be positive'),
    (math.inf, 'inf; it must be finite'),
    (math.nan, 'nan; it must be finite'),
  ],
)
def test_a_temperature_that_makes_no_sense_is_refused(
  name, parameter, value, sentence
):
  arguments = FITTING[name] | {parameter: value}
  sentence = re.escape(f'{name}: {parameter} is {sentence}')
  with pytest.raises(ValueError, match=sentence):
    getattr(losses, name)(**arguments)


@pytest.mark.parametrize(
  'name, parameter',
  # The noise ratio is one of two sample sizes.
  [(n, p) for n, p in DIVISORS if p != 'noise_ratio'],
)
def test_a_temperature_may_be_learned(name, parameter):
  rest = dict(FITTING[name])
  value = rest.pop(parameter)

  def first(x):
    found = getattr(losses, name)(**rest, **{parameter: x})
    return found[0] if isinstance(found, tuple) else found

  np.testing.assert_allclose(
    jax.jit(first)(jnp.float32(value)), first(value), rtol=1e-5
  )


def test_every_loss_that_divides_is_known():
  for name in LOSSES:
    parameters = inspect.signature(getattr(losses, name)).parameters
    strange = {p for p in parameters if 'temperature' in p} - POSITIVE
    assert not strange, f'{name}: {strange}'

import jax
import numpy as np
import pytest
import scipy.special

from contrastive_jax.config import Error
from contrastive_jax.losses import koleo
from contrastive_jax.models import masking
from contrastive_jax.models.mae_decoder import to_patches
from contrastive_jax.training import build
from tests.objectives.byol_test import batch_of_noise, loss_fn, make

LOCAL = {'augment.local_crops': 2, 'augment.local_size': 4}


def moved(job):
  """A state with every parameter off its initial value, teacher apart."""
  state = build.init_state(job)
  rng = np.random.default_rng(0)

  def move(x):
    return x + 0.2 * rng.normal(size=x.shape).astype(np.float32)

  model_state = dict(state.model_state)
  model_state['target'] = jax.tree.map(move, model_state['target'])
  return state.replace(
    params=jax.tree.map(move, state.params), model_state=model_state
  )


def head(job, params, x):
  """The class token's logits, one module after the other, in NumPy's order."""
  for name in ('projector', 'last_layer'):
    module = job.objective.modules[name]
    x = module.apply({'params': params[name]}, x, train=False)
  return np.asarray(x, np.float64)


def features(job, params, view, **options):
  encoder = job.objective.modules['encoder']
  return encoder.apply(
    {'params': params['encoder']}, view, train=False, **options
  )


def test_without_masks_and_koleo_it_is_dinos_loss():
  job = make(
    'dinov2_small',
    **LOCAL,
    **{'objective.masked_crops': 0, 'objective.koleo_weight': 0.0},
    **{'encoder.drop_path': 0.0},
  )
  state, batch = moved(job), batch_of_noise(job)
  target = state.model_state['target']
  value, (model_state, metrics, _) = loss_fn(job, batch)(
    state.params, state.model_state, 0
  )
  student = [
    head(job, state.params, features(job, state.params, v))
    for v in batch['views']
  ]
  teacher = [
    head(job, target, features(job, target, v)) for v in batch['views'][:2]
  ]
  targets = [scipy.special.softmax(t / 0.04, axis=1) for t in teacher]
  log_p = [scipy.special.log_softmax(s / 0.1, axis=1) for s in student]
  pairs = [
    -np.mean(np.sum(targets[i] * log_p[v], axis=1))
    for i in range(2)
    for v in range(4)
    if v != i
  ]
  np.testing.assert_allclose(value, np.mean(pairs), rtol=1e-4)
  np.testing.assert_allclose(
    model_state['center'],
    0.1 * np.mean(teacher, axis=(0, 1)),
    rtol=1e-3,
    atol=1e-5,
  )
  assert 'patch_term' not in metrics


def test_the_value_is_the_sum_of_its_terms():
  weights = {'objective.patch_weight': 0.7, 'objective.koleo_weight': 0.3}
  job = make('dinov2_small', **weights)
  state, batch = moved(job), batch_of_noise(job)
  value, (_, metrics, embeddings) = loss_fn(job, batch)(
    state.params, state.model_state, 0
  )
  terms = [
    metrics[f'{name}_term'] for name in ('class_token', 'patch', 'koleo')
  ]
  np.testing.assert_allclose(value, np.dot([1, 0.7, 0.3], terms), rtol=1e-5)
  np.testing.assert_allclose(
    metrics['koleo_term'], sum(map(koleo, embeddings)), rtol=1e-5
  )


def test_one_of_two_crops_is_masked_and_of_both_twice_as_much():
  """Student and teacher alike, uniform: ln K a masked crop, over two."""
  values = []
  for crops in (0, 1, 2):
    job = make('dinov2_small', **{'objective.masked_crops': crops})
    state, batch = build.init_state(job), batch_of_noise(job)
    params = {**state.params}
    params['last_layer'] = jax.tree.map(np.zeros_like, params['last_layer'])
    value, (_, metrics, _) = loss_fn(job, batch)(params, state.model_state, 0)
    np.testing.assert_allclose(metrics['chance_loss'], value, rtol=1e-5)
    values.append(value - 0.1 * metrics['koleo_term'])
    np.testing.assert_allclose(
      values[-1], job.objective.chance(8), rtol=1e-5, err_msg=str(crops)
    )
  np.testing.assert_allclose(
    np.array(values) / values[0], [1, 1.5, 2], rtol=1e-5
  )


def test_chance_is_that_of_the_crops_that_are_masked():
  """Of few patches many crops get no block, and count nothing."""
  job = make(
    'dinov2_small',
    **{'objective.mask_ratio_least': 0.0, 'objective.mask_ratio_most': 0.15},
  )
  state, batch = build.init_state(job), batch_of_noise(job)
  batch['id'] = np.arange(8, dtype=np.int32)
  params = {**state.params}
  params['last_layer'] = jax.tree.map(np.zeros_like, params['last_layer'])
  value, (_, metrics, _) = loss_fn(job, batch)(params, state.model_state, 0)
  np.testing.assert_allclose(metrics['chance_loss'], value, rtol=1e-5)
  least = value - 0.1 * metrics['koleo_term']
  assert least < 0.95 * job.objective.chance(8)


def test_the_student_does_not_see_what_is_masked_and_the_teacher_does():
  """By the pixels: those of masked patches move the targets alone."""
  job = make(
    'dinov2_small',
    **{'encoder.drop_path': 0.0, 'objective.koleo_weight': 0.0},
  )
  state, batch = moved(job), batch_of_noise(job)
  batch['id'] = np.arange(8, dtype=np.int32)
  masks, _ = masking.of_crops(
    job.config.seed, batch, (4, 4), (0.1, 0.5), masked_crops=1
  )

  def loss(views):
    seen = {**batch, 'views': views}
    return loss_fn(job, seen)(state.params, state.model_state, 0)

  # The teacher has no gradient: what has one is what the student sees.
  gradient = jax.grad(lambda views: loss(views)[0])(batch['views'])
  for view, mask in zip(gradient, masks, strict=True):
    seen = np.any(np.asarray(to_patches(view, (4, 4))) != 0, axis=-1)
    np.testing.assert_array_equal(seen, ~np.asarray(mask))
  # And yet the loss knows of the others, by the targets.
  crop = int(np.argmax([mask[0].sum() for mask in masks]))
  patch = int(np.flatnonzero(masks[crop][0])[0])
  views = [np.array(view) for view in batch['views']]
  row, column = divmod(patch, 4)
  views[crop][0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 3
  assert abs(loss(tuple(views))[0] - loss(batch['views'])[0]) > 1e-5


def test_masks_are_new_in_every_epoch():
  job = make('dinov2_small')
  state, batch = moved(job), batch_of_noise(job)
  values = [
    loss_fn(job, {**batch, 'epoch': batch['epoch'] + epoch})(
      state.params, state.model_state, 0
    )[1][1]['patch_term']
    for epoch in (0, 0, 1)
  ]
  assert values[0] == values[1] != values[2]


def test_with_sinkhorn_there_are_no_centers_and_targets_are_even():
  job = make('dinov2_small', **{'objective.teacher': 'sinkhorn'})
  state, batch = build.init_state(job), batch_of_noise(job)
  assert set(state.model_state) == {'batch_stats', 'target'}
  params = {**state.params}
  params['last_layer'] = jax.tree.map(np.zeros_like, params['last_layer'])
  value, (model_state, metrics, _) = loss_fn(job, batch)(
    params, state.model_state, 0
  )
  assert set(model_state) == set(state.model_state)
  np.testing.assert_allclose(
    value - 0.1 * metrics['koleo_term'], job.objective.chance(8), rtol=1e-5
  )


def test_patches_may_have_a_head_of_their_own():
  job = make('dinov2_small', **{'objective.separate_heads': True})
  state, batch = moved(job), batch_of_noise(job)
  assert {'patch_projector', 'patch_last_layer'} <= set(state.params)
  assert {'patch_projector', 'patch_last_layer'} <= set(
    state.model_state['target']
  )
  gradient = jax.grad(
    lambda p: loss_fn(job, batch)(p, state.model_state, 0)[0]
  )(state.params)
  assert all(np.any(g) for g in jax.tree.leaves(gradient['patch_last_layer']))


def test_the_teacher_is_evaluated_and_follows_the_student():
  job = make('dinov2_small', **{'objective.tau': 0.9})
  state = moved(job)
  params, _ = job.objective.evaluated(state.params, state.model_state)
  assert params is state.model_state['target']
  after = job.objective.after_update(state.params, state.model_state, 0)
  jax.tree.map(
    lambda new, old, student: np.testing.assert_allclose(
      new, 0.9 * old + 0.1 * student, rtol=1e-4, atol=1e-6
    ),
    after['target'],
    state.model_state['target'],
    {name: state.params[name] for name in state.model_state['target']},
  )


@pytest.mark.parametrize(
  ('changes', 'sentence'),
  [
    ({'encoder.name': 'resnet18'}, 'DINOv2 masks patches: encoder.name'),
    ({'encoder.pool': 'mean'}, 'set encoder.pool=token'),
    ({'objective.koleo_group': 1}, 'koleo_group is 1: nobody has a neighbor'),
    (
      {'objective.mask_ratio_least': 0.9},
      'mask_ratio_least is 0.9, mask_ratio_most 0.5: a range',
    ),
    ({'objective.mask_ratio_most': 0.01}, 'at least one of the 16'),
    ({'augment.blur': (0.0,), 'augment.solarize': (0.0,)}, '2 global views'),
  ],
)
def test_what_makes_no_sense_is_refused(changes, sentence):
  with pytest.raises(Error, match=sentence):
    make('dinov2_small', **changes)


def test_groups_that_do_not_divide_a_device_are_refused():
  job = make('dinov2_small', **{'objective.koleo_group': 3})
  state, batch = build.init_state(job), batch_of_noise(job)
  with pytest.raises(Error, match='koleo_group is 3: it has to divide the 8'):
    loss_fn(job, batch)(state.params, state.model_state, 0)

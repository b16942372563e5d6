import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.models import heads

X = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)


def normalize(x):
  return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


def random_like(tree, seed=1):
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda a: jnp.float32(rng.normal(size=a.shape)), tree)


def test_gelu_is_exact_and_so_is_its_gradient():
  x = jnp.linspace(-6, 6, 241)
  by_jax = functools.partial(jax.nn.gelu, approximate=False)
  np.testing.assert_allclose(heads.gelu(x), by_jax(x), atol=1e-6)
  slope = jax.vmap(jax.grad(heads.gelu))(x)
  np.testing.assert_allclose(slope, jax.vmap(jax.grad(by_jax))(x), atol=1e-6)
  # The tanh form, which is Flax's default, is another function.
  assert np.abs(jax.nn.gelu(x) - heads.gelu(x)).max() > 4e-4


def test_gelu_has_a_gradient_under_shard_map():
  mesh = jax.make_mesh((8,), ('replica',))
  x = jnp.linspace(-2, 2, 16)

  def slope(x):
    return jax.grad(lambda x: heads.gelu(x).sum())(x)

  spec = jax.sharding.PartitionSpec('replica')
  mapped = jax.shard_map(slope, mesh=mesh, in_specs=spec, out_specs=spec)
  x = jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
  np.testing.assert_array_equal(jax.jit(mapped)(x), jax.jit(slope)(x))


def test_layer_norm_is_pytorchs_of_each_example():
  head = heads.MLP((6, 4), hidden_norm='layer', hidden_bias=True)
  v = head.init(jax.random.key(0), X, train=True)
  assert set(v) == {'params'}  # nothing of the batch is kept
  params = random_like(v['params'])
  out = head.apply({'params': params}, X, train=True)
  p = jax.tree.map(np.asarray, params)
  hidden = X @ p['dense1']['kernel'] + p['dense1']['bias']
  hidden = normalize(hidden.T).T * p['norm1']['scale'] + p['norm1']['bias']
  expected = np.maximum(hidden, 0) @ p['dense2']['kernel']
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_simclr_head_is_the_formula():
  head = heads.MLP((6, 4), output_norm='scale')
  v = head.init(jax.random.key(0), X, train=True)
  params = random_like(v['params'])
  out, _ = head.apply(
    {**v, 'params': params}, X, train=True, mutable=['batch_stats']
  )
  p = jax.tree.map(np.asarray, params)
  hidden = normalize(X @ p['dense1']['kernel']) * p['norm1']['scale']
  hidden = np.maximum(hidden + p['norm1']['bias'], 0)
  expected = normalize(hidden @ p['dense2']['kernel']) * p['norm2']['scale']
  np.testing.assert_allclose(out, expected, atol=1e-5)
  assert set(p['norm2']) == {'scale'}


def test_mlp_without_norm_is_the_formula():  # MoCo v2, SupCon
  head = heads.MLP((5, 4), 'none', hidden_bias=True, output_bias=True)
  params = random_like(head.init(jax.random.key(0), X, train=True)['params'])
  out = head.apply({'params': params}, X, train=True)
  p = jax.tree.map(np.asarray, params)
  hidden = np.maximum(X @ p['dense1']['kernel'] + p['dense1']['bias'], 0)
  expected = hidden @ p['dense2']['kernel'] + p['dense2']['bias']
  np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize(
  'options, parameters',
  [
    # Layer by layer: dense parameters, then norm parameters.
    (dict(output_norm='plain'), ['k', 'sb', 'k', '']),  # MoCo v3, SimSiam
    (dict(hidden_bias=True), ['kb', 'sb', 'k', '']),  # BYOL, VICReg
    (dict(output_bias=True), ['k', 'sb', 'kb', '']),  # SimSiam's predictor
    (dict(output_norm='affine'), ['k', 'sb', 'k', 'sb']),  # NNCLR
    (dict(), ['k', 'sb', 'k', '']),  # Barlow Twins
  ],
)
def test_options_give_the_parameters_of_each_paper(options, parameters):
  v = jax.eval_shape(
    lambda: heads.MLP((7, 4), **options).init(jax.random.key(0), X, train=True)
  )
  letters = dict(kernel='k', bias='b', scale='s')
  actual = [
    {letters[k] for k in v['params'].get(name, {})}
    for name in ('dense1', 'norm1', 'dense2', 'norm2')
  ]
  assert actual == [set(p) for p in parameters]
  has_norm = options.get('output_norm', 'none') != 'none'
  assert ('norm2' in v['batch_stats']) == has_norm


def test_layers_stops_early():
  head = heads.MLP((6, 5, 4), output_norm='scale')
  v = head.init(jax.random.key(0), X, train=True)
  v['params'] = random_like(v['params'])
  np.testing.assert_array_equal(head.apply(v, X, train=False, layers=0), X)
  first = head.apply(v, X, train=False, layers=1)
  p = jax.tree.map(np.asarray, v['params'])
  # The running statistics are 0 and 1 still.
  pre = X @ p['dense1']['kernel'] / np.sqrt(1 + 1e-5)
  expected = np.maximum(pre * p['norm1']['scale'] + p['norm1']['bias'], 0)
  np.testing.assert_allclose(first, expected, atol=1e-5)
  np.testing.assert_array_equal(
    head.apply(v, X, train=False, layers=3), head.apply(v, X, train=False)
  )


def test_torch_init_is_that_of_a_linear_layer_of_torch():
  """Of torch.nn.Linear: kaiming_uniform_(a=sqrt(5)), bounds 1/sqrt(fan_in)."""
  kernel = heads.torch_init(jax.random.key(0), (256, 500))
  assert 0.99 / 16 < float(jnp.abs(kernel).max()) <= 1 / 16
  np.testing.assert_allclose(kernel.std(), 1 / 16 / math.sqrt(3), rtol=0.01)


def test_kernel_init_and_dtype():
  head = heads.MLP(
    (400, 300),
    output_norm='scale',
    kernel_init=jax.nn.initializers.normal(0.01),
    dtype=jnp.bfloat16,
  )
  v = head.init(jax.random.key(0), X, train=True)
  assert abs(float(v['params']['dense2']['kernel'].std()) - 0.01) < 1e-4
  assert {a.dtype for a in jax.tree.leaves(v)} == {np.dtype('float32')}
  assert head.apply(v, X, train=False).dtype == jnp.float32


def test_statistics_are_over_all_devices():
  head = heads.MLP((6, 4), output_norm='scale', norm_group=4)
  v = head.init(jax.random.key(0), X, train=True)

  def apply(x, axis_name=None):
    return head.apply(
      v, x, train=True, axis_name=axis_name, views=2, mutable=['batch_stats']
    )

  x = X.reshape(2, 4, 1, 6).swapaxes(0, 1).reshape(4, 2, 6)  # device, view
  out, new = jax.pmap(
    lambda x: apply(x, 'data'), axis_name='data', devices=jax.devices()[:4]
  )(x)
  expected, expected_new = apply(X)
  out = np.asarray(out).swapaxes(0, 1).reshape(8, 4)
  np.testing.assert_allclose(out, expected, atol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-5),
    new,
    expected_new,
  )


def test_unknown_norm_is_refused():
  with pytest.raises(ValueError, match="norm 'batch' of a head is unknown"):
    heads.MLP((4,), output_norm='batch').init(jax.random.key(0), X, train=True)


def test_dino_head_is_the_formula():
  head = heads.MLP(
    (5, 4),
    'none',
    hidden_bias=True,
    output_bias=True,
    activation=lambda x: jax.nn.gelu(x, approximate=False),
  )
  params = random_like(head.init(jax.random.key(0), X, train=True)['params'])
  out = head.apply({'params': params}, X, train=True)
  p = jax.tree.map(np.asarray, params)
  hidden = X @ p['dense1']['kernel'] + p['dense1']['bias']
  erf = np.vectorize(math.erf)
  hidden = hidden * (1 + erf(hidden / math.sqrt(2))) / 2
  expected = hidden @ p['dense2']['kernel'] + p['dense2']['bias']
  np.testing.assert_allclose(out, expected, atol=1e-5)


def cosines(x, vectors):
  u = x / np.linalg.norm(x, axis=1, keepdims=True)
  return u @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T


@pytest.mark.parametrize('learned_scale', [False, True])
def test_prototypes_give_cosines(learned_scale):
  head = heads.Prototypes(5, learned_scale=learned_scale)
  first = head.init(jax.random.key(0), X, train=True)['params']
  lengths = np.linalg.norm(first['vectors'], axis=1)
  np.testing.assert_allclose(lengths, 1, rtol=1e-5)
  params = random_like(first)
  out = head.apply({'params': params}, X, train=True)
  expected = cosines(X, np.asarray(params['vectors']))
  if learned_scale:
    np.testing.assert_array_equal(first['scale'], np.ones(5))
    expected = expected * params['scale']
  np.testing.assert_allclose(out, expected, atol=1e-6)
  assert set(params) == ({'vectors', 'scale'} if learned_scale else {'vectors'})


def prototype_gradient(vectors, *, gradient_through_norm):
  head = heads.Prototypes(5, gradient_through_norm=gradient_through_norm)
  weights = np.random.default_rng(2).normal(size=(8, 5)).astype(np.float32)

  def total(vectors):
    scores = head.apply({'params': {'vectors': vectors}}, X, train=True)
    return jnp.sum(scores * weights)

  u = X / np.linalg.norm(X, axis=1, keepdims=True)
  return jax.grad(total)(vectors), weights.T @ u


def test_a_length_is_a_constant_to_the_gradient_of_swav():
  vectors = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
  lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
  gradient, of_unit = prototype_gradient(vectors, gradient_through_norm=False)
  # Official: the gradient of u C^T, C normalized before.
  np.testing.assert_allclose(gradient * lengths, of_unit, atol=1e-5)


def test_the_gradient_of_dino_has_no_part_along_a_prototype():
  vectors = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
  gradient, of_unit = prototype_gradient(vectors, gradient_through_norm=True)
  lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
  unit = vectors / lengths
  along = np.sum(of_unit * unit, axis=1, keepdims=True) * unit
  np.testing.assert_allclose(gradient, (of_unit - along) / lengths, atol=1e-5)


@pytest.mark.parametrize('gradient_through_norm', [False, True])
def test_prototypes_of_nothing_are_finite(gradient_through_norm):
  head = heads.Prototypes(5, gradient_through_norm=gradient_through_norm)
  nothing = {'params': {'vectors': jnp.zeros((5, 6))}}
  for x in (jnp.zeros((8, 6)), 1e4 * X, X.astype(jnp.bfloat16)):
    scores, gradient = jax.value_and_grad(
      lambda v, x=x: jnp.sum(head.apply(v, x, train=True))
    )(nothing)
    assert scores == 0
    assert jnp.isfinite(gradient['params']['vectors']).all()

"""The plan of a sweep: combinators, names, refusals; the shipped sweeps."""

import pathlib

import pytest

from contrastive_jax.sweeping import axis, plan, product, zipped
from contrastive_jax.training import build
from experiments import small_configs
from tests import tiny

SWEEPS = pathlib.Path(__file__).parents[2] / 'experiments' / 'sweeps'
TEMPERATURES = axis('objective.temperature', (0.1, 0.2, 0.4))
GRID = product(TEMPERATURES, axis('batch_size', (32, 64)))
LABELED = [
  {'label': 'a + b', 'augment.flip': 0.5, 'epochs': 3},
  {'label': 'a', 'augment.flip': 0.0, 'epochs': 3},
]


def make_plan(overrides, workdir='w', *, given=None, seeds=1, steps=None):
  base = tiny.get_config()
  base.steps = steps
  return plan.make_plan(
    overrides,
    base,
    given=given or {},
    seeds=seeds,
    workdir=pathlib.Path(workdir),
  )


def test_combinators():
  a, b = axis('a', (1, 2)), axis('b', (3, 4))
  assert zipped(a, b) == [{'a': 1, 'b': 3}, {'a': 2, 'b': 4}]
  assert [tuple(x.values()) for x in product(a, b, axis('c', 'x'))] == [
    (1, 3, 'x'),
    (1, 4, 'x'),
    (2, 3, 'x'),
    (2, 4, 'x'),
  ]
  with pytest.raises(ValueError, match=r'\[2, 1\]'):
    zipped(a, axis('b', (3,)))
  with pytest.raises(ValueError, match='set a'):
    product(a, a)


def test_plan_puts_seeds_last_and_names_folders():
  points = make_plan(GRID, given={'epochs': 7}, seeds=2)
  assert [p.number for p in points] == list(range(12))
  assert [p.seed for p in points] == [0] * 6 + [1] * 6
  assert points[7].folder == pathlib.Path(
    'w/points/objective.temperature=0.1,batch_size=64,seed=1'
  )
  assert points[7].overrides == {
    'epochs': 7,
    'objective.temperature': 0.1,
    'batch_size': 64,
    'data.held_out': 0.1,
    'evaluation.baselines': False,
    'seed': 1,
  }
  # More seeds leave what there is where it is.
  more = make_plan(GRID, seeds=3)
  assert [p.folder for p in more[:12]] == [p.folder for p in points]


def test_fields_that_follow_from_another_are_no_axis():
  sizes = [{'batch_size': b, 'steps': 640 // b} for b in (32, 64)]
  assert list(make_plan(sizes)[0].setting) == ['batch_size']
  both = make_plan(product(TEMPERATURES, sizes))
  assert list(both[0].setting) == ['objective.temperature', 'batch_size']
  labeled = make_plan(LABELED)
  assert [p.folder.name for p in labeled] == ['a_+_b,seed=0', 'a,seed=0']
  assert labeled[0].config.augment.flip == 0.5
  # A field that a point does not set is as the config has it.
  mixed = make_plan([{}, {'epochs': 9}])
  assert [p.values['epochs'] for p in mixed] == [tiny.get_config().epochs, 9]


@pytest.mark.parametrize(
  'overrides, sentence',
  [
    (
      [{'objective.temprature': 0.1}],
      r"temprature'; did you mean 'objective.t",
    ),
    ([{'objective.queue_size': 8}], 'unknown config key'),  # MoCo's
    ([{'batch_size': 2.5}], 'batch_size to 2.5, which is not of the type int'),
    ([{'batch_size': True}], 'not of the type int'),
    ([{'augment.blur': 0.5}], 'not of the type tuple'),
    ([{'epochs': None}], 'not of the type int'),
    ([{'seed': 1}], '--seeds'),
    ([{'data.held_out': 0.0}], 'held_out'),
    ([{'mapping': 'pmap'}], 'the command line'),
    ([{'epochs': 1}, {'epochs': 1}], 'points 0 and 1'),
    ([{'label': 'a b'}, {'label': 'a/b'}], 'same name a_b,seed=0'),
    ([{'label': 'x' * 300}], 'too long'),
    ([], 'no overrides'),
  ],
)
def test_wrong_sweeps_are_refused(overrides, sentence):
  with pytest.raises(ValueError, match=sentence):
    make_plan(overrides, given={'mapping': 'shard_map'})


def test_epochs_that_steps_override_are_refused():
  with pytest.raises(ValueError, match='steps=4'):
    make_plan([{'epochs': 3}], steps=4)


def test_sweep_files(tmp_path):
  path = tmp_path / 'a.py'
  with pytest.raises(FileNotFoundError, match='there is no sweep file'):
    plan.load_sweep(path, tiny.get_config())
  for text, sentence in (
    ('', 'no function get_sweep'),
    ('def get_sweep(config): return {"epochs": 1}', "'epochs', not a dict"),
    ('def get_sweep(config): pass', 'None, not a dict'),
  ):
    path.write_text(text)
    with pytest.raises(ValueError, match=sentence):
      plan.load_sweep(path, tiny.get_config())


@pytest.mark.parametrize(
  'path', sorted(SWEEPS.glob('[a-z]*.py')), ids=lambda path: path.stem
)
def test_shipped_sweeps_can_be_built_on_digits(path):
  first = path.stem.partition('_')[0]
  others = {'negatives': 'moco', 'lejepa': 'lejepa', 'simcse': 'simcse'}
  name = others.get(first, 'simclr')
  base = small_configs.load(name)
  if name == 'simcse':
    base.batch_size = 64  # of 255 sentences
  overrides, seeds = plan.load_sweep(path, base)
  assert seeds == (1 if name == 'lejepa' else 3)
  points = plan.make_plan(
    overrides, base, given={}, seeds=1, workdir=pathlib.Path('w')
  )
  images = {
    job.run.total_steps * job.run.batch_size
    for job in (build.build(point.config) for point in points)
  }
  # 1,280 of the 1,295 images that are left an epoch, whatever the batch.
  lengths = {'epochs': (12, 25, 50, 100), 'lejepa': (12, 35, 100)}
  epoch = 1280
  if name == 'simcse':  # 192 of the 230 sentences that are left
    epoch, lengths[name] = 192, (5,)
  assert images == {epoch * n for n in lengths.get(path.stem, (100,))}


@pytest.mark.parametrize('name', ['temperature_batch_size', 'negatives'])
def test_batch_sizes_share_a_budget_in_steps(name):
  base = small_configs.load('moco')
  base.steps = 100
  overrides, _ = plan.load_sweep(SWEEPS / f'{name}.py', base)
  assert {o['steps'] * o['batch_size'] for o in overrides} == {12800}


def test_augmentations_alone_and_together():
  overrides, _ = plan.load_sweep(
    SWEEPS / 'augmentation.py', small_configs.load('simclr')
  )
  by_label = {o['label']: o for o in overrides}
  assert len(by_label) == 7
  assert by_label['crop + blur'] == {
    'label': 'crop + blur',
    'augment.crop_scale': (0.5, 1.0),  # of the digits' config
    'augment.crop_ratio': (3 / 4, 4 / 3),
    'augment.jitter': 0.0,
    'augment.grayscale': 0.0,
    'augment.blur': (0.5, 0.5),  # off in the config: SimCLR's
  }
  assert by_label['color']['augment.crop_scale'] == (1.0, 1.0)
  assert by_label['color']['augment.jitter'] == 0.8


def test_a_sweep_for_another_objective_is_refused():
  base, path = tiny.get_config(), SWEEPS / 'negatives_dimension.py'
  with pytest.raises(ValueError, match='does not go with this config: .*symme'):
    plan.load_sweep(path, base)


@pytest.mark.parametrize(
  ('text', 'sentence'),
  [
    ("return axis('seed', itertools.count())", 'no end'),
    ("return ({'epochs': n} for n in itertools.count(1))", 'no end'),
    (
      "return product(axis('epochs', range(200)), axis('seed', range(200)))",
      'more than 10,000 points',
    ),
    ("return zipped(({'epochs': n} for n in itertools.count(1)))", 'no end'),
    ('return []', 'yields no overrides'),
    ('return iter(())', 'yields no overrides'),
    ('return [{3: 1}]', 'sets 3, which is no field'),
    ("return [{'label': [1]}]", 'a label that is no text'),
    ("return axis('batch_size', (1, 64))", 'setting batch_size=1: batch_size'),
    ("return axis('objective.temperature', (-0.1,))", 'no run could take'),
    ("return axis('data.eval_crop', (-1.0,))", 'data.eval_crop is -1'),
    ("return axis('encoder.name', ('resnet51',))", "no encoder 'resnet51'"),
    ("return axis('encoder.norm', ('layer',))", "norm 'layer' is unknown"),
    ("return axis('augment.crop_scale', ((1.0, 0.5),))", 'it must rise'),
  ],
)
def test_what_no_run_could_take_is_found_in_the_plan(tmp_path, text, sentence):
  path = tmp_path / 'a.py'
  path.write_text(
    'import itertools\n'
    'from contrastive_jax.sweeping import axis, product, zipped\n'
    f'def get_sweep(config):\n  {text}\n'
  )
  with pytest.raises(ValueError, match=sentence):
    make_plan(plan.load_sweep(path, tiny.get_config())[0])


@pytest.mark.parametrize('seeds', ['0', '-1', '2.5', 'True', "'x'", '10**9'])
def test_seeds_of_a_file(tmp_path, seeds):
  path = tmp_path / 'a.py'
  path.write_text(
    f"SEEDS = {seeds}\ndef get_sweep(config): return [{{'epochs': 3}}]\n"
  )
  with pytest.raises(ValueError, match='SEEDS|seeds'):
    overrides, count = plan.load_sweep(path, tiny.get_config())
    make_plan(overrides, seeds=count)

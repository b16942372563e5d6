"""The gradient on several devices against that of one: relative errors.

  python -m experiments.parity --config=configs/simclr_small.py:digits
  python -m experiments.parity --all

Prints, for shard_map on 2 and 8 simulated devices and pmap on 8, the largest
relative error ||g - g_1|| / ||g_1|| over all parameter tensors and over two
states: at the start of the run, and late in it, where a queue is in use and a
teacher warm. ||g_1|| counts as at least 1 % of the largest tensor's. The batch
is the first of the run; its size is the config's. --all takes every
configs/*_small.py on digits, with two residual blocks and 64 images a batch,
and the options of small_configs.py.

An activation that rounding puts on the other side of a ReLU's kink makes a jump
of 1e-3 or so in the gradient, though not in the loss: with millions of
activations that is a matter of chance. Parameters changed in their last bit, on
one device, make the same jump (seen once, of 0.9 %: crops that are all zero sit
at one kink together); a mistake does not depend on the last bit.
"""

from absl import app, flags
from ml_collections import config_flags

from contrastive_jax.commands import command_line, compiled
from contrastive_jax.config import Config
from contrastive_jax.training import parity
from experiments import small_configs

# Mapping and devices.
COLUMNS = [('shard_map', 2), ('shard_map', 8), ('pmap', 8)]


def errors(config: Config) -> list[float]:
  """Returns the largest error for each column of the table."""
  largest = [0.0] * len(COLUMNS)
  for late in (False, True):
    one, _, _ = parity.gradient_on(config, 1, 'shard_map', late)
    for i, (mapping, devices) in enumerate(COLUMNS):
      gradient, _, _ = parity.gradient_on(config, devices, mapping, late)
      largest[i] = max(largest[i], *parity.relative_errors(gradient, one))
  return largest


def main(configs: dict[str, Config]) -> None:
  """Prints a line a config, in Markdown."""
  head = [f'{mapping}, {devices}' for mapping, devices in COLUMNS]
  print('| | ' + ' | '.join(head) + ' |')
  print('|' + '---|' * (len(COLUMNS) + 1))
  for name, config in configs.items():
    cells = [f'{error:.1e}' for error in errors(config)]
    print(f'| {name} | ' + ' | '.join(cells) + ' |', flush=True)


if __name__ == '__main__':
  command_line.set_up_cpu(8)
  compiled.keep()  # both states take one program
  # Here, so that importing this module defines no flag.
  holder = config_flags.DEFINE_config_file('config', 'configs/simclr_small.py')
  every = flags.DEFINE_bool('all', False, 'Every configs/*_small.py.')
  app.run(
    lambda argv: main(
      small_configs.all_tiny()
      if every.value
      else {holder.value.objective.name: holder.value}
    )
  )

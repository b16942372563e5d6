"""What tests look at of a finished run."""

from contrastive_jax.evaluation import encoder, finetune
from contrastive_jax.evaluation.run import evaluate
from contrastive_jax.weights import towers


def arrays_of(workdir):
  """Parameters and statistics of its encoder, by name."""
  return towers.arrays_of(*encoder.load(workdir))


def check_fine_tuning(workdir, monkeypatch):
  """Fine-tunes it for a moment, whatever it reads."""
  monkeypatch.setattr(finetune, '_LEAST_STEPS', 1)
  monkeypatch.setattr(finetune, 'LEARNING_RATES', (1e-3,))
  found = evaluate(workdir, ['finetune_50'])
  assert not found['failed']
  assert any(r['protocol'] == 'finetune_50' for r in found['results'])

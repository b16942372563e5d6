"""SimCSE (Gao et al. 2021, arXiv 2104.08821) for a small encoder of one's own.

  python -m contrastive_jax.main --workdir=runs/text \
      --config=configs/simcse_small.py:text:sentences.txt
  python -m contrastive_jax.main --workdir=runs/glosses \
      --config=configs/simcse_small.py:csv:wordnet.csv

The paper trains BERT on; this begins from random weights (`configs/
simcse_bert_base.py` is its recipe). Measured: experiments/README.md.
"""

from contrastive_jax import recipes


def get_config(source='text:sentences.txt'):
  c = recipes.start('simcse', source)
  c.encoder.name, c.encoder.pool = 'text_tiny', 'mean'
  c.text.views = 'same'  # unsupervised; or 'pairs', 'negatives' of a table
  c.batch_size, c.epochs = 256, 5
  c.optimizer.name = 'adamw'
  c.optimizer.base_learning_rate = 5e-4
  c.optimizer.warmup_epochs = 0.25
  c.optimizer.weight_decay = 0.01
  return c

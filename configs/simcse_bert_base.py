"""Unsupervised SimCSE of BERT-base (Gao et al. 2021, arXiv 2104.08821).

  python -m contrastive_jax.main --workdir=runs/simcse \
      --config=configs/simcse_bert_base.py:text:wiki1m_for_simcse.txt \
      --config.encoder.init=bert-base-uncased/model.safetensors \
      --config.text.tokenizer=bert-base-uncased/tokenizer.json

A million sentences of Wikipedia, one epoch. Published: 76.25 Spearman, the mean
of seven STS tasks (README of princeton-nlp/SimCSE). Not trained here.
Supervised is text.views='negatives' with a table of text, pair and negative,
batch_size=512, base_learning_rate=2.5e-5 (5e-5 of that batch), epochs=3.
"""

from contrastive_jax import recipes


def get_config(source='text:wiki1m_for_simcse.txt'):
  c = recipes.start('simcse', source)
  c.encoder.name, c.encoder.pool = 'bert_base', 'token'
  c.text.views = 'same'
  c.batch_size, c.epochs = 64, 1
  c.optimizer.name = 'adamw'
  c.optimizer.base_learning_rate = 3e-5 * 256 / 64  # 3e-5 of this batch
  c.optimizer.warmup_epochs = 0.0
  c.optimizer.schedule = 'linear'
  c.optimizer.weight_decay = 0.0
  c.optimizer.clip_norm = 1.0
  return c

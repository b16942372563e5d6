"""Eight simulated CPU devices, and compiled functions kept between runs."""

import os
import pathlib
import tempfile

# Before TensorFlow is imported: its start-up lines are not warnings of ours.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import jax

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
_CACHE = pathlib.Path(tempfile.gettempdir()) / 'contrastive_jax_test_cache'
jax.config.update('jax_compilation_cache_dir', str(_CACHE))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)

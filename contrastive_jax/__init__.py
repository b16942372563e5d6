"""Self-supervised contrastive learning in JAX."""

import os

# Before anything imports TensorFlow: its greetings would bury ours.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

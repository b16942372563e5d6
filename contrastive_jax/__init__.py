"""Self-supervised contrastive learning in JAX."""

"""The loop, the step, and all that a run is made of."""

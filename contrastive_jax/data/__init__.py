"""Images to batches on the host, and their views on the device."""

"""Sample shops in the input format: simulated ones of any size, and the demo."""

"""What predictions are worth: pure functions from predictions and references to metrics with 95 % intervals."""

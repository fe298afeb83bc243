"""Settings of experiments, compared over folds and seeds."""

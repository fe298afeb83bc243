"""How good a model is: all folds together, as a report that needs no network."""

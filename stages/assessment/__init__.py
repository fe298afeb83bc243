"""How good a model of one's own data is: all folds together, as a report that needs no network."""

"""What a laboratory brings: listed, labelled, checked and drawn into folds."""

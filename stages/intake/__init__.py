"""What a laboratory brings: listed, labeled, checked and drawn into folds."""

"""Networks: how they are built, fed, saved and loaded, by Keras."""

"""Networks: built, fed, saved and loaded, with Keras."""

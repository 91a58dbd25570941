"""Sources of images, preprocessing, stateless randomness and the loaders. `datasets` alone imports without torch."""

"""`suite bench`: images per second of every objective on this device, and what limits them."""

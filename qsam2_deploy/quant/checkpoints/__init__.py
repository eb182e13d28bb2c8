"""Files of weights and quantizers, and the models that are built of them."""

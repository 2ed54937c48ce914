"""The protocols of live detectors, one module each; imported when a URL names them."""

"""Networks as others define them, for what this package makes of them."""

"""How an exported file is compared with its PyTorch model; ``verify_export`` is the way in."""

"""The doctor: broken set-ups of real MTAs, and whether what it prints mends them."""

"""What float32 arithmetic is exact for, and how far it is off elsewhere."""

# Integers of this many bits are float32 numbers, and so are their sums that stay below.
EXACT_BITS = 24
LARGEST_EXACT = 2**EXACT_BITS
# Half the distance between 1 and the next float32: the relative error of one operation.
UNIT = 2.0**-EXACT_BITS
# The smallest positive float32: what a product that underflows may lose.
SMALLEST = 2.0**-149

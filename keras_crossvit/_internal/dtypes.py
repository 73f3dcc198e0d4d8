"""Names of dtypes."""

HALF_PRECISIONS = ("float16", "bfloat16")

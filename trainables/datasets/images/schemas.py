"""The columns of a world's Parquet files.

images_{split}.parquet (or parts)   a row per image; width, height: of what is the original's in the
                                    PNG, without grey beside it
tasks_{split}.parquet               a row per sample
"""

from __future__ import annotations

import pyarrow as pa

IMAGES_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("png", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("classes", pa.list_(pa.int32())),
    ]
)
TASKS_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("task", pa.string()),
        ("image_ids", pa.list_(pa.string())),
        ("prompt", pa.string()),
        ("reference", pa.string()),
    ]
)

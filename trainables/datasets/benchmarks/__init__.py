"""Published benchmarks: their files become images and samples that an evaluation reads.

annotations --read--> items --images found by listing--> Benchmark --write--> the layout of a world

A format is a file NAME.py with an object `FORMAT`:

| `format`        | `annotations`                             | `images`           | task          |
|-----------------|-------------------------------------------|--------------------|---------------|
| `coco_karpathy` | JSON of the Karpathy splits               | directory          | captions      |
| `seed_bench`    | JSON; its images, not its videos          | directory          | choice        |
| `mmbench`       | TSV                                       | in the file        | choice        |
| `pope`          | JSON lines                                | directory          | yes_no        |
| `vqav2`         | JSON of the answers, and `questions`      | directory          | open_vqa      |
| `refcoco`       | JSON (lines): `expression`, `bbox`,       | directory          | grounding     |
|                 | `image`; or refs, and `instances`         |                    |               |
| `mini_imagenet` | CSV: `filename`, `label`                  | directory          | fewshot_names |
| `imagenet`      | names of the classes, as in `data.names`  | a folder per class | classification|
| `ocr`           | JSON (lines): `image`, `text`             | directory          | text_reading  |

Imports no torch, so that a sweep can be planned without it.
"""

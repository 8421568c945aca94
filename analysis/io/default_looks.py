"""Looks of this project's scenarios, for sources that describe none.

Temporary: `search_spaces.scenarios.looks()` takes its place as soon as it exists.
"""

from __future__ import annotations

from search_spaces.specs.scenario_look import ScenarioLook


def looks() -> dict[str, ScenarioLook]:
    """Scenario -> its look."""
    bridge, image, transfer = "bridge", "image", "transfer"
    return {
        "uncompressed": ScenarioLook(
            title="uncompressed",
            order=0,
            family=image,
            colour="#1f2328",
            marker="h",
            role="bound",
            codec="none",
            image="none",
            sentence="The encoder reads the original image, at 24 bits per pixel.",
        ),
        "reconstruction": ScenarioLook(
            title="reconstruction",
            order=10,
            family=image,
            colour="#5b6470",
            marker="s",
            line="--",
            role="anchor",
            sentence="The encoder reads the image that the base codec decodes.",
        ),
        "classical": ScenarioLook(
            title="standard",
            order=20,
            family=image,
            colour="#882255",
            marker="X",
            line=":",
            codec="standard",
            image="own",
            sentence="The encoder reads the image that a standard's codec decodes.",
        ),
        "post_processing": ScenarioLook(
            title="post-processing",
            order=30,
            family=image,
            colour="#cc79a7",
            marker="v",
            line="-.",
            sentence="A U-Net mends the decoded image; the complete encoder reads the result.",
        ),
        "d1": ScenarioLook(
            title="d1",
            order=40,
            family=bridge,
            colour="#e69f00",
            marker="o",
            sentence="The codec is frozen; a neck turns its latents into tokens of encoder "
            "block k.",
        ),
        "d2": ScenarioLook(
            title="d2",
            order=50,
            family=bridge,
            colour="#0072b2",
            marker="D",
            image="own",
            sentence="Codec and neck are trained together; the image for people stays in the loss.",
        ),
        "d3": ScenarioLook(
            title="d3",
            order=60,
            family=bridge,
            colour="#009e73",
            marker="^",
            image="none",
            sentence="Codec and neck are trained together for the machine only; no image is "
            "decoded.",
        ),
        "end_to_end_oracle": ScenarioLook(
            title="end-to-end oracle",
            order=65,
            family=bridge,
            colour="#8a63d2",
            marker="*",
            line="--",
            sentence="d1's neck is trained on through the MLLM itself, towards the right answers.",
        ),
        "feature_coding": ScenarioLook(
            title="feature coding",
            order=70,
            family=transfer,
            colour="#a07800",
            marker="P",
            line=":",
            codec="own",
            image="none",
            sentence="The sender runs the encoder's first k blocks and sends their tokens.",
        ),
        "transfer": ScenarioLook(
            title="transfer",
            order=80,
            family=transfer,
            colour="#d55e00",
            marker="<",
            line="-.",
            sentence="d1's neck of another codec is used as it is.",
        ),
        "transfer_tuned": ScenarioLook(
            title="transfer, tuned",
            order=90,
            family=transfer,
            colour="#56b4e9",
            marker=">",
            line="-.",
            sentence="d1's neck of another codec is trained for a few steps.",
        ),
        "shared_neck": ScenarioLook(
            title="shared neck",
            order=100,
            family=transfer,
            colour="#994f00",
            marker="p",
            line="--",
            sentence="One neck serves all rates of a variable-rate codec.",
        ),
    }

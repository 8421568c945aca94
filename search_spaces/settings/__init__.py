"""Settings before they are a spec: changed by dotted path, validated by family, explained."""

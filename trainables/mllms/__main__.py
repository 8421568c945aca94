"""`python -m trainables.mllms`: which MLLMs can be swept, and why others cannot."""

from search_spaces.families import FAMILIES, REFUSED


def main() -> None:
    """Print the table."""
    width = max(map(len, (*FAMILIES, *REFUSED)))
    for name, family in FAMILIES.items():
        print(f"{name:<{width}}  {family.title}; tower {family.tower}")
    for name, why in REFUSED.items():
        print(f"{name:<{width}}  not: {why}")


if __name__ == "__main__":
    main()

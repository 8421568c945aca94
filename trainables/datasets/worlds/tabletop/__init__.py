"""The second made world: textured things on a table, with a card to read, in four levels."""

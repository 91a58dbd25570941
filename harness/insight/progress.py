"""How far the work is."""

from __future__ import annotations


class Progress:
    """Is told what is done and how far it is. This one shows nothing; a command shows a bar."""

    def begin(self, what: str, steps: int) -> None:
        """Begin something of so many steps."""

    def advance(self, steps: int) -> None:
        """So many more steps are done."""

"""Where two texts meet: what a second answer says again of the first one's end is taken out of its beginning."""

MIN_ECHO = 16  # characters: a shorter text may well be followed by the same again


class Joint:
    """`told`: the first answer's text, which the second was asked to go on from without the white space at its end.

    That white space is swallowed where the second begins with it. So is the whole of the text, should the second begin by repeating it, if it
    is not so short that this may be meant; `repeats`: the target is known to do it, however short. What may be either is held until it is clear.
    `repeated`: it did; `swallowed`: it began with white space that had been told.
    """

    def __init__(self, told: str, repeats: bool) -> None:
        self._body = told.strip()
        self._tail = told[len(told.rstrip()) :]
        self._looking = len(self._body) >= (1 if repeats else MIN_ECHO)  # for a repetition
        self._held = ""
        self._settled = False
        self.repeated = self.swallowed = False

    def feed(self, text: str) -> str:
        if self._settled:
            return text
        self._held += text
        if self._looking and not self._looked():
            return ""
        if len(self._held) < len(self._tail) and self._tail.startswith(self._held):
            return ""
        return self.end()

    def end(self) -> str:
        """What is still held, once something else than text follows it."""
        self._settled = self._settled or bool(self._held)
        held, self._held = self._held, ""
        same = next((index for index, (ours, its) in enumerate(zip(self._tail, held, strict=False)) if ours != its), min(len(held), len(self._tail)))
        self.swallowed = self.swallowed or same > 0
        return held[same:]

    def _looked(self) -> bool:
        """Whether it is clear that the text is repeated, and then it is taken out, or that it is not."""
        begun = self._held.lstrip()
        if len(begun) < len(self._body) and self._body.startswith(begun):
            return False
        self._looking = False
        if begun.startswith(self._body):
            self.repeated = True
            self._held = begun[len(self._body) :]
        return True

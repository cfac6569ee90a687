"""Unreadable images, corrupt ones for example: counted, named, and too many of them are an error."""

from collections.abc import Mapping

from resnet_jax.data.decoding import DamagedImageError, pixels
from resnet_jax.data.examples import Examples
from resnet_jax.errors import UserError

NAMED = 3


class DamagedImages:
    """The unreadable images that were met so far, each once.

    Args:
        limit: how many are tolerated (`data.max_bad_examples`).
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._problems: dict[str, str] = {}
        self._new: list[DamagedImageError] = []

    def note(self, examples: Examples, index: int) -> None:
        """Note that the image of `examples[index]` cannot be read.

        Raises:
            UserError: it is one more than the limit.
        """
        try:
            pixels(examples[index][0])
            problem = DamagedImageError(
                f"example {index}", "was unreadable at the first reading only"
            )
        except DamagedImageError as error:
            problem = error
        self.add(problem)

    def add(self, damage: DamagedImageError) -> None:
        """Note an unreadable image.

        Raises:
            UserError: there are more than the limit, which may have been higher when they were reported.
        """
        if damage.name not in self._problems:
            self._problems[damage.name] = damage.problem
            self._new.append(damage)
        if len(self._problems) > self.limit:
            last = [f"{name} ({why})" for name, why in list(self._problems.items())[-NAMED:]]
            count = len(self._problems)
            raise UserError(
                "data.max_bad_examples",
                self.limit,
                f"{count} unreadable image{'s' * (count > 1)}; the last: {', '.join(last)}",
                "repair or remove them, or raise the limit",
            )

    def take_new(self) -> list[DamagedImageError]:
        """Those noted since the last call."""
        new, self._new = self._new, []
        return new

    def begin(self, told: Mapping[str, str]) -> None:
        """A run begins, or goes on, that has told of these (name → problem) already."""
        self._problems |= told
        self._new = [
            DamagedImageError(name, problem)
            for name, problem in self._problems.items()
            if name not in told
        ]

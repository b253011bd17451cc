"""Facts that nobody listens to, to be told in part by those who do."""


class NoFacts:
    """Listens to nothing: for commands that only look."""

    def reconciled(self, shimlet: str, result: str, seconds: float) -> None:
        """Nothing."""

    def ensured(self, goalset: str, goal: str, result: str) -> None:
        """Nothing."""

    def goal_achieved(self, goalset: str, goal: str, seconds: float) -> None:
        """Nothing."""

    def converged(self, shimlet: str, goalset: str, seconds: float) -> None:
        """Nothing."""

    def drifted(self, shimlet: str) -> None:
        """Nothing."""

    def pruned(self, result: str, name: str, reason: str = "", message: str = "") -> None:
        """Nothing."""

    def unread(self, error: str) -> None:
        """Nothing."""

    def detected(self, seconds: float) -> None:
        """Nothing."""

    def scanned(self) -> None:
        """Nothing."""

    def task_ended(self, kind: str, result: str) -> None:
        """Nothing."""

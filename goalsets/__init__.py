"""The built-in GoalSets, registered through the same entry points as anyone else's."""

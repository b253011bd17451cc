"""The built-in Shimlets, registered through the same entry points as anyone else's."""

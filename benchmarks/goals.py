"""A goal in the cell of a table: the bound, and whether the figure reached it."""


def at_least(value, goal, unit=""):
    """Return the cell of a figure that should be `goal` or more."""
    return f">= {goal:g}{unit}: {'met' if value >= goal else '**missed**'}"


def at_most(value, goal, unit=""):
    """Return the cell of a figure that should be `goal` or less."""
    return f"<= {goal:g}{unit}: {'met' if value <= goal else '**missed**'}"

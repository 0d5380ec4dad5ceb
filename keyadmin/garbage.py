"""How often a process that answers requests looks for garbage."""

import gc


def collect_seldom() -> None:
    """Look once, and from then on seldom, and not among what is loaded by now.

    That stays; looking for garbage among it, as often as Python does, costs a request some percent.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)

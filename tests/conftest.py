"""What thousands of collected tests hold lives until the end: the garbage collector need not walk it again and again."""

import gc


def pytest_configure() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()

"""The image of the siw guest for all tests that need one, and one guest to begin with."""

import asyncio

import pytest

from interop.siw import Guest, Image, SiwError, fresh, prepare_image

LIMIT = 1200.0
"""Seconds for one test with a guest: the first of them builds the image."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a guest have a time limit of their own."""
    for item in items:
        if item.get_closest_marker("siw") is not None:
            item.add_marker(pytest.mark.timeout(LIMIT))


@pytest.fixture(scope="session")
def image() -> Image:
    """The image, of which a guest has come up; if none does, the session ends with one error."""
    try:
        image = prepare_image()
        asyncio.run(_come_up(image))
    except SiwError as error:
        pytest.exit(f"no siw guest comes up: {error}", returncode=pytest.ExitCode.INTERNAL_ERROR)
    return image


async def _come_up(image: Image) -> None:
    guest: Guest = await fresh(image)
    await guest.stop()


@pytest.fixture(autouse=True)
def _with_a_guest(request: pytest.FixtureRequest) -> None:
    """No test with a guest begins before one has come up."""
    if request.node.get_closest_marker("siw") is not None:
        request.getfixturevalue("image")

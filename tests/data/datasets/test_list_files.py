from collections.abc import Callable
from pathlib import Path

import pytest

from rexnet.data.datasets.aircraft import index_aircraft
from rexnet.data.datasets.cars import index_cars
from rexnet.data.datasets.cub200 import index_cub200
from rexnet.data.datasets.flowers102 import index_flowers102
from rexnet.data.datasets.food101 import index_food101
from rexnet.data.datasets.index import Index
from rexnet.errors import DataError


@pytest.mark.parametrize("index", [index_cub200, index_cars, index_flowers102, index_aircraft, index_food101])
def test_an_empty_folder_is_answered_with_where_the_data_are_to_be_had(
    index: Callable[..., Index], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"download=true downloads it, from https|mirrors on Kaggle and Hugging Face"):
        index(tmp_path, "train")

"""Quantizes an ONNX file to int8, with ranges from real images."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from rexnet.export.formats import quiet, require_onnx
from rexnet.system.atomic_files import atomic_write


def write_int8(source: Path, target: Path, images: Iterable[np.ndarray]) -> None:
    """Quantizes the convolutions and the classifier of a float32 ONNX file, calibrated on batches of its inputs."""
    require_onnx()
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[np.ndarray] = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    properties = {entry.key: entry.value for entry in onnx.load(source, load_external_data=False).metadata_props}
    with quiet(), tempfile.TemporaryDirectory() as folder, atomic_write(target) as temporary:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(temporary),
            Calibration(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm"],  # gates and activations would lose accuracy without gaining speed
            per_channel=True,
            reduce_range=True,  # 7-bit weights: 8 bits overflow on CPUs without VNNI
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
        )
        model = onnx.load(temporary)
        onnx.helper.set_model_props(model, properties)
        onnx.save(model, temporary)

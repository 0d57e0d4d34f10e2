from rexnet.export.parity import Parity, describe_parity, find_faults

EAGER = Parity(top1=80.0, agreement=100.0, largest_difference=0.0, images_per_s=40.0, megabytes=None, n=100)
ONNX = Parity(top1=80.0, agreement=100.0, largest_difference=5e-7, images_per_s=70.0, megabytes=19.0, n=100)


def int8(top1: float, images_per_s: float) -> dict[str, Parity]:
    quantised = Parity(top1, agreement=97.0, largest_difference=0.2, images_per_s=images_per_s, megabytes=5.0, n=100)
    return {"eager": EAGER, "onnx": ONNX, "int8": quantised}


def test_int8_is_advised_against_where_it_is_slower_than_the_fastest_other_form() -> None:
    parities = int8(top1=79.0, images_per_s=45.0)
    advice = (
        "int8 computes 45 images/s on this machine and float32 70: it saves space here, not time; use float32 unless "
        "file size matters"
    )
    assert find_faults(parities) == [advice]
    assert describe_parity(parities, [advice]).endswith(f"\n\nnote: {advice}")


def test_int8_is_advised_against_where_it_loses_more_than_a_point() -> None:
    assert find_faults(int8(top1=78.5, images_per_s=90.0)) == [
        "int8 loses 1.50 points of top-1, more than 1: do not use it"
    ]
    assert find_faults(int8(top1=79.0, images_per_s=90.0)) == []


def test_a_form_in_float32_may_not_differ_from_the_network() -> None:
    other = Parity(top1=80.0, agreement=99.0, largest_difference=2e-4, images_per_s=70.0, megabytes=19.0, n=100)
    assert find_faults({"eager": EAGER, "onnx": ONNX}) == []
    assert find_faults({"eager": EAGER, "onnx": other}) == [
        "onnx differs from the network: probabilities by up to 2.0e-04, the class in 1.00 % of the images"
    ]

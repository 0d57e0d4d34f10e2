from rexnet.export.parity import Parity, describe_parity, find_faults

EAGER = Parity(top1=80.0, agreement=100.0, largest_difference=0.0, n=100)
ONNX = Parity(top1=80.0, agreement=100.0, largest_difference=5e-7, n=100)


def test_int8_is_judged_by_its_accuracy_in_the_table() -> None:
    int8 = Parity(top1=78.5, agreement=97.0, largest_difference=0.2, n=100)
    assert find_faults({"eager": EAGER, "onnx": ONNX, "int8": int8}) == []
    assert describe_parity({"eager": EAGER, "int8": int8}).splitlines()[-1].split() == [
        "|", "int8", "|", "78.50", "|", "97.00", "|", "2.0e-01", "|"
    ]  # fmt: skip


def test_a_form_in_float32_may_not_differ_from_the_network() -> None:
    other = Parity(top1=80.0, agreement=99.0, largest_difference=2e-4, n=100)
    assert find_faults({"eager": EAGER, "onnx": ONNX}) == []
    assert find_faults({"eager": EAGER, "onnx": other}) == [
        "onnx differs from the network: probabilities by up to 2.0e-04, the class in 1.00 % of the images"
    ]

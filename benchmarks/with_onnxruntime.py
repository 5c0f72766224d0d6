"""onnxruntime: the network as an ONNX graph."""

import os
from collections.abc import Callable

import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.programs import Array, Program, data, initial

Run = Callable[[int], Array]


def model(program: Program) -> bytes:
    """Return the ONNX file of a network of linear layers with ReLU between."""
    nodes, tensors, x = [], [], "x"
    for i, (weight, bias) in enumerate(initial(program)):
        if i:
            nodes.append(helper.make_node("Relu", [x], [f"relu {i}"]))
            x = f"relu {i}"
        tensors += [numpy_helper.from_array(weight, f"weight {i}"), numpy_helper.from_array(bias, f"bias {i}")]
        nodes.append(helper.make_node("Gemm", [x, f"weight {i}", f"bias {i}"], [f"linear {i}"]))
        x = f"linear {i}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size])
        for name, size in (("x", program.sizes[0]), (x, program.sizes[-1]))
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()


def predict(program: Program) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(model(program), options, providers=["CPUExecutionProvider"])
    x = data(program)[0][: program.batch]

    def run(steps: int) -> Array:
        for _ in range(steps):
            (outputs,) = session.run(None, {"x": x})
        return outputs

    return run

"""Models leave: ONNX, which other programs run (onnx, written with the nodes of onnx_nodes)."""
